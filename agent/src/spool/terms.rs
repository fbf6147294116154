//! Words of the spool: why something was lost, what it may hold, and what it tells of itself.

use std::time::Duration;

/// A segment was deleted to make room, or because of its age.
pub const EVICTED: &str = "spool_evicted";
/// A record could not be read any more.
pub const CORRUPT: &str = "spool_corrupt";
/// The disk had no room.
pub const FULL: &str = "spool_full";
/// The disk failed otherwise.
pub const IO: &str = "spool_io";
/// The disk took longer than snapshots may wait for it.
pub const SLOW: &str = "spool_slow";
/// A snapshot is longer than collectors take.
pub const TOO_LONG: &str = "spool_too_long";

/// When what was written has to be on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// Before anything else.
    Each,
    /// When the collector has not stored it after so long.
    After(Duration),
}

/// What a spool may hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of all segments.
    pub bytes_max: u64,
    /// Age of a segment's last record.
    pub age_max: Duration,
    /// When it is synced.
    pub sync: Sync,
}

/// What was asked of the disk; rises only.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Calls that wrote.
    pub writes: u64,
    /// Bytes that they wrote.
    pub written_bytes: u64,
    /// Calls that waited for the disk.
    pub syncs: u64,
    /// Calls that failed.
    pub failures: u64,
    /// Snapshots read back for the collector.
    pub read: u64,
    /// Length of all segments now.
    pub bytes: u64,
    /// Segments now.
    pub segments: u64,
    /// Snapshots of earlier lives that wait, as far as names tell.
    pub backlog: u64,
}
