//! The recommended stack serves every kind of service, and each option takes effect.

use crate::support::{Fixture, echo, eventually, paused_scenario, read_to_end, scenario, tls};
use portcullis::{
    Connection, ConnectionInfo,
    connection::Socket,
    middleware::{
        access::{Acl, AclLayer, Verdict},
        error::TimeoutPhase,
        io::EitherIo,
        limit::{
            Bandwidth, BandwidthLayer, ClientIp, ConnectionLimitLayer, KeyedLimitLayer, Rate,
            RateLimitLayer,
        },
        outcome::Outcome,
        peek::{PeekLayer, Protocol},
        proxy_protocol::ProxyProtocolLayer,
        route::{Router, Routes},
        timeout::{ConnectionTimeoutLayer, IoTimeoutLayer},
    },
    service::{ForwardService, HttpService},
    stack::{self, Options, StackIo},
    testing::{Harness, Peer},
};
use std::{convert::Infallible, future::pending, io, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};
use tower::{ServiceBuilder, service_fn};

/// Sends the client's address and whether it has TLS.
async fn tell(mut connection: Connection<StackIo<TcpStream>>) -> io::Result<()> {
    let (peer, tls) = (connection.info().peer().clone(), connection.tls().is_some());
    connection
        .write_all(format!("{peer} {tls}").as_bytes())
        .await?;
    connection.close().await
}

#[test]
fn a_plain_service_is_served_with_the_defaults() {
    scenario(async {
        let fixture = Fixture::serve(stack::recommended(Options::default(), service_fn(echo)));
        let mut client = fixture.connect().await;
        client.write_all(b"hello").await.unwrap();
        let mut received = [0; 5];
        client.read_exact(&mut received).await.unwrap();
        assert_eq!(&received, b"hello");
        drop(client);
        fixture.finish().await;
    });
}

#[test]
fn an_http_service_is_served_over_tls() {
    scenario(async {
        let hello = service_fn(|_: http::Request<_>| async {
            Ok::<_, Infallible>(http::Response::new(String::from("hello")))
        });
        let options = Options::new().with_tls(tls::layer());
        let stack = stack::recommended(options, HttpService::new(hello));
        let fixture = Fixture::serve(stack);
        let mut client = tls::connect(fixture.connect().await).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        client.write_all(request).await.unwrap();
        let response = read_to_end(client).await;
        assert!(response.ends_with("hello"), "{response}");
        fixture.finish().await;
    });
}

#[test]
fn a_client_that_resets_while_the_backend_does_not_answer_frees_its_permit() {
    scenario(async {
        for options in [
            Options::new(),
            Options::new()
                .with_bandwidth(BandwidthLayer::new().with_write(Bandwidth::per_second(10))),
        ] {
            for is_tls in [false, true] {
                let limit = ConnectionLimitLayer::new(1);
                let permits = limit.handle();
                let mut options = options.clone().with_connection_limit(limit);
                if is_tls {
                    options = options.with_tls(tls::layer());
                }
                let backend = service_fn(|_: ConnectionInfo| async {
                    pending::<Result<Connection<Socket<TcpStream>>, io::Error>>().await
                });
                let forward = ForwardService::new(backend).with_connect_timeout(None);
                let fixture = Fixture::serve(stack::recommended(options, forward));
                let client = fixture.connect().await;
                client.set_zero_linger().unwrap();
                let client = match is_tls {
                    true => EitherIo::Left(tls::connect(client).await.unwrap()),
                    false => EitherIo::Right(client),
                };
                fixture.active(1).await;
                drop(client);
                eventually("the permit is released", || permits.active() == 0).await;
                fixture.finish().await;
            }
        }
    });
}

#[test]
fn a_router_chooses_by_the_first_bytes_which_each_route_reads_again() {
    scenario(async {
        let tls_route = ServiceBuilder::new()
            .layer(tls::layer())
            .service(service_fn(echo));
        let routes = Routes::<StackIo<TcpStream>>::new()
            .with_protocol(Protocol::Ssh, service_fn(echo))
            .unwrap()
            .with_name("localhost", tls_route)
            .unwrap();
        let options = Options::new()
            .with_proxy_protocol(ProxyProtocolLayer::new("127.0.0.1".parse().unwrap()))
            .with_peek(PeekLayer::new());
        let stack = stack::recommended(options, Router::new(routes));
        let fixture = Fixture::serve(stack);
        // In one segment with the header, so that the rest of it is a prefix already.
        let mut plain = fixture.connect().await;
        let greeting = b"SSH-2.0-test\r\n";
        let header = b"PROXY TCP4 192.0.2.7 192.0.2.1 40000 80\r\n";
        plain
            .write_all(&[&header[..], greeting].concat())
            .await
            .unwrap();
        let mut received = [0; 14];
        plain.read_exact(&mut received).await.unwrap();
        assert_eq!(&received, greeting);
        let mut secure = fixture.connect().await;
        secure.write_all(header).await.unwrap();
        let mut secure = tls::connect(secure).await.unwrap();
        secure.write_all(b"hello").await.unwrap();
        secure.read_exact(&mut received[..5]).await.unwrap();
        assert_eq!(&received[..5], b"hello");
        drop((plain, secure));
        fixture.finish().await;
    });
}

