//! The reader of segments: any bytes as a file of the spool, and well-formed records that say anything.

#![no_main]

use libfuzzer_sys::{
    arbitrary::{self, Arbitrary, Unstructured},
    fuzz_target,
};
use procscope_agent::spool::{
    codec,
    record::{self, HEADER_LEN, Header, Kind, RAW_MAX},
    segment::{Reader, survey},
};

const EPOCH: u64 = 7;

/// A record whose checksums are right whatever it says.
#[derive(Debug, Arbitrary)]
struct Said {
    kind: u8,
    raw_len: u32,
    own_epoch: bool,
    seq: u8,
    ordinal: u64,
    durable: u64,
    key_seq: u8,
    time_ms: i64,
    stated: u32,
    honest: bool,
    payload: Vec<u8>,
    torn: u8,
}

impl Said {
    fn write(self, bytes: &mut Vec<u8>) {
        let compressed = codec::compress(&self.payload, None);
        let header = Header {
            kind: [Kind::Key, Kind::KeyCopy, Kind::Delta][usize::from(self.kind) % 3],
            raw_len: if self.honest {
                self.payload.len()
            } else {
                usize::try_from(self.raw_len).unwrap_or(RAW_MAX)
            },
            agent_id: [1; 16],
            epoch: if self.own_epoch { EPOCH } else { self.ordinal },
            seq: self.seq.into(),
            ordinal: self.ordinal,
            durable: self.durable,
            time_ms: self.time_ms,
            key_seq: self.key_seq.into(),
            stated: self.stated,
            raw_crc: crc32c::crc32c(&self.payload),
        };
        let payload = if self.honest {
            compressed.unwrap_or_default()
        } else {
            self.payload
        };
        _ = record::write(&header, &payload, bytes);
        if self.torn < 16 {
            bytes.truncate(bytes.len().saturating_sub(self.torn.into()));
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let bytes = match input.split_first() {
        Some((0, records)) => {
            let mut bytes = Vec::new();
            let mut records = Unstructured::new(records);
            while !records.is_empty()
                && let Ok(said) = Said::arbitrary(&mut records)
            {
                said.write(&mut bytes);
            }
            bytes
        }
        _ => input.to_vec(),
    };
    // Of files that an agent wrote the epoch stands in the name; here the first record's is as good.
    let epoch = record::frame(&bytes).map_or(EPOCH, |framed| framed.header.epoch);
    let found = survey(&bytes, epoch, 0, u64::MAX);
    assert!(
        found.records <= u64::try_from(bytes.len() / HEADER_LEN).unwrap_or(0),
        "{found:?}"
    );
    let mut reader = Reader::new(bytes, epoch, 0);
    let mut last = 0;
    for (header, raw) in reader.by_ref() {
        assert!(
            header.epoch == epoch && header.seq > last,
            "once each, in rising order"
        );
        assert!(
            raw.len() == header.raw_len && crc32c::crc32c(&raw) == header.raw_crc,
            "as it was written"
        );
        last = header.seq;
    }
});
