//! TLS that ends here: certificates, client certificates, tickets.

use crate::{
    config::{
        Certificate, ClientCertificates, Guards, NamePattern, OutdatedCrl, Place, Placed, Problems,
        Refuse, Tls, chain,
    },
    run::days_and_hours,
};
use portcullis::{
    ConnectionInfo,
    connection::CertificateFacts,
    middleware::{
        access::{AclLayer, Verdict},
        guard::Refusal,
        tls::{
            CertStore, CertStoreError, ClientAuth, HandshakeLimits, TicketKeys, TlsLayer,
            TlsProfile, Trust,
            store::{CertStoreProblem, StoredCrl, Watch},
        },
    },
};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// The TLS of one listener or route.
pub(crate) struct Terminated {
    pub(crate) layer: TlsLayer,
    /// Rejects clients whose certificate lacks a name.
    pub(crate) access: Option<AclLayer>,
    /// Kept while the files are watched.
    pub(crate) store: CertStore,
    /// What it was built from.
    pub(crate) settings: Tls,
}

/// What the TLS of a listener keeps over a reload.
#[derive(Clone)]
pub(super) struct TlsState {
    /// Of all routes together, with the number of unfinished handshakes.
    limits: (usize, HandshakeLimits),
    tickets: HashMap<Sessions, TicketKeys>,
}

/// Sessions that may be resumed: those of one route, while it requests the same certificates of clients.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Sessions {
    route: Option<String>,
    client: Option<(bool, PathBuf, Option<PathBuf>)>,
}

impl TlsState {
    /// What `before` has kept where it is still meant, else new limits and keys.
    pub(super) fn of<'a>(
        guards: &Guards,
        routes: impl Iterator<Item = (Option<String>, &'a Tls)>,
        before: Option<&Self>,
    ) -> Self {
        // `"off"` makes it unreachable.
        let max = guards.limits.handshakes().unwrap_or(usize::MAX);
        let limits = match before.map(|before| before.limits.clone()) {
            Some((kept, limits)) if kept == max => limits,
            Some((_, limits)) => limits.with_max_handshakes(max),
            None => HandshakeLimits::new(max),
        };
        let keys = |(route, tls)| {
            let sessions = Sessions::of(route, tls);
            let kept = before.and_then(|before| before.tickets.get(&sessions).cloned());
            (sessions, kept.unwrap_or_else(TicketKeys::random))
        };
        Self {
            limits: (max, limits),
            tickets: routes.map(keys).collect(),
        }
    }
}

impl Sessions {
    fn of(route: Option<String>, tls: &Tls) -> Self {
        let client = tls.client.as_ref().map(|client| {
            let crl = client.crl.as_ref().map(|crl| crl.value.clone());
            (client.required, client.roots.value.clone(), crl)
        });
        Self { route, client }
    }
}

/// `None` if a file cannot be used, which is reported at its place.
pub(super) fn terminate(
    used_by: &str,
    (route, tls): (Option<String>, &Tls),
    guards: &Guards,
    state: &TlsState,
    certificates: &[Certificate],
    problems: &mut Problems,
) -> Option<Terminated> {
    let listed = tls.certificates.iter().map(|name| {
        certificates
            .iter()
            .find(|certificate| certificate.name.value == name.value)
    });
    // An unknown name was reported with the references.
    let listed: Vec<_> = listed.collect::<Option<_>>()?;
    let default = tls.default_certificate();
    let store = store(used_by, &listed, default, &tls.place, problems)?;
    let mut profile = TlsProfile::new(&store)
        .with_alpn(tls.alpn.iter().cloned())
        .with_client_auth(tls.client.as_ref().map_or(ClientAuth::Off, client_auth));
    if tls.tls13_only {
        profile = profile.with_tls13_only();
    }
    let keys = match &tls.ticket_keys {
        Some(file) => Some(TicketKeys::file(&file.value)),
        None => state.tickets.get(&Sessions::of(route, tls)).cloned(),
    };
    if let Some(keys) = keys {
        profile = profile.with_tickets(keys);
    }
    let layer = match profile.build() {
        Ok(layer) => layer,
        Err(error) => {
            report(&error, &client_places(tls), &tls.place, problems);
            return None;
        }
    };
    Some(Terminated {
        // All connections are forwarded.
        layer: layer
            .unbuffered()
            .with_handshake_timeout(guards.timeouts.handshake)
            .with_limits(state.limits.1.clone()),
        access: tls.client.as_ref().and_then(names),
        store,
        settings: tls.clone(),
    })
}

/// Certificates, of which the one named `default` is for clients without a name, and with one that no certificate has.
///
/// `None` if a file cannot be used, which is reported at its place.
pub(super) fn store(
    used_by: &str,
    certificates: &[&Certificate],
    default: Option<&str>,
    otherwise: &Place,
    problems: &mut Problems,
) -> Option<CertStore> {
    let mut builder = CertStore::builder().used_by(used_by);
    for certificate in certificates {
        builder = match &certificate.in_memory {
            Some((chain, key)) => builder.pem(chain.as_bytes(), key.as_bytes()),
            None => builder.pem_files(&certificate.chain.value, &certificate.key.value),
        };
        builder = builder.named(&certificate.name.value);
        if let Some(ocsp) = &certificate.ocsp {
            builder = builder.ocsp(&ocsp.value);
        }
        if default == Some(&certificate.name.value) {
            builder = builder.as_default();
        }
    }
    let built = builder.build();
    let reported = |error| report(&error, &places(certificates), otherwise, problems);
    built.map_err(reported).ok()
}

