//! How a server is chosen among those that can be used.

use super::member::{Member, Now, Reservation};
use portcullis_middleware::ConnectionInfo;
use std::{
    cmp::Ordering::{Equal, Greater, Less},
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

/// How a [`Pool`](super::Pool) distributes connections.
///
/// Each kind skips servers that cannot be used or have [as many connections as
/// allowed](super::Server::with_max_connections).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Balance {
    /// The server with the fewest connections for its weight; the default.
    ///
    /// Servers with equally many take turns. Above 64 servers of equal weights, the better of two random ones is used,
    /// which distributes almost as evenly (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001).
    #[default]
    LeastConnections,
    /// One after the other, in proportion to their weights.
    ///
    /// A server gets its turns spread out, as in nginx ("smooth weighted round robin").
    RoundRobin,
    /// Always the same server for the same client address, in proportion to the weights.
    ///
    /// Only the clients of a server that is removed or cannot be used move to other servers, and only to those, as
    /// rendezvous hashing does (Thaler and Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", 1998).
    /// Several gates with the same servers choose alike. A client whose server is full gets the next one. Ports are
    /// ignored, and clients without an IP address share one server.
    Hash,
    /// The first one in the order of the servers, until it is full.
    First,
}

/// Chooses servers, and remembers what the next choice depends on.
#[derive(Debug, Default)]
pub(super) struct Balancer {
    /// The turns of servers with equally many connections, and the source of random numbers.
    turn: AtomicUsize,
    /// Held from a choice in turn to its reservation.
    round_robin: Mutex<()>,
    /// Whether some servers have another weight than others.
    weights_differ: AtomicBool,
}

/// A chosen server and its connections at that time.
pub(super) type Choice<'a> = (&'a Arc<Member>, usize);

impl Balancer {
    /// Called when the servers have changed.
    pub(super) fn set_members(&self, members: &[Arc<Member>]) {
        let weights = members.iter().map(|member| member.server.weight());
        // Those without a weight are never chosen.
        let mut weights = weights.filter(|weight| *weight > 0);
        let first = weights.next();
        let differ = weights.any(|weight| Some(weight) != first);
        self.weights_differ.store(differ, Ordering::Relaxed);
    }

    /// Reserves a connection to one of the servers that `is_eligible`, which have a weight above zero.
    pub(super) fn reserve(
        &self,
        members: &[Arc<Member>],
        client: u64,
        now: Now,
        is_eligible: impl Fn(&Member) -> bool,
    ) -> Option<Reservation> {
        let turn = || {
            let turn = self.round_robin.lock();
            turn.unwrap_or_else(PoisonError::into_inner)
        };
        // Otherwise another turn could fill the server, which would have paid for nothing.
        let _turn = (now.balance == Balance::RoundRobin).then(turn);
        loop {
            let (member, count) = self.choose(members, client, now, &is_eligible)?;
            let reserved = match now.balance {
                // Once its connections have changed, another one may have fewer.
                Balance::LeastConnections => member.reserve_at(count),
                Balance::RoundRobin | Balance::Hash | Balance::First => member.reserve(),
            };
            if reserved.is_some() {
                return reserved;
            }
        }
    }

