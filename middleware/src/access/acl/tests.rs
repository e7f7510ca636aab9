use super::*;
use crate::{
    BoxError, Connection, ConnectionInfo,
    connection::{Address, ListenerInfo, Socket, UnixAddress},
    error::{Refused, find},
    guard::{GuardFuture, Refusal},
    ip_set::IpSet,
    testing::over_tcp,
};
use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt, DuplexStream},
    task::JoinSet,
};
use tower::{Layer, Service, ServiceExt};

type InMemory = Connection<Socket<DuplexStream>>;

static_assertions::assert_impl_all!(AclLayer: Send, Sync, Clone);
static_assertions::assert_impl_all!(Access<()>: Send, Sync, Clone);
static_assertions::assert_impl_all!(GuardFuture<std::future::Ready<()>>: Send);

fn address(text: &str) -> Address {
    match text {
        "unknown" => Address::Unknown,
        "unix" => Address::Unix(UnixAddress::default()),
        ip => Address::Ip(SocketAddr::new(ip.parse().unwrap(), 4000)),
    }
}

fn set(networks: &str) -> IpSet {
    networks.parse().unwrap()
}

fn connection(peer: &str) -> InMemory {
    let info = ConnectionInfo::new(address(peer), Address::Unknown);
    Connection::with_info(tokio::io::duplex(8).0, info)
}

async fn serve<IO>(layer: &AclLayer, connection: Connection<IO>) -> Result<(), BoxError>
where
    Access<Served>: Service<Connection<IO>, Response = (), Error = BoxError>,
{
    layer.layer(Served).oneshot(connection).await
}

#[derive(Clone)]
struct Served;

impl<IO> Service<Connection<IO>> for Served {
    type Response = ();
    type Error = BoxError;
    type Future = std::future::Ready<Result<(), BoxError>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), BoxError>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Connection<IO>) -> Self::Future {
        std::future::ready(Ok(()))
    }
}

#[track_caller]
fn rule(result: Result<(), BoxError>) -> &'static str {
    let error = result.unwrap_err();
    let refused = find::<Refused>(&*error).unwrap();
    assert_eq!((refused.by(), refused.reason()), ("acl", AclLayer::DENIED));
    find::<Denied>(&*error).unwrap().rule()
}

#[test]
fn deny_wins_and_an_allow_list_rejects_the_rest() {
    use Verdict::{Admit, Deny};
    let open = Acl::new();
    let deny = Acl::new().deny(set("10.66.0.0/16"));
    let allow = Acl::new().allow(set("10.0.0.0/8"));
    let both = allow
        .clone()
        .deny(set("10.66.0.0/16"))
        .allow(set("2001:db8::/32"));
    let nothing = Acl::new().allow(IpSet::default());
    let absent = Deny(Acl::NOT_ON_ALLOW_LIST);
    let listed = Deny(Acl::ON_DENY_LIST);
    let none = Deny(Acl::NO_ADDRESS);
    for (peer, expected) in [
        // open, deny, allow, both, nothing allowed
        ("10.65.255.255", [Admit, Admit, Admit, Admit, absent]),
        ("10.66.0.0", [Admit, listed, Admit, listed, absent]),
        ("10.66.255.255", [Admit, listed, Admit, listed, absent]),
        ("10.67.0.0", [Admit, Admit, Admit, Admit, absent]),
        ("11.0.0.0", [Admit, Admit, absent, absent, absent]),
        ("::ffff:10.66.0.1", [Admit, listed, Admit, listed, absent]),
        ("::ffff:10.67.0.1", [Admit, Admit, Admit, Admit, absent]),
        ("2001:db8::1", [Admit, Admit, absent, Admit, absent]),
        ("unknown", [Admit, Admit, none, none, none]),
        ("unix", [Admit, Admit, none, none, none]),
    ] {
        let lists = [&open, &deny, &allow, &both, &nothing];
        assert_eq!(
            lists.map(|list| list.judge(&address(peer))),
            expected,
            "{peer}"
        );
    }
    let local = nothing.with_unix_sockets();
    assert_eq!(local.judge(&address("unix")), Admit);
    assert_eq!(local.judge(&address("unknown")), none);
}

#[tokio::test]
async fn the_error_names_the_rule() {
    let layer = AclLayer::new(Acl::new().deny(set("192.0.2.0/24")));
    serve(&layer, connection("192.0.3.0")).await.unwrap();
    let result = serve(&layer, connection("192.0.2.255")).await;
    assert_eq!(rule(result), Acl::ON_DENY_LIST);
    assert_eq!(layer.handle().refused(), 1);
}

#[tokio::test]
async fn the_client_is_judged_by_its_address_at_the_time_of_the_call() {
    let client = AclLayer::new(Acl::new().deny(set("198.51.100.0/24")));
    let socket = client.clone().on(Subject::Socket);
    let behind_proxy = || {
        let connection = connection("192.0.2.1");
        connection
            .info()
            .set_effective(address("198.51.100.7"), Address::Unknown);
        connection
    };
    assert_eq!(
        rule(serve(&client, behind_proxy()).await),
        Acl::ON_DENY_LIST
    );
    serve(&socket, behind_proxy()).await.unwrap();
    let proxies = AclLayer::new(Acl::new().allow(set("192.0.2.1"))).on(Subject::Socket);
    serve(&proxies, behind_proxy()).await.unwrap();
    let result = serve(&proxies, connection("198.51.100.7")).await;
    assert_eq!(rule(result), Acl::NOT_ON_ALLOW_LIST);
}

