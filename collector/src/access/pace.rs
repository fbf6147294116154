//! How fast one client may ask over HTTP.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{Caller, door::site};

/// Requests a second, over time: a page of many charts asks for some ten, a fleet's scripts for a hundred.
const PER_SECOND: u32 = 250;

/// Requests at once after a rest.
const BURST: u32 = 500;

/// Clients whose pace is known. Those who have rested are forgotten first; when all are busy, new ones share one pace.
const CLIENTS_MAX: usize = 10_000;

/// Who asks: by what was shown, else from where.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Client {
    Named(std::sync::Arc<str>),
    At(IpAddr),
    /// All for whom there is no room.
    Others,
}

/// The pace of all clients: when each would have earned again what it has asked.
#[derive(Debug, Default)]
pub struct Pace {
    due: Mutex<HashMap<Client, Instant>>,
}

impl Pace {
    /// Notes a request.
    ///
    /// # Errors
    /// How long to wait before the next.
    pub fn asked(&self, caller: &Caller, from: Option<IpAddr>, now: Instant) -> Result<(), Duration> {
        let client = match (&*caller.name, from) {
            ("", Some(address)) => Client::At(site(address)),
            ("", None) => Client::Others,
            _ => Client::Named(std::sync::Arc::clone(&caller.name)),
        };
        self.take(client, now)
    }

    fn take(&self, mut client: Client, now: Instant) -> Result<(), Duration> {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        if due.len() >= CLIENTS_MAX && !due.contains_key(&client) {
            due.retain(|_client, due| *due > now);
            if due.len() >= CLIENTS_MAX {
                client = Client::Others;
            }
        }
        let one = Duration::from_secs(1) / PER_SECOND;
        let at = due.entry(client).or_insert(now);
        let next = (*at).max(now) + one;
        let ahead = next.saturating_duration_since(now);
        if let Some(wait) = ahead.checked_sub(one * BURST)
            && !wait.is_zero()
        {
            return Err(wait);
        }
        *at = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_may_burst_then_waits_and_holds_nobody_else_up() {
        let pace = Pace::default();
        let now = Instant::now();
        let (greedy, other) = (Client::At([1, 1, 1, 1].into()), Client::At([2, 2, 2, 2].into()));
        for _ in 0..BURST {
            pace.take(greedy.clone(), now).unwrap();
        }
        let wait = pace.take(greedy.clone(), now).unwrap_err();
        assert_eq!(wait, Duration::from_secs(1) / PER_SECOND);
        pace.take(other, now).unwrap();
        pace.take(greedy.clone(), now + wait).unwrap();
        // Over a second of steady asking, as many as the pace allows.
        let good = (0..10_000u32).filter(|at| {
            let now = now + wait + Duration::from_micros(u64::from(*at) * 100);
            pace.take(greedy.clone(), now).is_ok()
        });
        let good = u32::try_from(good.count()).unwrap();
        assert!((PER_SECOND - 2..=PER_SECOND).contains(&good), "{good}");
    }

    #[test]
    fn the_table_of_clients_has_an_end() {
        let pace = Pace::default();
        let now = Instant::now();
        let client = |number: u32| Client::At(std::net::Ipv4Addr::from(number).into());
        for number in 0..20_000 {
            // All beyond the bound share one pace.
            let _shared = pace.take(client(number), now);
        }
        assert_eq!(pace.due.lock().unwrap().len(), CLIENTS_MAX + 1);
        assert!(pace.take(client(30_000), now).is_err());
        pace.take(client(30_000), now + Duration::from_mins(1)).unwrap();
        assert_eq!(pace.due.lock().unwrap().len(), 1, "those who rest are forgotten");
    }

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        let of = |text: &str| site(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
    }
}
