//! The token and the certificate of the admin interface.

use super::tls::{self, TlsState};
use crate::config::{Admin, Certificate, Guards, Problems, Secret};
use portcullis::middleware::{
    access::AclLayer,
    tls::{CertStore, TlsLayer, store::Watch},
};

/// What the admin interface needs from files.
pub(crate) struct AdminParts {
    pub(crate) token: Option<Secret>,
    pub(crate) tls: Option<AdminTls>,
}

pub(crate) struct AdminTls {
    pub(crate) layer: TlsLayer,
    pub(crate) access: Option<AclLayer>,
    pub(crate) store: CertStore,
    pub(crate) _watch: Watch,
}

/// `None` if a file cannot be used, which is reported at its place.
pub(super) fn build(
    admin: &Admin,
    certificates: &[Certificate],
    problems: &mut Problems,
) -> Option<AdminParts> {
    let token = match &admin.token {
        None => None,
        Some(source) => match source.value.load() {
            Ok(token) => Some(token),
            Err(reason) => {
                problems.error(source.place.clone(), format!("admin: {reason}"));
                return None;
            }
        },
    };
    let tls = match &admin.tls {
        None => None,
        Some(tls) => {
            let guards = Guards::default();
            let state = TlsState::of(&guards, [(None, tls)].into_iter(), None);
            let tls = tls::terminate(
                "admin interface",
                (None, tls),
                &guards,
                &state,
                certificates,
                problems,
            )?;
            Some(AdminTls {
                _watch: tls.watch(),
                layer: tls.layer,
                access: tls.access,
                store: tls.store,
            })
        }
    };
    Some(AdminParts { token, tls })
}
