//! The map `OVERFLOW`: sums over threads whose ends found no room. Empty on a machine that never lost an event.

use aya::maps::{Map, MapData, MapError, PerCpuHashMap, PerCpuValues};
use procscope_agent_common::{OVERFLOW_OTHER, OverflowSlot};

use super::DrainError;

const NAME: &str = "OVERFLOW";

/// The map, open for reading.
pub(super) struct Overflow(PerCpuHashMap<MapData, u64, Plain>);

/// An `OverflowSlot` as aya wants it.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct Plain(OverflowSlot);

// SAFETY: `repr(transparent)` over a `KernelRecord`: integers only, no padding.
unsafe impl aya::Pod for Plain {}

impl Overflow {
    /// Opens the map, and makes the entry for all control groups that find no room.
    pub(super) fn open(map: Map) -> Result<Self, DrainError> {
        let fail = |source| DrainError::Map { map: NAME, source };
        let mut map = PerCpuHashMap::try_from(map).map_err(fail)?;
        let cpus = aya::util::nr_cpus().map_err(|(_file, error)| fail(MapError::IoError(error)))?;
        let zeros = PerCpuValues::try_from(vec![Plain(OverflowSlot::default()); cpus])
            .map_err(|error| fail(MapError::IoError(error)))?;
        map.insert(OVERFLOW_OTHER, zeros, 0).map_err(fail)?;
        Ok(Self(map))
    }

    /// Sums over all CPUs, by control group; groups without any are left out.
    pub(super) fn read(&self) -> Result<Vec<(u64, OverflowSlot)>, DrainError> {
        let mut sums = Vec::new();
        for entry in &self.0 {
            let (group, values) = entry.map_err(|source| DrainError::Map { map: NAME, source })?;
            let mut sum = OverflowSlot::default();
            for Plain(value) in values.iter() {
                sum.totals = sum.totals.combine(value.totals, u64::saturating_add);
                sum.threads = sum.threads.saturating_add(value.threads);
            }
            if sum.threads > 0 {
                sums.push((group, sum));
            }
        }
        Ok(sums)
    }
}
