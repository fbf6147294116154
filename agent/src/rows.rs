//! The rows of an interval in the bytes of the wire: made once, and copied for as long as they stand. Pure.
//!
//! Most processes sleep, and their rows are the same bytes in each interval. A row is written as a snapshot that has
//! this row alone; such snapshots one after another read as one that has all of them, which is what protobuf says of
//! repeated fields.

use bytes::{Buf, BufMut};
use procscope_proto::v1;
use prost::{
    DecodeError, Message,
    encoding::{DecodeContext, WireType},
};

use crate::fold::Place;

/// Rows of this interval and of the one before.
#[derive(Debug, Default)]
pub struct Rows {
    bytes: Vec<u8>,
    before: Vec<u8>,
    /// What the last row was made in.
    one: v1::Snapshot,
}

impl Rows {
    /// A new interval: what was put is from the one before.
    pub fn begin(&mut self) {
        std::mem::swap(&mut self.bytes, &mut self.before);
        self.bytes.clear();
    }

    /// Puts a row that `make` makes, of an older one whose memory may be used again.
    pub fn add(&mut self, make: impl FnOnce(v1::ProcessSample) -> v1::ProcessSample) -> Place {
        let older = self.one.samples.pop().unwrap_or_default();
        self.one.samples.push(make(older));
        let start = self.bytes.len();
        self.one.encode_raw(&mut self.bytes);
        Place {
            start,
            end: self.bytes.len(),
        }
    }

    /// Puts a row of the interval before once more.
    pub fn again(&mut self, place: Place) -> Place {
        let start = self.bytes.len();
        let row = self.before.get(place.start..place.end);
        self.bytes.extend_from_slice(row.unwrap_or_default());
        Place {
            start,
            end: self.bytes.len(),
        }
    }
}

/// A snapshot whose rows are bytes already.
#[derive(Debug)]
pub struct Frozen<'a> {
    /// All but its samples.
    pub head: v1::Snapshot,
    rows: &'a [u8],
}

impl<'a> Frozen<'a> {
    /// Puts both together.
    #[must_use]
    pub fn new(head: v1::Snapshot, rows: &'a Rows) -> Self {
        Self {
            head,
            rows: &rows.bytes,
        }
    }

    /// As whoever gets the bytes reads it.
    ///
    /// # Errors
    /// Never, but for a bug of ours.
    pub fn thaw(mut self) -> Result<v1::Snapshot, DecodeError> {
        self.head.merge(self.rows)?;
        Ok(self.head)
    }
}

impl Message for Frozen<'_> {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        self.head.encode_raw(buf);
        buf.put_slice(self.rows);
    }

    fn encoded_len(&self) -> usize {
        self.head.encoded_len() + self.rows.len()
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        self.head.merge_field(tag, wire_type, buf, ctx)
    }

    fn clear(&mut self) {
        self.head.clear();
        self.rows = &[];
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named(name: &str) -> v1::ProcessSample {
        v1::ProcessSample {
            name: name.to_owned(),
            cpu_time_ns: 1 << 40,
            rss_bytes: Some(0),
            ..v1::ProcessSample::default()
        }
    }

    proptest! {
        /// Rows that are made and rows that are copied, over intervals in which they come, stay, change and go.
        #[test]
        fn what_is_sent_reads_as_the_rows_that_were_told(
            intervals in proptest::collection::vec(proptest::collection::vec((0_u8..4, "[a-z]{0,300}"), 0..12), 1..8),
        ) {
            let mut rows = Rows::default();
            let mut standing: Vec<(Place, v1::ProcessSample)> = Vec::new();
            for interval in intervals {
                rows.begin();
                let mut told = Vec::new();
                for (what, name) in interval {
                    if what == 0 && !standing.is_empty() {
                        let (place, row) = standing.remove(0);
                        told.push((rows.again(place), row));
                    } else {
                        told.push((rows.add(|_older| named(&name)), named(&name)));
                    }
                }
                let head = v1::Snapshot { host: "host".to_owned(), interval_ns: 7, ..v1::Snapshot::default() };
                let frozen = Frozen::new(head.clone(), &rows);
                let bytes = frozen.encode_to_vec();
                prop_assert_eq!(bytes.len(), frozen.encoded_len());
                let samples = told.iter().map(|(_place, row)| row.clone()).collect();
                let whole = v1::Snapshot { samples, ..head };
                prop_assert_eq!(&v1::Snapshot::decode(bytes.as_slice()).unwrap(), &whole);
                prop_assert_eq!(frozen.thaw().unwrap(), whole);
                standing = told;
            }
        }
    }
}
