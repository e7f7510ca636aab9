//! Sockets that go from one process to the next, or from one listener of this process to another.
//!
//! Each has the [label] of its holder. A listener gets those with its own label, and else those with its address, so
//! that it may have another name than the one that had them before.

use crate::{admin::is_admin, view::listener_of};
#[cfg(unix)]
use {
    crate::{
        config::{Config, ListenAddress},
        view::parts_of,
    },
    std::{
        collections::{BTreeSet, HashMap},
        os::fd::OwnedFd,
    },
};

/// What the process before hands over.
#[cfg(unix)]
#[derive(Debug, Default)]
pub(crate) struct HandedOver {
    /// By the label of the holder.
    pub(crate) listening: HashMap<String, Vec<OwnedFd>>,
    /// By the name that systemd gave them.
    pub(crate) activated: Vec<(String, OwnedFd)>,
    /// What operators have changed, in JSON.
    pub(crate) changes: Vec<String>,
}

#[cfg(unix)]
impl HandedOver {
    /// Whether `config` has a listener with the name or the address of one of them, or there are none. The admin
    /// interface is not one.
    pub(crate) fn serves(&self, config: &Config) -> bool {
        let mut listeners = self.listening.keys().filter(|it| !is_admin(it)).peekable();
        listeners.peek().is_none()
            || listeners.any(|held| {
                let has_name = config
                    .listeners
                    .iter()
                    .any(|it| it.name.value == listener_of(held));
                let listen = config.listeners.iter().flat_map(|it| &it.listen);
                has_name || { listen }.any(|listen| is_at(held, &listen.value))
            })
    }

    /// The names of the listeners that have them.
    pub(super) fn holders(&self) -> BTreeSet<String> {
        let labels = self.listening.keys().filter(|it| !is_admin(it));
        labels.map(|label| listener_of(label).to_owned()).collect()
    }
}

/// Whether the socket with this label has this address, which is not one that the system chooses.
#[cfg(unix)]
pub(super) fn is_at(label: &str, address: &ListenAddress) -> bool {
    !address.is_any_port() && parts_of(label).1 == address.to_string()
}

/// A socket that goes from its holder to another user, by their labels.
#[derive(Debug)]
#[cfg_attr(not(unix), allow(dead_code, reason = "sockets are not handed over"))]
pub(crate) struct Taken {
    pub(crate) from: String,
    pub(crate) to: String,
}

impl Taken {
    /// The listeners between which it goes, if both are listeners with different names.
    pub(crate) fn renamed(&self) -> Option<(&str, &str)> {
        let (from, to) = (listener_of(&self.from), listener_of(&self.to));
        let are_listeners = !is_admin(&self.from) && !is_admin(&self.to);
        (are_listeners && from != to).then_some((from, to))
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::config::{Problems, Source};

    fn config(listener: &str, listen: &str) -> Config {
        let text = format!(
            "version = 1\n[[listener]]\nname = \"{listener}\"\nlisten = \"{listen}\"\nbackend = \"b\"\n\
             [[backend]]\nname = \"b\"\nservers = \"127.0.0.1:1\"\n"
        );
        Config::parse(&Source::new("/gate.toml", text), &mut Problems::default())
    }

    fn handed_over(label: &str) -> HandedOver {
        HandedOver {
            listening: [(label.to_owned(), Vec::new())].into(),
            ..HandedOver::default()
        }
    }

    #[test]
    fn a_name_or_an_address_in_common_makes_a_successor_and_a_free_port_does_not() {
        for (label, is_successor) in [
            ("a 127.0.0.1:80", true),
            ("z 127.0.0.1:443", true),
            ("a unix:/a.sock", true),
            ("z 127.0.0.1:80", false),
            ("z unix:/a.sock", false),
        ] {
            let serves = handed_over(label).serves(&config("a", "127.0.0.1:443"));
            assert_eq!(serves, is_successor, "{label}");
        }
        let any_port = handed_over("z 127.0.0.1:0");
        assert!(!any_port.serves(&config("a", "127.0.0.1:0")));
        assert!(HandedOver::default().serves(&config("a", "127.0.0.1:443")));
    }

    #[test]
    fn a_listener_that_is_called_admin_is_not_the_admin_interface() {
        let listener = handed_over("admin 127.0.0.1:80");
        assert!(!listener.serves(&config("a", "127.0.0.1:443")));
        assert_eq!(listener.holders(), BTreeSet::from(["admin".to_owned()]));
        let interface = handed_over("[admin] 127.0.0.1:80");
        assert!(interface.serves(&config("a", "127.0.0.1:443")));
        assert!(interface.holders().is_empty());
    }
}
