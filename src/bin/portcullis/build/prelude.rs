//! TLS that begins on request.

use super::{
    listener::{Io, boxed, forwarder},
    tls::Terminated,
};
use crate::config::{self, Guards, Placed, Problems};
use portcullis::{
    BoxError, Connection, ConnectionInfo,
    middleware::{
        io::Passthrough,
        prelude::{Greeting, Imap, Pop3, Postgres, Prelude, PreludeLayer, Smtp, Xmpp},
        route,
    },
    service::ForwardService,
    upstream::{Pool, SkipGreeting},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tower::{Service, ServiceBuilder};

/// Forwards to `pool` behind a prelude and TLS.
///
/// The prelude greets the clients of mail servers, so the greeting of the server is discarded.
pub(super) fn behind(
    prelude: &Placed<config::Prelude>,
    guards: &Guards,
    tls: &Terminated,
    pool: &Pool,
    problems: &mut Problems,
) -> route::Route<Io> {
    let layers = Layers { guards, tls };
    let mut host = || {
        host(tls).unwrap_or_else(|| {
            let message = "no certificate has a host name without a wildcard, so clients are greeted by \"localhost\"";
            problems.note(prelude.place.clone(), message);
            "localhost".to_owned()
        })
    };
    let skipping = |greeting| {
        let backend = SkipGreeting::new(pool.clone(), greeting);
        let backend = backend.with_timeout(guards.timeouts.prelude);
        // The pool and that timeout limit the connect.
        forwarder(backend, guards).with_connect_timeout(None)
    };
    let passing = || forwarder(pool.clone(), guards);
    match prelude.value {
        config::Prelude::Postgres => layers.around(Postgres::new(), passing()),
        config::Prelude::Xmpp => layers.around(Xmpp::new(host()), passing()),
        config::Prelude::Smtp => layers.around(Smtp::new(host()), skipping(Greeting::Smtp)),
        config::Prelude::Imap => layers.around(Imap::new(), skipping(Greeting::Imap)),
        config::Prelude::Pop3 => layers.around(Pop3::new(), skipping(Greeting::Pop3)),
    }
}

struct Layers<'a> {
    guards: &'a Guards,
    tls: &'a Terminated,
}

impl Layers<'_> {
    fn around<P, B, BackendIo>(&self, prelude: P, forward: ForwardService<B>) -> route::Route<Io>
    where
        P: Prelude + Send + Sync + 'static,
        B: Service<ConnectionInfo, Response = Connection<BackendIo>, Error: Into<BoxError>>,
        B: Clone + Send + Sync + 'static,
        B::Future: Send,
        BackendIo: AsyncRead + AsyncWrite + Passthrough + Unpin + Send + 'static,
    {
        let prelude = PreludeLayer::new(prelude).with_timeout(self.guards.timeouts.prelude);
        let stack = ServiceBuilder::new()
            .layer(prelude)
            .layer(self.tls.layer.clone())
            .option_layer(self.tls.access.clone())
            .map_err(Into::<BoxError>::into)
            .service(forward);
        boxed(stack)
    }
}

/// The name by which the program introduces itself: the first name of a certificate that is no wildcard.
fn host(tls: &Terminated) -> Option<String> {
    let certificates = tls.store.certificates();
    let mut names = certificates.iter().flat_map(|it| it.facts.dns_names());
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let usable = names.find(|name| (1..=253).contains(&name.len()) && name.bytes().all(is_host));
    usable.map(str::to_owned)
}
