//! How much one agent may send, and how many streams one credential may open.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use uuid::Uuid;

/// Streams of one credential that is one agent's: what it measures, its backlog, and as many that are being replaced.
const STREAMS_OF_ONE: usize = 4;

/// Agents whose rates are kept: twice as many as may be connected. Those who have rested are forgotten first.
const AGENTS_MAX: usize = 20_000;

/// What one agent may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Snapshots a second. An agent measures at most ten and brings a backlog some twenty times as fast.
    pub snapshots: u32,
    /// Bytes a second.
    pub bytes: u32,
}

impl Default for Rate {
    fn default() -> Self {
        Self {
            snapshots: 1_000,
            bytes: 64 << 20,
        }
    }
}

/// A bucket: full after a second of rest, and in debt until what was taken is earned.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    snapshots: f64,
    bytes: f64,
    at: Instant,
}

impl Bucket {
    fn full(rate: Rate, now: Instant) -> Self {
        Self {
            snapshots: f64::from(rate.snapshots),
            bytes: f64::from(rate.bytes),
            at: now,
        }
    }

    fn fill(&mut self, rate: Rate, now: Instant) {
        let seconds = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        let full = Self::full(rate, now);
        self.snapshots = (self.snapshots + seconds * full.snapshots).min(full.snapshots);
        self.bytes = (self.bytes + seconds * full.bytes).min(full.bytes);
    }

    /// Takes one snapshot of so many bytes; how long its sender has to wait before the next is read.
    fn take(&mut self, rate: Rate, bytes: u32, now: Instant) -> Duration {
        self.fill(rate, now);
        self.snapshots -= 1.0;
        self.bytes -= f64::from(bytes);
        let debt = (-self.snapshots / f64::from(rate.snapshots)).max(-self.bytes / f64::from(rate.bytes));
        Duration::try_from_secs_f64(debt.max(0.0)).unwrap_or_default()
    }
}

/// The rates of all agents, and the streams of all credentials.
#[derive(Debug)]
pub struct Limits {
    rate: Rate,
    buckets: Mutex<HashMap<Uuid, Bucket>>,
    streams: Arc<Mutex<HashMap<Arc<str>, usize>>>,
}

/// A stream of a credential, until it ends.
#[derive(Debug)]
pub struct OpenStream {
    name: Arc<str>,
    streams: Arc<Mutex<HashMap<Arc<str>, usize>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Limits {
    /// Limits with this rate for each agent.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self {
            rate,
            buckets: Mutex::default(),
            streams: Arc::default(),
        }
    }

    /// Notes a snapshot of an agent; how long to wait before its next is read. Not reading is what slows it down,
    /// by HTTP/2's own windows, and costs it nothing.
    pub fn sent(&self, agent_id: Uuid, bytes: usize, now: Instant) -> Duration {
        let mut buckets = lock(&self.buckets);
        if buckets.len() >= AGENTS_MAX && !buckets.contains_key(&agent_id) {
            buckets
                .retain(|_agent, bucket| now.saturating_duration_since(bucket.at) < Duration::from_secs(2));
            if buckets.len() >= AGENTS_MAX {
                return Duration::from_secs(1);
            }
        }
        let bucket = buckets
            .entry(agent_id)
            .or_insert_with(|| Bucket::full(self.rate, now));
        bucket.take(self.rate, u32::try_from(bytes).unwrap_or(u32::MAX), now)
    }

    /// Opens a stream for the credential of one agent.
    ///
    /// # Errors
    /// The bound, when it is reached.
    pub fn open(&self, name: &Arc<str>) -> Result<OpenStream, usize> {
        let mut streams = lock(&self.streams);
        let open = streams.entry(Arc::clone(name)).or_default();
        if *open >= STREAMS_OF_ONE {
            return Err(STREAMS_OF_ONE);
        }
        *open += 1;
        Ok(OpenStream {
            name: Arc::clone(name),
            streams: Arc::clone(&self.streams),
        })
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let mut streams = lock(&self.streams);
        if let Some(open) = streams.get_mut(&self.name) {
            *open -= 1;
            if *open == 0 {
                streams.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        snapshots: 100,
        bytes: 1_000_000,
    };

    #[test]
    fn whoever_keeps_to_the_rate_never_waits_and_a_flood_is_held_to_it() {
        let limits = Limits::new(RATE);
        let (id, start) = (Uuid::from_bytes([1; 16]), Instant::now());
        for n in 0..1_000_u32 {
            let at = start + Duration::from_millis(10) * n;
            assert_eq!(limits.sent(id, 9_000, at), Duration::ZERO, "{n}");
        }
        // A second that was saved is free; after that each waits for its turn, and the sum is the rate.
        let flood = Uuid::from_bytes([2; 16]);
        let mut now = start;
        for _snapshot in 0..1_100 {
            now += limits.sent(flood, 10, now);
        }
        let took = now - start;
        assert!((9.9..10.1).contains(&took.as_secs_f64()), "{took:?}");
    }

    #[test]
    fn bytes_count_as_snapshots_do() {
        let limits = Limits::new(RATE);
        let (id, start) = (Uuid::from_bytes([1; 16]), Instant::now());
        assert_eq!(limits.sent(id, 1_000_000, start), Duration::ZERO);
        assert_eq!(limits.sent(id, 2_000_000, start), Duration::from_secs(2));
    }

    #[test]
    fn agents_without_number_do_not_fill_the_memory() {
        let limits = Limits::new(RATE);
        let start = Instant::now();
        let id = |n: usize| Uuid::from_u64_pair(1, u64::try_from(n).unwrap());
        for n in 0..AGENTS_MAX {
            limits.sent(id(n), 1, start);
        }
        assert!(limits.sent(id(AGENTS_MAX), 1, start) > Duration::ZERO);
        assert_eq!(
            limits.sent(id(AGENTS_MAX), 1, start + Duration::from_secs(3)),
            Duration::ZERO
        );
        assert_eq!(lock(&limits.buckets).len(), 1);
    }

    #[test]
    fn streams_of_one_credential_are_few_and_come_back() {
        let limits = Limits::new(RATE);
        let (one, two): (Arc<str>, Arc<str>) = ("one".into(), "two".into());
        let mut open: Vec<_> = (0..STREAMS_OF_ONE).map(|_| limits.open(&one).unwrap()).collect();
        assert_eq!(limits.open(&one).unwrap_err(), STREAMS_OF_ONE);
        assert!(limits.open(&two).is_ok());
        open.pop();
        assert!(limits.open(&one).is_ok());
        drop(open);
        assert!(lock(&limits.streams).is_empty());
    }
}
