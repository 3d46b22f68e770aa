//! How many connections each client has open, on each listener that limits them.
//!
//! Counted at accept and at the end of a connection only, under a lock per part of the table: requests never come here. A
//! client is an address, or for IPv6 a /64, since every household has 2^64 addresses to come from. Keys are hashed with
//! the process's own secret, so that nobody can choose addresses that all fall together.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::model::ListenerName;

/// Parts of the table: workers that accept at the same time seldom meet.
const PARTS: usize = 16;

/// A client on a listener.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key(ListenerName, u64);

type Part = Mutex<HashMap<Key, usize>>;

/// Open connections per client.
#[derive(Debug, Default)]
pub(super) struct Clients([Part; PARTS]);

impl Clients {
    /// Counts a connection until the seat is dropped, unless the client has `max` already.
    pub(super) fn enter(self: &Arc<Self>, listener: &ListenerName, address: IpAddr, max: usize) -> Option<Seat> {
        let client = client(address);
        let key = Key(listener.clone(), client);
        let mut part = self.part(client);
        let count = part.entry(key.clone()).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        drop(part);
        Some(Seat { clients: Arc::clone(self), key })
    }

    fn part(&self, client: u64) -> MutexGuard<'_, HashMap<Key, usize>> {
        // Spread over all parts, whichever bits differ.
        let at = (client.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60) as usize % PARTS;
        self.0[at].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What stands for a client: all of an IPv4 address, the network of an IPv6 one.
fn client(address: IpAddr) -> u64 {
    match address.to_canonical() {
        // No network of IPv6 begins like this: `::/64` holds loopback, of which there is one.
        IpAddr::V4(address) => u64::from(address.to_bits()) | 1 << 63 | 1 << 32,
        IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
    }
}

/// One connection of a client.
#[derive(Debug)]
pub struct Seat {
    clients: Arc<Clients>,
    key: Key,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut part = self.clients.part(self.key.1);
        if let Some(count) = part.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                part.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    #[test]
    fn a_client_has_so_many_seats_on_each_listener_and_gets_them_back() {
        let clients = Arc::new(Clients::default());
        let (front, other) = (ListenerName::from("front"), ListenerName::from("other"));
        let seats: Vec<_> = (0..3).filter_map(|_| clients.enter(&front, ip("192.0.2.1"), 2)).collect();
        assert_eq!(seats.len(), 2);
        assert!(clients.enter(&other, ip("192.0.2.1"), 2).is_some());
        assert!(clients.enter(&front, ip("192.0.2.2"), 2).is_some());
        assert!(clients.enter(&front, ip("::ffff:192.0.2.1"), 2).is_none(), "the same address in other words");
        drop(seats);
        assert!(clients.enter(&front, ip("192.0.2.1"), 1).is_some());
        assert!(clients.0.iter().all(|part| part.lock().expect("unpoisoned").is_empty()), "nothing is left behind");
    }

    #[test]
    fn a_household_of_ipv6_is_one_client() {
        let clients = Arc::new(Clients::default());
        let front = ListenerName::from("front");
        let _seat = clients.enter(&front, ip("2001:db8:0:1::1"), 1).expect("the first");
        assert!(clients.enter(&front, ip("2001:db8:0:1:ffff::2"), 1).is_none());
        assert!(clients.enter(&front, ip("2001:db8:0:2::1"), 1).is_some());
    }
}
