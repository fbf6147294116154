//! What a fold tells of one process, and when that is what it told before. Pure.

use super::{FoldedProcess, process::Process};

/// Where a row was put, in the words of whoever is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    /// It begins here.
    pub start: usize,
    /// It ends before this.
    pub end: usize,
}

/// One process in one interval.
#[derive(Debug, Clone, Copy)]
pub enum Row<'a> {
    /// To be told anew.
    Anew(&'a FoldedProcess),
    /// In every word the row of the interval before, which was put there. The number is that of its threads.
    Same(Place, u32),
}

impl Process {
    /// Whether the row of the last interval is the row of this one, in every word. It is when nothing was learnt in
    /// either: then that row told of no use, and of what there still is.
    pub(super) fn has_its_row(&self) -> bool {
        self.row_stands && !self.changed
    }
}
