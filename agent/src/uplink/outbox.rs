//! What the drain, the uplink and the spool share: the queue, and the way to the disk.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use procscope_proto::v1;
use tokio::sync::Notify;

use crate::{
    queue::{Frozen, Queue},
    rows,
    spool::{EVICTED, GaveWay, Stats, keeper::Desk},
};

/// The queue behind a lock; whoever changes it wakes the uplink.
#[derive(Debug)]
pub struct Outbox {
    queue: Mutex<Queue>,
    changed: Notify,
    desk: Option<Arc<Desk>>,
    connected: AtomicBool,
    connected_now: Notify,
}

impl Outbox {
    /// Around an empty queue; `desk` when there is a spool.
    #[must_use]
    pub fn new(queue: Queue, desk: Option<Arc<Desk>>) -> Self {
        Self {
            queue: Mutex::new(queue),
            changed: Notify::new(),
            desk,
            connected: AtomicBool::new(false),
            connected_now: Notify::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Queue> {
        // A panic while the queue was held leaves it whole: each of its methods ends in a good state.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// States what was lost in a snapshot, freezes it, and puts it on its way to the disk and the collector.
    pub fn push(&self, snapshot: &mut rows::Frozen<'_>) {
        let mut queue = self.lock();
        for (reason, count) in queue.take_losses() {
            snapshot.head.losses.push(v1::Loss {
                reason: reason.to_owned(),
                count,
            });
        }
        if let Some(cost) = &mut snapshot.head.agent_cost {
            let here = u64::try_from(queue.len()).unwrap_or(u64::MAX);
            cost.queue_len = here.saturating_add(self.stats().backlog);
        }
        let frozen = queue.push(&snapshot.head, snapshot);
        self.write(&mut queue, &frozen);
        drop(queue);
        self.changed.notify_one();
    }

    /// Under the lock of the queue: the disk has to see snapshots in their order.
    fn write(&self, queue: &mut Queue, frozen: &Arc<Frozen>) {
        if let Some(desk) = &self.desk
            && let Err(reason) = desk.write(frozen)
        {
            queue.on_disk(frozen, Err(reason));
        }
    }

    /// Begins a new life when too much of this one waits, or, `once` that was done, when some of it only the disk
    /// holds; whether it did.
    pub(super) fn overtake(&self, once: bool) -> bool {
        let mut queue = self.lock();
        if !(queue.is_spilled() || (!once && queue.is_behind())) {
            return false;
        }
        for frozen in queue.overtake(crate::new_epoch()) {
            self.write(&mut queue, &frozen);
        }
        true
    }

    /// The uplink has ended, and soon the agent does: what memory alone holds begins a life of its own, for which the
    /// disk is asked once more.
    pub fn save(&self) {
        let mut queue = self.lock();
        if let Some(desk) = &self.desk
            && queue.held_alone() > 0
        {
            desk.write_last(queue.overtake(crate::new_epoch()));
        }
    }

    /// Snapshots that are gone when the agent ends now.
    #[must_use]
    pub fn held_alone(&self) -> usize {
        self.lock().held_alone()
    }

    /// What the disk did with a snapshot.
    pub fn on_disk(&self, frozen: &Frozen, outcome: Result<(), &'static str>) {
        self.lock().on_disk(frozen, outcome);
    }

    /// The life that is measured now, how far it is stored, and from which number on memory holds it.
    #[must_use]
    pub fn progress(&self) -> (u64, u64, u64) {
        let queue = self.lock();
        (queue.epoch(), queue.durable(), queue.first())
    }

    /// The disk has given up what memory may still hold.
    pub fn evicted(&self, evicted: Vec<GaveWay>) {
        for gone in evicted {
            self.lock().evicted(gone.epoch, &gone.held, EVICTED);
        }
    }

    /// The collector refuses a snapshot for good.
    pub(super) fn set_aside(&self, seq: u64) {
        self.lock().set_aside(seq, super::POISON);
    }

    /// Counts what was lost, to be stated in the next snapshot.
    pub fn lost(&self, losses: &BTreeMap<&'static str, u64>) {
        let mut queue = self.lock();
        for (reason, count) in losses {
            queue.lost(reason, *count);
        }
    }

    /// Snapshots of this life that the collector has not stored.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lock().len()
    }

    /// Whether the agent may end: the collector has all, or the disk has and no collector is there.
    #[must_use]
    pub fn is_safe(&self) -> bool {
        let queue = self.lock();
        queue.is_empty() || (self.desk.is_some() && !self.is_connected() && queue.is_on_disk())
    }

    /// What was asked of the spool's disk so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.desk.as_ref().map(|desk| desk.stats()).unwrap_or_default()
    }

    pub(super) fn desk(&self) -> Option<&Arc<Desk>> {
        self.desk.as_ref()
    }

    /// Waits until something was pushed.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    pub(super) fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Relaxed);
        if connected {
            self.connected_now.notify_one();
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// Waits until a collector stores what this life measures.
    pub(super) async fn connected(&self) {
        while !self.is_connected() {
            self.connected_now.notified().await;
        }
    }
}
