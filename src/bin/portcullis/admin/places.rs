//! The limit of connections to the admin interface.

use portcullis::{ConnectionInfo, connection::ConnectionId};
use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Connections at the same time.
pub(super) const PLACES: usize = 64;

/// A limit that a client cannot use up by being slow.
///
/// When all places are taken, a new connection gets that of the connection that has been without a request for
/// longest. So a probe is served beside any number of clients that send nothing. If each place has a request that
/// is being served, the new connection is closed.
#[derive(Default)]
pub(super) struct Places(Mutex<VecDeque<Place>>);

struct Place {
    info: ConnectionInfo,
    is_busy: bool,
}

impl Places {
    pub(super) fn enter(&self, info: &ConnectionInfo) {
        let mut places = self.lock();
        if places.len() >= PLACES {
            match places.iter().position(|place| !place.is_busy) {
                Some(idle) => {
                    if let Some(idle) = places.remove(idle) {
                        idle.info.force_close();
                    }
                }
                None => return info.force_close(),
            }
        }
        places.push_back(Place {
            info: info.clone(),
            is_busy: false,
        });
    }

    pub(super) fn leave(&self, id: ConnectionId) {
        self.lock().retain(|place| place.info.id() != id);
    }

    /// Keeps the place of a connection while the result lives.
    pub(super) fn busy(&self, id: ConnectionId) -> Busy<'_> {
        self.set(id, true);
        Busy { places: self, id }
    }

    /// The connection moves to the end, so that those at the front have been idle for longest.
    fn set(&self, id: ConnectionId, is_busy: bool) {
        let mut places = self.lock();
        let found = places.iter().position(|place| place.info.id() == id);
        if let Some(mut place) = found.and_then(|index| places.remove(index)) {
            place.is_busy = is_busy;
            places.push_back(place);
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Place>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) struct Busy<'a> {
    places: &'a Places,
    id: ConnectionId,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.places.set(self.id, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis::connection::Address;

    fn connections(count: usize) -> Vec<ConnectionInfo> {
        let new = || ConnectionInfo::new(Address::Unknown, Address::Unknown);
        (0..count).map(|_| new()).collect()
    }

    #[test]
    fn a_new_connection_gets_the_place_that_was_idle_for_longest() {
        let (places, clients) = (Places::default(), connections(PLACES + 1));
        for client in &clients[..PLACES] {
            places.enter(client);
        }
        let busy = places.busy(clients[0].id());
        drop(places.busy(clients[1].id()));
        places.enter(&clients[PLACES]);
        let closed: Vec<_> = clients.iter().filter(|it| it.is_forced()).collect();
        assert_eq!(closed.len(), 1);
        assert_eq!(closed[0].id(), clients[2].id());
        drop(busy);
    }

    #[test]
    fn a_new_connection_is_closed_if_all_places_are_busy() {
        let (places, clients) = (Places::default(), connections(PLACES + 2));
        for client in &clients[..PLACES] {
            places.enter(client);
        }
        let busy: Vec<_> = clients[..PLACES]
            .iter()
            .map(|it| places.busy(it.id()))
            .collect();
        places.enter(&clients[PLACES]);
        assert!(clients[PLACES].is_forced());
        drop(busy);
        places.leave(clients[0].id());
        places.enter(&clients[PLACES + 1]);
        assert!(!clients[1].is_forced() && !clients[PLACES + 1].is_forced());
    }
}
