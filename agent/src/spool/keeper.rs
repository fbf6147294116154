//! The thread that alone touches the disk, so that a slow one holds up neither the drain nor the uplink.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use procscope_startup::{Failure, Result};
use tokio::sync::oneshot;

use super::{Batch, SLOW, Spool, Stats, disk::Disk};
use crate::{queue::Frozen, uplink::Outbox};

/// Snapshots that may wait for the disk, and their bytes.
const WRITE_LEN_MAX: usize = 64;
const WRITE_BYTES_MAX: usize = 8 << 20;
/// How long the thread sleeps at most: segments grow too old even when nothing is written.
const SLEEP_MAX: Duration = Duration::from_secs(20);

/// An answer to `Desk::backlog`.
pub type Answer = io::Result<Option<Batch>>;

/// What the others ask of the thread.
#[derive(Debug, Default)]
struct Asked {
    write: VecDeque<Arc<Frozen>>,
    write_bytes: usize,
    /// At most one for each epoch, and there are at most two on the way.
    stored: Vec<(u64, u64)>,
    set_aside: Vec<(u64, u64)>,
    rewind: bool,
    backlog: Option<oneshot::Sender<Answer>>,
    stop: bool,
}

impl Asked {
    fn is_nothing(&self) -> bool {
        self.write.is_empty()
            && self.stored.is_empty()
            && self.set_aside.is_empty()
            && !self.rewind
            && self.backlog.is_none()
            && !self.stop
    }
}

/// Where the others leave what they ask.
#[derive(Debug, Default)]
pub struct Desk {
    asked: Mutex<Asked>,
    changed: Condvar,
    stats: Mutex<Stats>,
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Asked> {
        // Nothing in here ends half-way.
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask<T>(&self, action: impl FnOnce(&mut Asked) -> T) -> T {
        let result = action(&mut self.lock());
        self.changed.notify_one();
        result
    }

    /// A snapshot is to be written.
    ///
    /// # Errors
    /// `SLOW` when too many wait for the disk already.
    pub fn write(&self, frozen: &Arc<Frozen>) -> std::result::Result<(), &'static str> {
        self.ask(|asked| {
            if asked.write.len() >= WRITE_LEN_MAX || asked.write_bytes > WRITE_BYTES_MAX {
                return Err(SLOW);
            }
            asked.write_bytes += frozen.request.snapshot.len();
            asked.write.push_back(Arc::clone(frozen));
            Ok(())
        })
    }

    /// All that is left is to be written; whoever asks holds it in memory anyway.
    pub fn write_last(&self, frozen: Vec<Arc<Frozen>>) {
        self.ask(|asked| asked.write.extend(frozen));
    }

    /// The collector has stored an epoch that has ended up to and with `seq`.
    pub fn stored(&self, epoch: u64, seq: u64) {
        self.ask(
            |asked| match asked.stored.iter_mut().find(|(known, _)| *known == epoch) {
                Some((_, known)) => *known = seq.max(*known),
                None => asked.stored.push((epoch, seq)),
            },
        );
    }

    /// The collector refuses a snapshot of an epoch that has ended for good.
    pub fn set_aside(&self, epoch: u64, seq: u64) {
        self.ask(|asked| asked.set_aside.push((epoch, seq)));
    }

    /// The stream of the backlog has ended.
    pub fn rewind(&self) {
        self.ask(|asked| asked.rewind = true);
    }

    /// Asks for the next snapshots of the backlog.
    #[must_use]
    pub fn backlog(&self) -> oneshot::Receiver<Answer> {
        let (answer, receiver) = oneshot::channel();
        self.ask(|asked| asked.backlog = Some(answer));
        receiver
    }

    /// The thread is to end, when all is written that waits.
    pub fn stop(&self) {
        self.ask(|asked| asked.stop = true);
    }

    /// What was asked of the disk so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, until: Instant) -> Asked {
        let mut asked = self.lock();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if !asked.is_nothing() || left.is_zero() {
                return std::mem::take(&mut *asked);
            }
            asked = match self.changed.wait_timeout(asked, left) {
                Ok((asked, _)) => asked,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }
}

/// Starts the thread.
///
/// # Errors
/// Exit code 1 when it cannot be started.
pub fn start<D>(spool: Spool<D>, desk: Arc<Desk>, outbox: Arc<Outbox>) -> Result<JoinHandle<()>>
where
    D: Disk + Send + 'static,
    D::File: Send,
{
    thread::Builder::new()
        .name("spool".to_owned())
        .spawn(move || {
            crate::privileges::give_up(None);
            keep(spool, &desk, &outbox);
        })
        .map_err(|error| Failure::failed(format_args!("could not start a thread: {error}")))
}

fn keep<D: Disk>(mut spool: Spool<D>, desk: &Desk, outbox: &Outbox) {
    loop {
        let latest = Instant::now() + SLEEP_MAX;
        let asked = desk.wait(spool.due().map_or(latest, |due| due.min(latest)));
        let (epoch, durable, memory_from) = outbox.progress();
        spool.progress(epoch, durable, memory_from);
        for (epoch, seq) in asked.stored {
            spool.stored(epoch, seq);
        }
        let mut all_written = !asked.write.is_empty();
        for frozen in asked.write {
            let outcome = spool.append(&frozen, Instant::now());
            all_written &= outcome.is_ok();
            outbox.on_disk(&frozen, outcome);
            outbox.evicted(spool.take_evicted());
        }
        if all_written {
            spool.moved();
        }
        for (epoch, seq) in asked.set_aside {
            spool.set_aside(epoch, seq, crate::uplink::POISON);
        }
        if asked.rewind {
            spool.rewind();
        }
        if let Some(answer) = asked.backlog {
            // Whoever asked may have gone; then the answer is read once more after `rewind`.
            drop(answer.send(spool.backlog(Instant::now())));
        }
        spool.tick(Instant::now());
        if asked.stop {
            let (epoch, durable, memory_from) = outbox.progress();
            spool.progress(epoch, durable, memory_from);
            spool.end(Instant::now());
        }
        outbox.evicted(spool.take_evicted());
        let losses = spool.take_losses();
        if !losses.is_empty() {
            outbox.lost(&losses);
        }
        *desk.stats.lock().unwrap_or_else(PoisonError::into_inner) = spool.stats();
        if asked.stop {
            return;
        }
    }
}
