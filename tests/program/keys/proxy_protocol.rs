//! `listener.proxy-protocol`: who may and who must send a header.

use super::{Running, greeting};
use crate::gate::{Folder, backend, line};
use tokio::io::AsyncWriteExt;

const PROXY: [u8; 4] = [127, 0, 0, 1];
const CLIENT: [u8; 4] = [127, 0, 0, 2];
const HEADER: &str = "PROXY TCP4 198.51.100.7 192.0.2.1 4000 443\r\n";

#[tokio::test]
async fn headers_are_required_optional_or_data() {
    let keys = [
        "proxy-protocol = { trust = \"127.0.0.1\" }",
        "proxy-protocol = { mode = \"required\", trust = \"127.0.0.1\" }",
        "proxy-protocol = { mode = \"optional\", trust = \"127.0.0.1\" }",
        "proxy-protocol.mode = \"off\"",
    ];
    let mut running = Running::listeners(&keys).await;
    for (number, keys) in keys.into_iter().enumerate() {
        let is_read = !keys.contains("off");
        let mut with = running.connect_to(number).await;
        let text = format!("{HEADER}ping\n");
        with.write_all(text.as_bytes()).await.expect("it is open");
        assert_eq!(greeting(&mut with).await.expect("a greeting"), "one");
        let echoed = line(&mut with).await.expect("an echo");
        let expected = if is_read {
            "ping"
        } else {
            HEADER.trim_end_matches('\n')
        };
        assert_eq!(echoed, expected, "{keys}");
        drop(with);
        let peer = running.ended().await["peer"].to_string();
        assert_eq!(peer.contains("198.51.100.7"), is_read, "{keys}: {peer}");

        let mut without = running.connect_to(number).await;
        without.write_all(b"ping\n").await.expect("it is open");
        let served = greeting(&mut without).await.is_ok();
        let may_lack = keys.contains("optional") || !is_read;
        assert_eq!(served, may_lack, "{keys}");
        drop(without);
        running.ended().await;
    }
}

#[tokio::test]
async fn proxies_are_trusted_by_the_list_and_by_the_file() {
    let folder = Folder::new();
    folder.write("proxies.txt", "127.0.0.1\n");
    let keys = [
        "proxy-protocol.trust = \"127.0.0.1\"",
        "proxy-protocol.trust-file = \"proxies.txt\"",
        "proxy-protocol = { trust = \"127.0.0.2\", trust-file = \"proxies.txt\" }",
    ];
    let backend = format!("servers = \"{}\"", backend("one").await);
    let running = Running::in_folder(folder, "", &keys, &backend).await;
    for (number, client_is_trusted) in [false, false, true].into_iter().enumerate() {
        for (from, is_trusted) in [(PROXY, true), (CLIENT, client_is_trusted)] {
            // One that is not trusted may be refused before it has sent its header.
            let served = async {
                let mut stream = running.connect_from(from, number).await?;
                stream.write_all(HEADER.as_bytes()).await?;
                greeting(&mut stream).await
            };
            let served = served.await.is_ok();
            assert_eq!(served, is_trusted, "{}: {from:?}", keys[number]);
        }
    }
}

#[tokio::test]
async fn clients_that_are_no_proxies_are_refused_or_served_directly() {
    let keys = ["refuse", "direct"].map(|untrusted| {
        format!("proxy-protocol = {{ trust = \"127.0.0.1\", untrusted = \"{untrusted}\" }}")
    });
    let running = Running::listeners(&keys.each_ref().map(|keys| &**keys)).await;
    for (number, is_direct) in [false, true].into_iter().enumerate() {
        assert_eq!(running.serves(CLIENT, number).await, is_direct);
    }
}
