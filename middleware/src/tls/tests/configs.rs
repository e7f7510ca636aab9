//! Configurations that are chosen by the ClientHello, and handshakes in the middle of a function.

use super::*;
use crate::{
    error::{Elapsed, HandshakeError, find},
    outcome::Outcome,
    testing::over_tcp,
    tls::{Configs, HandshakeConfig, UnrecognizedName},
};
use rustls::{
    server::ClientHello,
    version::{TLS12, TLS13},
};
use std::{collections::HashMap, time::Duration};

/// One configuration per name; clients without a name get the one of "".
struct ByName(HashMap<&'static str, HandshakeConfig>);

impl ByName {
    /// Configurations that differ in their only application protocol.
    fn new(names: &[&'static str]) -> Self {
        let config = |name: &&'static str| {
            let mut config = server_config(provider(), rustls::ALL_VERSIONS);
            config.alpn_protocols = vec![format!("for {name}").into_bytes()];
            (*name, HandshakeConfig::new(Arc::new(config)))
        };
        Self(names.iter().map(config).collect())
    }
}

impl Configs for ByName {
    fn choose(&self, hello: &ClientHello<'_>) -> Result<HandshakeConfig, UnrecognizedName> {
        let name = hello.server_name().unwrap_or_default();
        let found = self.0.get(name).cloned();
        found.ok_or_else(|| UnrecognizedName::of(hello))
    }
}

/// A client that accepts the server's certificate for the name "localhost" only, but sends another one.
fn client_for(version: &'static SupportedProtocolVersion, sni: bool) -> Arc<ClientConfig> {
    let mut config = client_config(provider(), &[version]);
    config.enable_sni = sni;
    config.alpn_protocols = vec![b"for localhost".to_vec(), b"for ".to_vec()];
    Arc::new(config)
}

#[tokio::test]
async fn the_configuration_is_chosen_by_the_name_of_each_client() {
    let layer = TlsLayer::choosing(ByName::new(&["localhost", ""]));
    for version in [&TLS12, &TLS13] {
        for sni in [true, false] {
            let client = client_for(version, sni);
            for resumed in [false, true] {
                let (connection, io) = in_memory();
                let known = info(&connection);
                let served = serve(layer.clone(), connection, echo);
                let talk = async { talk(connect(client.clone(), io).await?, b"hello").await };
                let (served, received) = tokio::join!(served, talk);
                served.unwrap();
                assert_eq!(received.unwrap(), b"hello");
                let tls = known.tls().unwrap();
                let expected = if sni { "for localhost" } else { "for " };
                assert_eq!(tls.alpn_str(), Some(expected));
                assert_eq!(tls.resumed, resumed);
            }
        }
    }
}

#[tokio::test]
async fn a_name_that_is_not_recognized_gets_its_alert_and_fails_the_handshake() {
    let layer = TlsLayer::choosing(ByName::new(&["example.org"]));
    for (sni, name) in [(true, Some("localhost")), (false, None)] {
        let (connection, io) = over_tcp().await;
        let known = info(&connection);
        let serving = serve(layer.clone(), connection, echo);
        let connecting = connect(client_for(&TLS13, sni), io);
        let (served, connected) = tokio::join!(serving, connecting);
        let error = served.unwrap_err();
        assert_eq!(Outcome::of(&known, Some(&*error)), Outcome::HandshakeFailed);
        let unrecognized = find::<UnrecognizedName>(&*error).unwrap();
        assert_eq!(unrecognized.name(), name);
        let alert = connected.err().unwrap();
        let alert = find::<rustls::Error>(&alert).unwrap();
        let expected = rustls::AlertDescription::UnrecognisedName;
        assert_eq!(alert, &rustls::Error::AlertReceived(expected));
    }
}

#[tokio::test]
async fn a_hello_in_pieces_and_data_behind_the_handshake_are_served_by_a_chosen_configuration() {
    let layer = TlsLayer::choosing(ByName::new(&["localhost"]));
    let (connection, io) = in_memory();
    let served = serve(layer, connection, echo);
    let io = failures::Dribbled(io);
    let talk = async { talk(connect(client_for(&TLS13, true), io).await?, b"hello").await };
    let (served, received) = tokio::join!(served, talk);
    served.unwrap();
    assert_eq!(received.unwrap(), b"hello");
}

#[tokio::test]
async fn a_client_without_tls_gets_an_alert_from_a_chosen_configuration_too() {
    for request in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
    ] {
        let layer = TlsLayer::choosing(ByName::new(&["localhost"]));
        let (connection, mut io) = over_tcp().await;
        io.write_all(request).await.unwrap();
        let served = serve(layer, connection, echo);
        let (served, (received, _)) = tokio::join!(served, read_all(io));
        let error = served.unwrap_err();
        assert!(error.is::<HandshakeError>(), "{error}");
        assert_eq!(received.first(), Some(&21), "{request:?}: {error}");
    }
}

#[test]
#[should_panic(expected = "set this in the configurations")]
fn a_setting_of_the_fixed_configuration_is_refused_where_it_would_be_lost() {
    let _ = TlsLayer::choosing(ByName::new(&[])).with_alpn(["h2"]);
}

#[test]
fn a_name_is_escaped_in_the_text_of_the_error() {
    let text = UnrecognizedName(Some("a\nb".into())).to_string();
    assert_eq!(text, r#"no certificate for the requested name "a\nb""#);
}

#[tokio::test]
async fn one_connection_can_be_accepted_in_the_middle_of_a_function() {
    let layer = tls_layer();
    let (connection, io) = over_tcp().await;
    let known = info(&connection);
    let served = async {
        let connection = layer.accept(connection).await?;
        echo(connection).await.map_err(BoxError::from)
    };
    let talk = async { talk(connect(client(), io).await?, b"hello").await };
    let (served, received) = tokio::join!(served, talk);
    served.unwrap();
    assert_eq!(received.unwrap(), b"hello");
    assert_eq!(
        known.tls().unwrap().server_name.as_deref(),
        Some("localhost")
    );
    assert_eq!(layer.handshakes_in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stays_silent_in_the_middle_of_a_function_times_out() {
    let (connection, _silent) = in_memory();
    let layer = tls_layer().with_handshake_timeout(Duration::from_secs(3));
    let error = layer.accept(connection).await.unwrap_err();
    let elapsed = find::<Elapsed>(&*error).unwrap();
    assert_eq!(elapsed.after(), Duration::from_secs(3));
}
