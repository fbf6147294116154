//! Each way in which the kernel side can lose a measurement, and where it is counted.

/// Index into the per-CPU counters `DROPS`.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// The ring buffer had no room for an event. Final totals are then read from slot and iterator.
    RingFull = 0,
    /// Two living threads share a slot: the one that ran last has it. The iterator still sees both.
    SlotCollision = 1,
}

/// Number of reasons.
pub const DROP_REASONS: u32 = 2;

impl DropReason {
    /// Every reason with its public name.
    pub const ALL: [(Self, &'static str); 2] = [
        (Self::RingFull, "ring_full"),
        (Self::SlotCollision, "slot_collision"),
    ];
}