#[test]
fn guards_see_the_address_of_the_header_and_the_first_list_that_of_the_socket() {
    scenario(async {
        let acl = AclLayer::new(Acl::new().deny("192.0.2.0/24".parse().unwrap()));
        let access = acl.handle();
        let options = Options::new()
            .with_socket_acl(AclLayer::new(
                Acl::new().allow("127.0.0.1".parse().unwrap()),
            ))
            .with_proxy_protocol(ProxyProtocolLayer::new("127.0.0.1".parse().unwrap()))
            .with_client_acl(acl)
            .with_tls(tls::layer());
        let fixture = Fixture::serve(stack::recommended(options, service_fn(tell)));
        let ask = async |client: &str| {
            let mut stream = fixture.connect().await;
            let header = format!("PROXY TCP4 {client} 198.51.100.1 40000 443\r\n");
            stream.write_all(header.as_bytes()).await.unwrap();
            Some(read_to_end(tls::connect(stream).await.ok()?).await)
        };
        assert_eq!(ask("203.0.113.7").await.unwrap(), "203.0.113.7:40000 true");
        assert_eq!(ask("192.0.2.7").await, None);
        assert_eq!(access.refused(), 1);
        access.replace(Acl::new());
        assert_eq!(ask("192.0.2.7").await.unwrap(), "192.0.2.7:40000 true");
        fixture.finish().await;
    });
}

#[test]
fn a_list_of_certificates_is_asked_after_the_handshake() {
    scenario(async {
        let without_alpn = AclLayer::predicate(|info| match info.tls() {
            Some(tls) if tls.alpn_str().is_some() => Verdict::Admit,
            _ => Verdict::Deny("no protocol"),
        });
        let denied = without_alpn.handle();
        let options = Options::new()
            .with_tls(tls::layer().with_alpn(["tell"]))
            .with_certificate_acl(without_alpn);
        let fixture = Fixture::serve(stack::recommended(options, service_fn(tell)));
        let client = tls::connect_with_alpn(fixture.connect().await, &["tell"]).await;
        assert!(read_to_end(client.unwrap()).await.ends_with(" true"));
        let mut client = tls::connect(fixture.connect().await).await.unwrap();
        client.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!(denied.refused(), 1);
        fixture.finish().await;
    });
}

#[test]
fn the_defaults_end_a_connection_that_moves_no_byte_for_five_minutes() {
    paused_scenario(async {
        let harness = Harness::new(stack::recommended(Options::new(), service_fn(echo)));
        let slow = Peer::new()
            .stalls(Duration::from_secs(299))
            .sends("x")
            .waits_for(1)
            .half_closes();
        let slow = harness.play(slow);
        let _silent = harness.play(Peer::new());
        harness.idle().await;
        assert_eq!(slow.written(), b"x");
        let end = harness.finish().await;
        let idle = Outcome::TimedOut(TimeoutPhase::IDLE);
        assert_eq!(end.status.outcomes, [(Outcome::Completed, 1), (idle, 1)]);
    });
}

#[test]
fn limits_and_timeouts_are_those_of_the_options() {
    paused_scenario(async {
        let rate = RateLimitLayer::new((), Rate::per_second(3));
        let per_client = KeyedLimitLayer::new(ClientIp::new(), 1);
        let connections = ConnectionLimitLayer::new(3);
        let handles = (rate.handle(), per_client.handle(), connections.handle());
        let bandwidth = Bandwidth::per_second(10);
        let options = Options::new()
            .with_connection_limit(connections)
            .with_rate_limit(rate)
            .with_keyed_limit(per_client)
            .with_connection_timeout(ConnectionTimeoutLayer::new())
            .with_io_timeout(IoTimeoutLayer::new().with_read_timeout(Duration::from_secs(60)))
            .with_bandwidth(BandwidthLayer::new().with_write(bandwidth));
        let harness = Harness::new(stack::recommended(options, service_fn(echo)));
        let begun = Instant::now();
        let mut client =
            harness.connect_from("192.0.2.1:1".parse::<std::net::SocketAddr>().unwrap());
        client.write_all(&[7; 40]).await.unwrap();
        client.read_exact(&mut [0; 40]).await.unwrap();
        assert!(begun.elapsed() >= Duration::from_secs(3));
        assert_eq!((handles.1.active(), handles.2.active()), (1, 1));
        let mut second =
            harness.connect_from("192.0.2.1:2".parse::<std::net::SocketAddr>().unwrap());
        assert_eq!(second.read(&mut [0]).await.unwrap(), 0);
        assert_eq!((handles.0.refused(), handles.1.refused()), (0, 1));
        harness.idle().await;
        let end = harness.finish().await;
        let timed_out = Outcome::TimedOut(TimeoutPhase::READ);
        assert!(end.status.outcomes.contains(&(timed_out, 1)));
    });
}