impl Terminated {
    /// Reads the files again when they change, until the result is dropped.
    pub(super) fn watch(&self) -> Watch {
        self.store.watch()
    }
}

fn client_auth(client: &ClientCertificates) -> ClientAuth {
    let accepts_outdated = client.crl_outdated == OutdatedCrl::Accept;
    let mut trust = Trust::pem_file(&client.roots.value).with_outdated_crls(accepts_outdated);
    if let Some(crl) = &client.crl {
        trust = trust.with_crl_file(&crl.value);
    }
    if client.required {
        ClientAuth::Required(trust)
    } else {
        ClientAuth::Optional(trust)
    }
}

/// Rejects verified certificates without a listed name.
fn names(client: &ClientCertificates) -> Option<AclLayer> {
    let allow = client.allow.clone()?;
    let judge = move |info: &ConnectionInfo| {
        let is_admitted = match info.peer_certificate() {
            Some(facts) => is_listed(&allow, facts.dns_names(), facts.uris()),
            // The handshake has rejected clients without a certificate where one is required. A certificate
            // whose names are damaged has no listed one.
            None => !has_certificate(info),
        };
        if is_admitted {
            Verdict::Admit
        } else {
            Verdict::Deny(NOT_LISTED)
        }
    };
    Some(AclLayer::predicate(judge))
}

/// Whether the client has presented a certificate, which may have no readable facts.
pub(crate) fn has_certificate(info: &ConnectionInfo) -> bool {
    info.tls()
        .is_some_and(|tls| !tls.peer_certificates.is_empty())
}

/// Whether a certificate with these names has one of the listed ones.
pub(crate) fn is_listed<'a>(
    allow: &[NamePattern],
    mut dns: impl Iterator<Item = &'a str>,
    mut uris: impl Iterator<Item = &'a str>,
) -> bool {
    dns.any(|name| allow.iter().any(|pattern| pattern.matches_dns(name)))
        || uris.any(|name| allow.iter().any(|pattern| pattern.matches_uri(name)))
}

/// What is wrong with a revocation list that is out of date.
pub(crate) fn outdated(crl: &StoredCrl, now: SystemTime) -> String {
    let of = |text: Option<String>| text.map(|text| format!(" {text}")).unwrap_or_default();
    let file = of(crl.source.as_ref().map(|path| format!("{path:?}")));
    let issuer = crl.issuer.as_ref().map(|name| name.escape_debug());
    let issuer = of(issuer.map(|name| format!("of \"{name}\"")));
    let since = now.duration_since(crl.next_update).unwrap_or_default();
    let since = days_and_hours(since);
    let effect = match crl.is_enforced {
        true => "clients of its authority are rejected",
        false => "it is used all the same",
    };
    format!(
        "revocation list{file}{issuer} has been out of date for {since}, and {effect} \
         (`tls.client.crl-outdated`)"
    )
}

/// Why a client with this certificate is not admitted, with the names that were compared.
pub(crate) fn not_listed(certificate: Option<&CertificateFacts>) -> String {
    let Some(facts) = certificate else {
        return "its certificate is damaged, so that its names are unknown".into();
    };
    let dns = facts.dns_names().map(|name| format!("dns:{name}"));
    let mut names: Vec<_> = dns
        .chain(facts.uris().map(|name| format!("uri:{name}")))
        .collect();
    if names.is_empty() {
        return "its certificate has neither a DNS name nor a URI".into();
    }
    let others = names.len().saturating_sub(MOST_NAMES);
    names.truncate(MOST_NAMES);
    let others = match others {
        0 => String::new(),
        others => format!(" and {others} more"),
    };
    let names = names.join(", ");
    format!("its certificate has no listed name, only {names}{others}")
}

/// The names of a certificate that a message contains.
const MOST_NAMES: usize = 8;

/// The reason for which a client is rejected whose certificate is not listed.
pub(crate) const NOT_LISTED: &str = "certificate_not_listed";

type Places<'a> = Vec<(&'a Path, String, &'a Place)>;

fn places<'a>(certificates: &[&'a Certificate]) -> Places<'a> {
    let of = |certificate: &&'a Certificate| {
        let words = format!("certificate \"{}\"", certificate.name.value);
        let file = |file: &'a Placed<_>| -> (&'a Path, String, &'a Place) {
            let file: &'a Placed<PathBuf> = file;
            (&*file.value, words.clone(), &file.place)
        };
        let mut places = vec![file(&certificate.chain), file(&certificate.key)];
        places.extend(certificate.ocsp.as_ref().map(file));
        places
    };
    certificates.iter().flat_map(of).collect()
}

fn client_places(tls: &Tls) -> Places<'_> {
    let client = tls.client.iter();
    let files = client.flat_map(|client| std::iter::once(&client.roots).chain(&client.crl));
    files
        .chain(&tls.ticket_keys)
        .map(|file| (&*file.value, "tls".to_owned(), &file.place))
        .collect()
}

/// Reports each problem where its file is named.
fn report(error: &CertStoreError, places: &Places<'_>, otherwise: &Place, problems: &mut Problems) {
    for problem in error.problems() {
        let known = |problem: &CertStoreProblem| {
            let path = problem.path()?;
            places.iter().find(|(known, ..)| *known == path)
        };
        match known(problem) {
            Some((_, words, place)) => {
                problems.error((*place).clone(), format!("{words}: {}", chain(problem)));
            }
            None => problems.error(otherwise.clone(), chain(problem)),
        }
    }
}

pub(super) fn refusal(refuse: Refuse) -> Refusal {
    match refuse {
        Refuse::Close => Refusal::Close,
        Refuse::Reset => Refusal::Reset,
    }
}