#[tokio::test]
async fn a_predicate_judges_what_the_list_admits_and_all_must_agree() {
    let on_admin = |info: &ConnectionInfo| match info.listener() {
        Some("admin") => Verdict::Admit,
        _ => Verdict::Deny("only through the admin port"),
    };
    let is_open = Arc::new(AtomicBool::new(true));
    let open = is_open.clone();
    let layer = AclLayer::predicate(on_admin).with_predicate(move |_| {
        if open.load(Ordering::Relaxed) {
            Verdict::Admit
        } else {
            Verdict::Deny("closed")
        }
    });
    let admin = || {
        let listener = Arc::new(ListenerInfo::new().with_name("admin"));
        let info = ConnectionInfo::from_listener(listener, address("192.0.2.1"), Address::Unknown);
        Connection::with_info(tokio::io::duplex(8).0, info)
    };
    serve(&layer, admin()).await.unwrap();
    let result = serve(&layer, connection("192.0.2.1")).await;
    assert_eq!(rule(result), "only through the admin port");
    is_open.store(false, Ordering::Relaxed);
    assert_eq!(rule(serve(&layer, admin()).await), "closed");
    layer.handle().replace(Acl::new().deny(set("192.0.2.1")));
    assert_eq!(rule(serve(&layer, admin()).await), Acl::ON_DENY_LIST);
}

#[tokio::test]
async fn a_replaced_list_applies_to_further_connections_and_judges_the_open_ones() {
    let layer = AclLayer::new(Acl::new());
    let handle = layer.handle();
    let peers = ["10.0.0.1", "10.66.0.1", "10.66.0.2", "unknown"];
    let open = peers.map(|peer| connection(peer).info().clone());
    assert!(open.iter().all(|info| handle.judge(info) == Verdict::Admit));
    let service = layer.layer(Served);
    service
        .clone()
        .oneshot(connection("10.66.0.1"))
        .await
        .unwrap();
    handle.replace(Acl::new().deny(set("10.66.0.0/16")));
    let rejected = open
        .iter()
        .filter(|info| handle.judge(info) != Verdict::Admit);
    let rejected: Vec<_> = rejected.map(|info| info.peer().clone()).collect();
    assert_eq!(rejected, [address("10.66.0.1"), address("10.66.0.2")]);
    assert_eq!(
        rule(service.oneshot(connection("10.66.0.1")).await),
        Acl::ON_DENY_LIST
    );
    let previous = handle.replace(Acl::new());
    assert_eq!(
        previous.judge(&address("10.66.0.1")),
        Verdict::Deny(Acl::ON_DENY_LIST)
    );
    assert_eq!((handle.refused(), handle.observed()), (1, 0));
}

#[tokio::test]
async fn a_guard_that_observes_counts_and_admits() {
    let layer = AclLayer::new(Acl::new().allow(IpSet::default())).with_observe(true);
    let handle = layer.handle();
    serve(&layer, connection("10.0.0.1")).await.unwrap();
    assert_eq!((handle.refused(), handle.observed()), (0, 1));
}

#[tokio::test]
async fn a_rejected_client_sees_the_chosen_refusal() {
    let acl = || Acl::new().deny(set("127.0.0.1"));
    let reset = AclLayer::new(acl()).with_refusal(Refusal::Reset);
    let (connection, mut client) = over_tcp().await;
    rule(serve(&reset, connection).await);
    let error = client.read(&mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    let answer = AclLayer::new(acl()).with_refusal(Refusal::answer("go away\n"));
    let (connection, mut client) = over_tcp().await;
    let mut received = String::new();
    let (result, read) = tokio::join!(
        serve(&answer, connection),
        client.read_to_string(&mut received)
    );
    rule(result);
    read.unwrap();
    assert_eq!(received, "go away\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_list_is_replaced_while_others_judge() {
    let (even, odd) = (
        Acl::new().deny(set("10.0.0.0")),
        Acl::new().deny(set("10.0.0.1")),
    );
    let layer = AclLayer::new(even.clone());
    let handle = layer.handle();
    let mut tasks = JoinSet::new();
    for _ in 0..4 {
        let service = layer.layer(Served);
        tasks.spawn(async move {
            for _ in 0..500 {
                // Each is denied by exactly one of the two lists, and a third by neither.
                service
                    .clone()
                    .oneshot(connection("10.0.0.2"))
                    .await
                    .unwrap();
                let results = [
                    service.clone().oneshot(connection("10.0.0.0")).await,
                    service.clone().oneshot(connection("10.0.0.1")).await,
                ];
                for result in results.into_iter().filter(Result::is_err) {
                    assert_eq!(rule(result), Acl::ON_DENY_LIST);
                }
            }
        });
    }
    for round in 0..1000 {
        handle.replace(if round % 2 == 0 {
            odd.clone()
        } else {
            even.clone()
        });
        tokio::task::yield_now().await;
    }
    tasks.join_all().await;
    assert!(handle.refused() > 0);
}
