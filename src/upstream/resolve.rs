//! Which addresses a server has whose address is a name.

#[cfg(feature = "dns")]
use super::Dns;
use super::ServerAddress;
use crate::connect::Connector;
use portcullis_middleware::BoxError;
use std::{net::SocketAddr, time::Duration};

/// Resolves names by DNS, if that is set, or else as the connector does.
#[derive(Clone)]
pub(super) struct Resolver {
    pub(super) connector: Connector,
    #[cfg(feature = "dns")]
    pub(super) dns: Option<Dns>,
}

/// What was found for a name.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) found: Vec<Found>,
    /// `None` if that is unknown.
    pub(super) valid_for: Option<Duration>,
    /// Why further servers may exist that are unknown.
    pub(super) failure: Option<BoxError>,
}

/// A server that was found for a name, with what an SRV record says about it.
///
/// In the order of addresses, and those that are no backups first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Found {
    pub(super) address: SocketAddr,
    pub(super) is_backup: bool,
    /// `None` for the configured one.
    pub(super) weight: Option<u16>,
}

impl From<SocketAddr> for Found {
    fn from(address: SocketAddr) -> Self {
        Self {
            address,
            weight: None,
            is_backup: false,
        }
    }
}

impl Resolver {
    /// It has no timeout.
    pub(super) async fn resolve(&self, name: &ServerAddress) -> Result<Answer, BoxError> {
        match name {
            ServerAddress::Tcp(target) => {
                #[cfg(feature = "dns")]
                if let (Some(dns), Some(host)) = (&self.dns, target.host_name()) {
                    return dns.addresses(host, target.port().await?).await;
                }
                let addresses = self.connector.resolve(target).await?;
                Ok(Answer {
                    found: addresses.into_iter().map(Found::from).collect(),
                    valid_for: None,
                    failure: None,
                })
            }
            #[cfg(feature = "dns")]
            ServerAddress::Srv(service) => match &self.dns {
                Some(dns) => dns.servers(service).await,
                None => Err("SRV records are resolved by `PoolBuilder::with_dns`".into()),
            },
            #[cfg(unix)]
            ServerAddress::Unix(_) => Err("a Unix domain socket has no name to resolve".into()),
        }
    }
}
