//! Chance that can be played again: `PROCSCOPE_FAULTS_SEED`.

use std::time::Duration;

use anyhow::{Context as _, Result};
use procscope_tests_e2e::now_ms;

/// `SplitMix64`.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice and their seed: the one that the environment names, or a new one.
    ///
    /// # Errors
    /// When the environment names none that is a number.
    pub fn new() -> Result<(Self, u64)> {
        let seed = match std::env::var("PROCSCOPE_FAULTS_SEED") {
            Ok(text) => text.parse().context("PROCSCOPE_FAULTS_SEED is a number")?,
            Err(_) => now_ms().unsigned_abs(),
        };
        Ok((Self(seed), seed))
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    /// One of these.
    pub fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        let count = u64::try_from(of.len()).unwrap_or(1);
        &of[usize::try_from(self.below(count)).unwrap_or(0)]
    }

    /// A time within bounds.
    pub fn between_ms(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.below(most - least))
    }
}
