//! Clients that have not shown a secret, where there is one: how many may be connected, and how often one may guess.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Wrong secrets from one address in [`WINDOW`], after which none is looked at until it is over.
const MOST_FAILURES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(1);
/// Addresses that are remembered; beyond it those whose time is over are forgotten, and all others count as one.
const MOST_ADDRESSES: usize = 4096;
const ALL_OTHERS: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// One for a server.
#[derive(Debug, Default)]
pub(crate) struct Strangers {
    connected: AtomicUsize,
    failures: Mutex<HashMap<IpAddr, (Instant, u32)>>,
}

impl Strangers {
    /// Takes a place for a connection; false where all of `most` are taken.
    pub(crate) fn enter(&self, most: usize) -> bool {
        let take = |connected| (connected < most).then_some(connected + 1);
        self.connected
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }

    /// Gives the place back: the connection has ended, or shown a secret.
    pub(crate) fn leave(&self) {
        self.connected.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether a secret from this address is looked at.
    pub(crate) fn may_try(&self, address: IpAddr, now: Instant) -> bool {
        let failures = self.failures.lock();
        let known = failures.get(&client(address));
        let counted = match known {
            None if failures.len() >= MOST_ADDRESSES => failures.get(&ALL_OTHERS),
            known => known,
        };
        counted.is_none_or(|&(since, count)| {
            now.duration_since(since) >= WINDOW || count < MOST_FAILURES
        })
    }

    /// A wrong secret came from this address.
    pub(crate) fn failed(&self, address: IpAddr, now: Instant) {
        let mut failures = self.failures.lock();
        let mut address = client(address);
        if failures.len() >= MOST_ADDRESSES {
            failures.retain(|_, (since, _)| now.duration_since(*since) < WINDOW);
            if failures.len() >= MOST_ADDRESSES && !failures.contains_key(&address) {
                address = ALL_OTHERS;
            }
        }
        let (since, count) = failures.entry(address).or_insert((now, 0));
        if now.duration_since(*since) >= WINDOW {
            (*since, *count) = (now, 0);
        }
        *count += 1;
    }
}

/// What stands for a client: of version 6 the network, in which it may have any address.
fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_guesses_waits_for_the_next_second() {
        let strangers = Strangers::default();
        let (here, there) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let start = Instant::now();
        for _ in 0..MOST_FAILURES {
            assert!(strangers.may_try(here, start));
            strangers.failed(here, start);
        }
        assert!(!strangers.may_try(here, start + WINDOW / 2));
        assert!(strangers.may_try(there, start));
        assert!(strangers.may_try(here, start + WINDOW));
        strangers.failed(here, start + WINDOW);
        assert!(strangers.may_try(here, start + WINDOW));
    }

    #[test]
    fn the_memory_of_addresses_is_bounded() {
        let strangers = Strangers::default();
        let start = Instant::now();
        for i in 0..2 * MOST_ADDRESSES as u32 {
            strangers.failed(IpAddr::from(i.to_be_bytes()), start);
        }
        assert_eq!(strangers.failures.lock().len(), MOST_ADDRESSES + 1);
        strangers.failed(IpAddr::from([127, 0, 0, 1]), start + WINDOW);
        assert_eq!(strangers.failures.lock().len(), 1);
    }

    #[test]
    fn who_has_many_addresses_guesses_no_more_often() {
        let strangers = Strangers::default();
        let start = Instant::now();
        let of_a_network =
            |host: u128| IpAddr::from(((0x2001_0db8_u128 << 96) | host).to_be_bytes());
        for host in 0..u128::from(MOST_FAILURES) {
            assert!(strangers.may_try(of_a_network(host), start));
            strangers.failed(of_a_network(host), start);
        }
        assert!(!strangers.may_try(of_a_network(99), start));
        let mapped = IpAddr::from([0, 0, 0, 0, 0, 0xffff, 0x7f00, 1_u16]);
        for _ in 0..MOST_FAILURES {
            strangers.failed(mapped, start);
        }
        assert!(!strangers.may_try(IpAddr::from([127, 0, 0, 1]), start));
        // Nor where more of them guess than are remembered.
        let address = |i: u32| IpAddr::from((0x0a00_0000 + i).to_be_bytes());
        let tried = (0..20_000)
            .filter(|&i| strangers.may_try(address(i), start))
            .inspect(|&i| strangers.failed(address(i), start))
            .count();
        assert!(tried <= MOST_ADDRESSES + MOST_FAILURES as usize, "{tried}");
    }

    #[test]
    fn places_are_given_back() {
        let strangers = Strangers::default();
        assert!(strangers.enter(1) && !strangers.enter(1));
        strangers.leave();
        assert!(strangers.enter(1));
    }
}
