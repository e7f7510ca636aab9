//! Binding to addresses, and the errors with their advice.

use super::*;
use std::{
    error::Error as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

#[cfg(target_os = "linux")]
#[test]
fn a_port_in_time_wait_takes_reuse_address_to_bind() {
    // An address that only this test uses, so that other tests cannot take the port.
    let std_listener = std::net::TcpListener::bind("127.0.0.2:0").unwrap();
    let local = std_listener.local_addr().unwrap();
    let mut client = StdStream::connect(local).unwrap();
    let (server, _) = std_listener.accept().unwrap();
    // The server closes first, so its socket is the one in TIME-WAIT.
    drop((server, std_listener));
    io::Read::read(&mut client, &mut [0]).unwrap();
    drop(client);

    let without = TcpOptions::new().with_reuse_address(false).bind(local);
    assert_eq!(without.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    TcpOptions::new().bind(local).unwrap();
}

/// Linux holds one more connection than the backlog.
#[cfg(target_os = "linux")]
#[test]
fn the_backlog_bounds_how_many_wait() {
    let listener = listen(TcpOptions::new().with_backlog(1));
    let _queued = [connect(&listener), connect(&listener)];
    let one_more = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let late = one_more.connect_timeout(&listener.local.into(), Duration::from_millis(20));
    assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn an_ipv6_wildcard_takes_ipv4_too() {
    if !has_ipv6() {
        return;
    }
    let mut listener = TcpOptions::new().bind("[::]:0").unwrap();
    assert!(!SockRef::from(&listener).only_v6().unwrap());
    let to = (Ipv4Addr::LOCALHOST, listener.local.port());
    let client = StdStream::connect(to).unwrap();

    let (stream, peer) = listener.accept().await.unwrap();
    let mapped = IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped());
    let port = client.local_addr().unwrap().port();
    assert_eq!(peer.ip(), Some((mapped, port).into()));
    // Only the connection knows which address the client connected to.
    let local = listener.connection_local_address(&stream);
    assert_eq!(local.ip(), Some((mapped, to.1).into()));
}

#[tokio::test]
async fn an_ipv6_only_wildcard_leaves_ipv4_to_others() {
    if !has_ipv6() {
        return;
    }
    // The port may already be used for IPv4.
    let (mut v6, mut v4) = (0..20)
        .find_map(|_| {
            let v6 = TcpOptions::new().with_only_v6(true).bind("[::]:0").unwrap();
            let v4 = TcpListener::bind((Ipv4Addr::UNSPECIFIED, v6.local.port())).ok()?;
            Some((v6, v4))
        })
        .expect("binds next to the other");
    assert!(SockRef::from(&v6).only_v6().unwrap());
    let port = v6.local.port();
    let _to_v4 = StdStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    let _to_v6 = StdStream::connect((Ipv6Addr::LOCALHOST, port)).unwrap();
    assert!(v4.accept().await.unwrap().1.ip().unwrap().is_ipv4());
    assert!(v6.accept().await.unwrap().1.ip().unwrap().is_ipv6());
    assert!(v4.accept_now().unwrap().is_none());
    assert!(v6.accept_now().unwrap().is_none());
}

#[test]
fn a_port_in_use_is_named_with_the_way_out() {
    let taken = listen(TcpOptions::new());
    let error = TcpListener::bind(taken.local).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert_eq!(
        (error.address(), error.step()),
        (&*taken.local.to_string(), "bind")
    );
    let text = error.to_string();
    let start = format!("cannot listen on {}: bind failed: ", taken.local);
    assert!(text.starts_with(&start), "{text}");
    assert!(
        text.ends_with("end that program, or choose another port"),
        "{text}"
    );
    assert!(error.source().unwrap().is::<io::Error>());
    assert_eq!(io::Error::from(error).kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn an_unknown_host_is_named_with_the_way_out() {
    let error = TcpListener::bind("no-such-host.invalid:80").unwrap_err();
    let text = error.to_string();
    let start = r#"cannot listen on "no-such-host.invalid:80": resolve failed: "#;
    assert!(text.starts_with(start), "{text}");
    assert!(
        text.ends_with("check the name, or give an IP address"),
        "{text}"
    );
}

#[test]
fn the_address_of_another_machine_is_refused() {
    let error = TcpListener::bind("192.0.2.1:0").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
    let text = error.to_string();
    assert!(
        text.contains("no interface of this machine has this address"),
        "{text}"
    );
}

#[test]
fn what_is_no_address_is_refused_with_the_form_of_one() {
    for bad in ["127.0.0.1:99999", "127.0.0.1", "localhost:http", ""] {
        let error = TcpListener::bind(bad).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(error.step(), "resolve");
        let text = error.to_string();
        assert!(
            text.ends_with("write host:port, with a port from 0 to 65535 (or connect::Target for the name of a service)"),
            "{text}"
        );
    }
    let nothing: &[SocketAddr] = &[];
    assert!(TcpListener::bind(nothing).is_err());
    assert!(TcpOptions::new().bind_all(nothing).is_err());
}

#[cfg(target_os = "linux")]
#[test]
fn a_refused_option_is_named() {
    let never = Keepalive::new().with_time(Duration::ZERO);
    let options = TcpOptions::new().with_keepalive(Some(never));
    let error = options.bind("127.0.0.1:0").unwrap_err();
    assert_eq!(error.step(), "keepalive");
    let text = error.to_string();
    assert!(text.contains("rejects this value of the option"), "{text}");
}

#[cfg(target_os = "linux")]
#[test]
fn bind_takes_the_first_address_that_works_and_bind_all_takes_all_or_none() {
    // An address that only this test uses, so that other tests cannot take the port.
    let port = TcpListener::bind("127.0.0.3:0").unwrap().local;
    let free: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let elsewhere: SocketAddr = "192.0.2.1:0".parse().unwrap();

    let first = TcpListener::bind(&[elsewhere, free][..]).unwrap();
    assert_eq!(first.local.ip(), free.ip());
    let all = TcpOptions::new().bind_all(&[port, free, port][..]).unwrap();
    assert_eq!(all.len(), 2, "the same address twice counts once");
    assert!(all.iter().all(|listener| listener.local.port() != 0));
    drop(all);

    let some = TcpOptions::new().bind_all(&[port, elsewhere][..]);
    assert_eq!(some.unwrap_err().kind(), io::ErrorKind::AddrNotAvailable);
    TcpListener::bind(port).expect("the first one is free again");
}
