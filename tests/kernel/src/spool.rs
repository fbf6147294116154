//! A spool that is written until the power is cut, and one that is read after that.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use procscope_agent::{
    queue::Queue,
    spool::{Limits, Spool, Sync, disk::Folder},
};
use procscope_proto::v1::Snapshot;

use crate::say;

/// Snapshots wait so long for the collector until they are synced.
const SYNCED_AFTER: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(20);

fn open(folder: &Path) -> Result<Spool<Folder>> {
    let disk = Folder::open(folder).map_err(|failure| anyhow::anyhow!("{failure}"))?;
    let limits = Limits {
        bytes_max: 16 << 20,
        age_max: Duration::from_hours(48),
        sync: Sync::After(SYNCED_AFTER),
    };
    Spool::open(disk, limits, Instant::now()).context("open the spool")
}

/// Writes without end, and says up to which number the disk was asked to keep.
pub(crate) fn write(folder: &Path) -> Result<()> {
    let mut spool = open(folder)?;
    let mut queue = Queue::new(usize::MAX, usize::MAX, [7; 16], 9, true);
    let mut syncs = 0;
    for seq in 1_u64.. {
        let snapshot = Snapshot {
            host: format!("{:x}", seq.wrapping_mul(0x9e37_79b9_7f4a_7c15)).repeat(64),
            interval_ns: seq,
            ..Snapshot::default()
        };
        let frozen = queue.push(&snapshot, &snapshot);
        queue.stored_through(seq);
        spool
            .append(&frozen, Instant::now())
            .map_err(|reason| anyhow::anyhow!("snapshot {seq}: {reason}"))?;
        spool.tick(Instant::now());
        if spool.stats().syncs > syncs {
            syncs = spool.stats().syncs;
            say("GUEST synced", seq)?;
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// Says what is there, and what is known to be lost.
pub(crate) fn read(folder: &Path) -> Result<()> {
    let mut spool = open(folder)?;
    while let Some(batch) = spool
        .backlog(Instant::now())?
        .filter(|batch| !batch.requests.is_empty())
    {
        for request in batch.requests {
            let snapshot: Snapshot = prost::Message::decode(request.snapshot.as_slice())?;
            anyhow::ensure!(
                snapshot.interval_ns == request.seq,
                "snapshot {} is another",
                request.seq
            );
            say("GUEST read", request.seq)?;
            spool.stored(batch.epoch, request.seq);
        }
    }
    for (reason, count) in spool.take_losses() {
        say(&format!("GUEST lost {reason}"), count)?;
    }
    Ok(())
}