    /// Chooses among the servers that `is_eligible`.
    fn choose<'a>(
        &self,
        members: &'a [Arc<Member>],
        client: u64,
        now: Now,
        is_eligible: impl Fn(&Member) -> bool,
    ) -> Option<Choice<'a>> {
        let eligible = || members.iter().filter(|member| is_eligible(member));
        match now.balance {
            Balance::LeastConnections if self.samples(members) => self
                .better_of_two(members, now, &is_eligible)
                .or_else(|| self.least(members, now, is_eligible)),
            Balance::LeastConnections => self.least(members, now, is_eligible),
            Balance::RoundRobin => Self::in_turn(eligible(), now),
            Balance::Hash => eligible()
                .max_by(|a, b| f64::total_cmp(&score(a, client, now), &score(b, client, now)))
                .map(observed),
            Balance::First => eligible().next().map(observed),
        }
    }

    /// Whether looking at two servers is enough. A heavy one among many would rarely be one of them.
    fn samples(&self, members: &[Arc<Member>]) -> bool {
        members.len() > SCANNED && !self.weights_differ.load(Ordering::Relaxed)
    }

    /// The servers of which [`reserve`](Self::reserve) chooses one: the one itself where nothing else matters than the
    /// client and the order.
    pub(super) fn candidates<'a>(
        &self,
        members: &'a [Arc<Member>],
        client: u64,
        now: Now,
        is_eligible: impl Fn(&Member) -> bool,
    ) -> Vec<&'a Arc<Member>> {
        match now.balance {
            Balance::LeastConnections | Balance::RoundRobin => members
                .iter()
                .filter(|member| is_eligible(member))
                .collect(),
            Balance::Hash | Balance::First => {
                let chosen = self.choose(members, client, now, is_eligible);
                chosen.map(|(member, _)| member).into_iter().collect()
            }
        }
    }

    fn least<'a>(
        &self,
        members: &'a [Arc<Member>],
        now: Now,
        is_eligible: impl Fn(&Member) -> bool,
    ) -> Option<Choice<'a>> {
        let eligible = || {
            let eligible = members.iter().filter(|member| is_eligible(member));
            eligible.map(observed)
        };
        let (mut least, mut equal) = (None::<(Choice<'_>, Load)>, 0);
        for choice in eligible() {
            let load = load(&choice, now);
            match least.map_or(Less, |(_, least)| load.cmp(&least)) {
                Less => (least, equal) = (Some((choice, load)), 1),
                Equal => equal += 1,
                Greater => {}
            }
        }
        let (first, least) = least?;
        if equal == 1 {
            return Some(first);
        }
        // Those that are equal take turns, unless their connections have changed meanwhile.
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % equal;
        let mut equal = eligible().filter(|choice| load(choice, now).cmp(&least) == Equal);
        Some(equal.nth(turn).unwrap_or(first))
    }

    fn better_of_two<'a>(
        &self,
        members: &'a [Arc<Member>],
        now: Now,
        is_eligible: impl Fn(&Member) -> bool,
    ) -> Option<Choice<'a>> {
        let random = || {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed);
            let index = mix(turn as u64) % members.len() as u64;
            &members[index as usize]
        };
        let mut eligible = (0..SAMPLES)
            .map(|_| random())
            .filter(|member| is_eligible(member))
            .map(observed);
        let first = eligible.next()?;
        let second = eligible.find(|second| !Arc::ptr_eq(first.0, second.0));
        let better = second.filter(|second| load(second, now) < load(&first, now));
        Some(better.unwrap_or(first))
    }

    /// Each server earns its weight, and the richest pays what all have earned.
    fn in_turn<'a>(
        eligible: impl Iterator<Item = &'a Arc<Member>>,
        now: Now,
    ) -> Option<Choice<'a>> {
        let (mut earned, mut richest) = (0, None::<(&Arc<Member>, i64)>);
        for member in eligible {
            let weight = i64::try_from(member.weight(now)).unwrap_or(i64::MAX);
            let credit = member.state.credit.fetch_add(weight, Ordering::Relaxed) + weight;
            earned += weight;
            if richest.is_none_or(|(_, most)| credit > most) {
                richest = Some((member, credit));
            }
        }
        let (richest, _) = richest?;
        richest.state.credit.fetch_sub(earned, Ordering::Relaxed);
        Some(observed(richest))
    }
}

/// The part of the client that choices depend on.
pub(super) fn hash_of(client: &ConnectionInfo, balance: Balance) -> u64 {
    match (balance, client.peer_addr()) {
        (Balance::Hash, Some(peer)) => match peer.ip().to_canonical() {
            IpAddr::V4(ip) => hash(&ip.octets()),
            IpAddr::V6(ip) => hash(&ip.octets()),
        },
        _ => 0,
    }
}

fn observed(member: &Arc<Member>) -> Choice<'_> {
    (member, member.state.count())
}

/// The connections for each unit of weight with one more, as an order without division.
fn load((member, count): &Choice<'_>, now: Now) -> Load {
    Load {
        connections: *count as u128 + 1,
        weight: member.weight(now).max(1).into(),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Load {
    connections: u128,
    weight: u128,
}

impl Ord for Load {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let this = self.connections * other.weight;
        this.cmp(&(other.connections * self.weight))
    }
}

impl PartialOrd for Load {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The score of a server for a client, by which each server is the highest for its share of all clients.
fn score(member: &Member, client: u64, now: Now) -> f64 {
    // In the open interval from 0 to 1, from the 53 bits that a float holds.
    let random = ((mix(client ^ member.hash) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -(member.weight(now) as f64) / random.ln()
}

/// FNV-1a, with its bits mixed. It is the same in every process and release, unlike the hashes of the standard library.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, fnv))
}

/// A bijection that spreads neighbouring numbers (SplitMix64, Steele et al. 2014).
pub(super) const fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Above it, looking at each server costs more than it gains.
const SCANNED: usize = 64;
/// The random servers that are tried for two that can be used.
const SAMPLES: usize = 8;
