//! What layers other than `MetricsLayer` count.

use super::{Conn, Recorded, connection};
use crate::{
    access::{AclLayer, Verdict},
    limit::{ClientIp, KeyedLimitLayer, Rate, RateLimitLayer},
    observe::{AlarmKind, AlarmLayer},
};
use ::metrics::with_local_recorder;
use std::net::SocketAddr;
use tower::{BoxError, Layer, Service, service_fn};

/// Serves a connection from `ip` and returns it, still open.
async fn serve<L, S>(layer: &L, ip: &str) -> Result<Conn, BoxError>
where
    L: Layer<
            tower::util::ServiceFn<fn(Conn) -> std::future::Ready<Result<Conn, BoxError>>>,
            Service = S,
        >,
    S: Service<Conn, Response = Conn, Error = BoxError>,
{
    let peer = SocketAddr::new(ip.parse().unwrap(), 4000);
    let info = crate::ConnectionInfo::new(peer, crate::connection::Address::Unknown);
    let connection = crate::Connection::with_info(tokio::io::duplex(1).0, info);
    let keep: fn(Conn) -> _ = |connection| std::future::ready(Ok(connection));
    layer.layer(service_fn(keep)).call(connection).await
}

#[tokio::test]
async fn guards_that_observe_count_what_they_let_through() {
    let recorded = Recorded::default();
    let layer = with_local_recorder(&recorded, || {
        AclLayer::predicate(|_| Verdict::Deny("closed"))
    });
    assert_eq!(recorded.number("observed_total{guard=acl}"), Some(0.0));
    assert!(serve(&layer, "192.0.2.1").await.is_err());
    assert_eq!(recorded.number("observed_total{guard=acl}"), Some(0.0));
    let layer = layer.with_observe(true);
    for _ in 0..3 {
        serve(&layer, "192.0.2.1").await.unwrap();
    }
    assert_eq!(recorded.number("observed_total{guard=acl}"), Some(3.0));
}

#[tokio::test]
async fn tables_show_their_entries_and_count_keys_that_do_not_fit() {
    let recorded = Recorded::default();
    let entries = || recorded.number("table_entries{table=keyed_limit}").unwrap();
    let full = || {
        recorded
            .number("table_full_total{table=keyed_limit}")
            .unwrap()
    };
    let [layer, other] = [(); 2].map(|()| {
        with_local_recorder(&recorded, || {
            KeyedLimitLayer::with_capacity(ClientIp::new(), 9, 2)
        })
    });
    let first = serve(&layer, "192.0.2.1").await.unwrap();
    let again = serve(&layer, "192.0.2.1").await.unwrap();
    let second = serve(&layer, "192.0.2.2").await.unwrap();
    let third = serve(&other, "192.0.2.3").await.unwrap();
    assert_eq!((entries(), full()), (3.0, 0.0));
    assert!(serve(&layer, "192.0.2.4").await.is_err());
    assert_eq!((entries(), full()), (3.0, 1.0));
    drop((first, second));
    assert_eq!(entries(), 2.0);
    drop((again, third));
    assert_eq!(entries(), 0.0);
}

#[tokio::test]
async fn a_table_that_is_dropped_has_no_entries() {
    let recorded = Recorded::default();
    let rate = Rate::per_second(1);
    let layer = with_local_recorder(&recorded, || RateLimitLayer::new(ClientIp::new(), rate));
    for number in 0..5 {
        serve(&layer, &format!("192.0.2.{number}")).await.unwrap();
    }
    let entries = || recorded.number("table_entries{table=rate_limit}");
    assert_eq!(entries(), Some(5.0));
    drop(layer);
    assert_eq!(entries(), Some(0.0));
}

#[tokio::test]
async fn an_alarm_is_counted_when_it_is_raised() {
    let recorded = Recorded::default();
    let layer = with_local_recorder(&recorded, || AlarmLayer::new("web"));
    let layer = layer.with_threshold(AlarmKind::Active, 1);
    let alarms = |kind| recorded.number(&format!("alarms_total{{listener=web,alarm={kind}}}"));
    assert_eq!((alarms("active"), alarms("failed")), (Some(0.0), Some(0.0)));
    let service = service_fn(async |connection: Conn| Ok::<_, BoxError>(connection));
    drop(layer.layer(service).call(connection().0).await.unwrap());
    assert_eq!((alarms("active"), alarms("opened")), (Some(1.0), Some(0.0)));
}
