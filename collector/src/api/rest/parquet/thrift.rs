//! Thrift's compact protocol, as far as the headers of Parquet need it.

const I32: u8 = 5;
const I64: u8 = 6;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const STRUCT: u8 = 12;

/// A struct that is being written, its fields in the order of their numbers.
#[derive(Debug, Default)]
pub(super) struct Struct {
    bytes: Vec<u8>,
    last: u8,
}

impl Struct {
    pub(super) fn new() -> Self {
        Self::default()
    }

    fn field(mut self, number: u8, kind: u8, value: &[u8]) -> Self {
        self.bytes.push((number - self.last) << 4 | kind);
        self.bytes.extend(value);
        self.last = number;
        self
    }

    pub(super) fn i32(self, number: u8, value: i32) -> Self {
        self.field(number, I32, &int(value.into()))
    }

    pub(super) fn i64(self, number: u8, value: i64) -> Self {
        self.field(number, I64, &int(value))
    }

    pub(super) fn text(self, number: u8, value: &str) -> Self {
        self.field(number, BINARY, &text(value))
    }

    pub(super) fn list(self, number: u8, value: &[u8]) -> Self {
        self.field(number, LIST, value)
    }

    pub(super) fn inner(self, number: u8, value: Self) -> Self {
        self.field(number, STRUCT, &value.end())
    }

    pub(super) fn end(mut self) -> Vec<u8> {
        self.bytes.push(0);
        self.bytes
    }
}

/// A list of values of one kind, each as it is written.
pub(super) fn list(kind: u8, values: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let values: Vec<_> = values.into_iter().collect();
    let mut bytes = Vec::new();
    if let Ok(count @ 0..15) = u8::try_from(values.len()) {
        bytes.push(count << 4 | kind);
    } else {
        bytes.push(0xf0 | kind);
        varint(u64::try_from(values.len()).unwrap_or(u64::MAX), &mut bytes);
    }
    bytes.extend(values.into_iter().flatten());
    bytes
}

/// A number of any width: zigzag, so that small negative ones are short too.
pub(super) fn int(value: i64) -> Vec<u8> {
    let mut bytes = Vec::new();
    varint(((value << 1) ^ (value >> 63)).cast_unsigned(), &mut bytes);
    bytes
}

pub(super) fn text(value: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    varint(u64::try_from(value.len()).unwrap_or(u64::MAX), &mut bytes);
    bytes.extend(value.as_bytes());
    bytes
}

/// Seven bits a byte, the lowest first.
pub(super) fn varint(mut value: u64, bytes: &mut Vec<u8>) {
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            return bytes.push(low);
        }
        bytes.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_short_as_they_can_be() {
        for (value, bytes) in [
            (0, vec![0]),
            (-1, vec![1]),
            (63, vec![126]),
            (64, vec![0x80, 1]),
            (i64::MIN, [vec![0xff; 9], vec![1]].concat()),
        ] {
            assert_eq!(int(value), bytes, "{value}");
        }
        assert_eq!(list(I32, vec![vec![7]; 15])[..2], [0xf5, 15]);
        assert_eq!(Struct::new().i32(1, 1).i32(4, 1).end(), [0x15, 2, 0x35, 2, 0]);
    }
}
