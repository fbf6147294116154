//! One record of a segment: a header that stands alone, and a payload that is bound to it. Pure.
//!
//! A record says by itself whose it is, so a damaged one takes no other along and no file needs a head of its own.

/// Bytes of a header.
pub const HEADER_LEN: usize = 96;

/// The longest snapshot that is spooled: as long as a message that collectors take.
pub const RAW_MAX: usize = 16 << 20;

/// The longest payload: no compression makes anything longer by more than this.
pub const PAYLOAD_MAX: usize = RAW_MAX + (RAW_MAX >> 7);

/// Where a record begins. The first byte is none of text, the last is the version of the format.
pub const MAGIC: [u8; 4] = [0xb5, b'p', b's', 1];

/// Up to here the header's own bytes; then the checksum of all, then that of the header.
const FIELDS_LEN: usize = HEADER_LEN - 8;

/// How a payload is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// By itself; those that follow lean on it.
    Key,
    /// The key before it once more, for the case that one of the two is damaged.
    KeyCopy,
    /// With the key whose number it carries.
    Delta,
}

/// What a record says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// How the payload is to be read.
    pub kind: Kind,
    /// Length of the snapshot.
    pub raw_len: usize,
    /// Who measured.
    pub agent_id: [u8; 16],
    /// In which life.
    pub epoch: u64,
    /// Number within the epoch.
    pub seq: u64,
    /// Snapshots of the epoch that were spooled, this one included: a number that is missing was lost on the disk.
    pub ordinal: u64,
    /// How far the epoch was known to be stored when this was written.
    pub durable: u64,
    /// The drain instant, in milliseconds since 1970.
    pub time_ms: i64,
    /// Number of the key that a delta leans on; its own for a key.
    pub key_seq: u64,
    /// Lost snapshots that this one states: lost once more when it is.
    pub stated: u32,
    /// CRC-32C of the snapshot.
    pub raw_crc: u32,
}

/// A header that is in order, and where its record ends; the payload is not yet looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Framed {
    /// The header.
    pub header: Header,
    payload_len: usize,
    whole_crc: u32,
}

impl Framed {
    /// Bytes of the record.
    #[must_use]
    pub fn record_len(&self) -> usize {
        HEADER_LEN + self.payload_len
    }

    /// The payload, when `bytes`, which begin with the header, hold it undamaged.
    #[must_use]
    pub fn payload<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let payload = bytes.get(HEADER_LEN..self.record_len())?;
        let crc = crc32c::crc32c_append(crc32c::crc32c(bytes.get(..FIELDS_LEN)?), payload);
        (crc == self.whole_crc).then_some(payload)
    }
}

/// Appends a record; `false`, and nothing appended, when something is longer than a record may be.
#[must_use]
pub fn write(header: &Header, payload: &[u8], out: &mut Vec<u8>) -> bool {
    let (Ok(raw_len), Ok(payload_len)) = (u32::try_from(header.raw_len), u32::try_from(payload.len())) else {
        return false;
    };
    if header.raw_len > RAW_MAX || payload.len() > PAYLOAD_MAX {
        return false;
    }
    let start = out.len();
    let kind = match header.kind {
        Kind::Key => 0_u32,
        Kind::KeyCopy => 1,
        Kind::Delta => 2,
    };
    out.extend_from_slice(&MAGIC);
    for word in [kind, raw_len, payload_len, header.stated, header.raw_crc] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(&header.agent_id);
    for word in [
        header.epoch,
        header.seq,
        header.ordinal,
        header.durable,
        header.key_seq,
    ] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(&header.time_ms.to_le_bytes());
    let fields = crc32c::crc32c(&out[start..]);
    out.extend_from_slice(&crc32c::crc32c_append(fields, payload).to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(&out[start..]).to_le_bytes());
    out.extend_from_slice(payload);
    true
}

/// The header at the beginning of `bytes`, when there is one and it is undamaged.
#[must_use]
pub fn frame(bytes: &[u8]) -> Option<Framed> {
    let bytes = bytes.get(..HEADER_LEN)?;
    let mut rest = bytes;
    if take::<4>(&mut rest)? != MAGIC {
        return None;
    }
    let (guarded, crc) = bytes.split_at(HEADER_LEN - 4);
    if crc32c::crc32c(guarded).to_le_bytes() != crc {
        return None;
    }
    let kind = match u32::from_le_bytes(take(&mut rest)?) {
        0 => Kind::Key,
        1 => Kind::KeyCopy,
        2 => Kind::Delta,
        _ => return None,
    };
    let raw_len = usize::try_from(u32::from_le_bytes(take(&mut rest)?)).ok()?;
    let payload_len = usize::try_from(u32::from_le_bytes(take(&mut rest)?)).ok()?;
    let stated = u32::from_le_bytes(take(&mut rest)?);
    let raw_crc = u32::from_le_bytes(take(&mut rest)?);
    let agent_id = take(&mut rest)?;
    let epoch = u64::from_le_bytes(take(&mut rest)?);
    let seq = u64::from_le_bytes(take(&mut rest)?);
    let ordinal = u64::from_le_bytes(take(&mut rest)?);
    let durable = u64::from_le_bytes(take(&mut rest)?);
    let key_seq = u64::from_le_bytes(take(&mut rest)?);
    let time_ms = i64::from_le_bytes(take(&mut rest)?);
    let whole_crc = u32::from_le_bytes(take(&mut rest)?);
    if raw_len > RAW_MAX || payload_len > PAYLOAD_MAX {
        return None;
    }
    Some(Framed {
        header: Header {
            kind,
            raw_len,
            agent_id,
            epoch,
            seq,
            ordinal,
            durable,
            time_ms,
            key_seq,
            stated,
            raw_crc,
        },
        payload_len,
        whole_crc,
    })
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            kind: Kind::Delta,
            raw_len: 5,
            agent_id: [7; 16],
            epoch: 9,
            seq: 10,
            ordinal: 6,
            durable: 8,
            time_ms: -1,
            key_seq: 3,
            stated: 2,
            raw_crc: 0xdead_beef,
        }
    }

    #[test]
    fn a_record_comes_back_as_it_was_written() {
        let mut bytes = Vec::new();
        assert!(write(&header(), b"payload", &mut bytes));
        let framed = frame(&bytes).unwrap();
        assert_eq!(framed.header, header());
        assert_eq!(framed.record_len(), bytes.len());
        assert_eq!(framed.payload(&bytes), Some(b"payload".as_slice()));
        assert_eq!(framed.payload(&bytes[..bytes.len() - 1]), None);
    }

    #[test]
    fn a_payload_belongs_to_its_header() {
        let (mut one, mut two) = (Vec::new(), Vec::new());
        assert!(write(&header(), b"payload", &mut one));
        assert!(write(&Header { seq: 11, ..header() }, b"pay1oad", &mut two));
        two.truncate(HEADER_LEN);
        two.extend_from_slice(&one[HEADER_LEN..]);
        assert_eq!(frame(&two).unwrap().payload(&two), None);
    }

    #[test]
    fn a_length_beyond_the_bound_is_no_header() {
        let mut bytes = Vec::new();
        let long = Header {
            raw_len: RAW_MAX + 1,
            ..header()
        };
        assert!(!write(&long, b"", &mut bytes));
        assert!(!write(&header(), &vec![0; PAYLOAD_MAX + 1], &mut bytes));
        assert!(bytes.is_empty());
    }
}
