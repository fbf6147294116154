//! The kernel's own description of its types (BTF): where a member lies in a struct, what an enum's name means.
//!
//! Only what `offsets.rs` asks is decoded; the bytes are dropped after start.

use std::collections::HashMap;

const MAGIC: u16 = 0xeb9f;
const HEADER_LEN: usize = 24;

const KIND_INT: u32 = 1;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_RESTRICT: u32 = 11;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_DECL_TAG: u32 = 17;
const KIND_TYPE_TAG: u32 = 18;
const KIND_ENUM64: u32 = 19;

/// Qualifiers and typedefs followed at most; a longer chain is no BTF of a kernel.
const DEPTH_MAX: usize = 32;

/// Why bytes are no BTF.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BtfError {
    /// The header is not that of BTF in this machine's byte order.
    #[error("the bytes do not start with a BTF header of this machine's byte order")]
    Header,
    /// A type reaches past the end, or has a kind that no kernel up to 6.18 writes.
    #[error("type {0} cannot be read")]
    Type(usize),
}

/// Decoded BTF, borrowed from its bytes.
#[derive(Debug)]
pub struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Offset of each type in `types`; id 1 is the first.
    starts: Vec<usize>,
    /// Structs, unions and enums by name; the first of a name wins.
    by_name: HashMap<&'a [u8], u32>,
}

/// Name, kind, number of members, and the size or type word.
#[derive(Clone, Copy)]
struct Head {
    name: usize,
    kind: u32,
    members: usize,
    bitfields: bool,
    size_or_type: u32,
    body: usize,
}

impl<'a> Btf<'a> {
    /// Reads the bytes of `/sys/kernel/btf/vmlinux`.
    ///
    /// # Errors
    /// When the bytes are not BTF.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BtfError> {
        let word = |at: usize| word(bytes, at).ok_or(BtfError::Header);
        let magic = bytes
            .get(..2)
            .and_then(|b| b.try_into().ok())
            .map(u16::from_ne_bytes);
        if magic != Some(MAGIC) {
            return Err(BtfError::Header);
        }
        let header_len = word(4)?;
        let section = |at: u32, len: u32| {
            let start = usize::try_from(header_len.checked_add(at)?).ok()?;
            bytes.get(start..start.checked_add(usize::try_from(len).ok()?)?)
        };
        let types = section(word(8)?, word(12)?).ok_or(BtfError::Header)?;
        let strings = section(word(16)?, word(20)?).ok_or(BtfError::Header)?;
        if bytes.len() < HEADER_LEN {
            return Err(BtfError::Header);
        }
        let mut btf = Self {
            types,
            strings,
            starts: vec![0],
            by_name: HashMap::new(),
        };
        let mut at = 0;
        while at < types.len() {
            let id = btf.starts.len();
            let head = btf.head_at(at).ok_or(BtfError::Type(id))?;
            let body_len = match head.kind {
                KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
                KIND_ARRAY => 12,
                KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => head.members * 12,
                KIND_ENUM | KIND_FUNC_PROTO => head.members * 8,
                1..=KIND_ENUM64 => 0,
                _ => return Err(BtfError::Type(id)),
            };
            let name = btf.string(head.name);
            if matches!(head.kind, KIND_STRUCT | KIND_UNION | KIND_ENUM) && !name.is_empty() {
                let id = u32::try_from(id).map_err(|_too_many| BtfError::Type(id))?;
                btf.by_name.entry(name).or_insert(id);
            }
            btf.starts.push(at);
            at = head.body + body_len;
        }
        Ok(btf)
    }

    /// Offset in bytes of a member, by a path such as `rss_stat[1].count`. Members of unnamed structs count as
    /// the outer one's. `None`: this kernel has no such struct or member, or it is a bit-field.
    #[must_use]
    pub fn offset(&self, structure: &str, path: &str) -> Option<u32> {
        let mut id = *self.by_name.get(structure.as_bytes())?;
        let mut bits = 0;
        for part in path.split('.') {
            let (name, index) = match part.split_once('[') {
                Some((name, rest)) => (name, Some(rest.strip_suffix(']')?.parse::<u32>().ok()?)),
                None => (part, None),
            };
            let (member, member_bits) = self.member(id, name.as_bytes(), 0)?;
            bits += member_bits;
            id = self.resolve(member)?;
            if let Some(index) = index {
                let head = self.head(id)?;
                if head.kind != KIND_ARRAY {
                    return None;
                }
                id = self.resolve(word(self.types, head.body)?)?;
                bits += index.checked_mul(self.size(id)?)?.checked_mul(8)?;
            }
        }
        (bits % 8 == 0).then_some(bits / 8)
    }

    /// Whether the kernel has such a struct.
    #[must_use]
    pub fn has_member(&self, structure: &str, path: &str) -> bool {
        self.offset(structure, path).is_some()
    }

    /// The value of a name in an enum.
    #[must_use]
    pub fn enum_value(&self, enumeration: &str, name: &str) -> Option<u32> {
        let head = self.head(*self.by_name.get(enumeration.as_bytes())?)?;
        if head.kind != KIND_ENUM {
            return None;
        }
        (0..head.members).map(|n| head.body + n * 8).find_map(|at| {
            let found = self.string(usize::try_from(word(self.types, at)?).ok()?);
            (found == name.as_bytes()).then(|| word(self.types, at + 4))?
        })
    }

    /// Type and offset in bits of a member, also inside of unnamed structs and unions.
    fn member(&self, id: u32, name: &[u8], depth: usize) -> Option<(u32, u32)> {
        let head = self.head(id)?;
        if !matches!(head.kind, KIND_STRUCT | KIND_UNION) || depth > DEPTH_MAX {
            return None;
        }
        for at in (0..head.members).map(|n| head.body + n * 12) {
            let member_name = self.string(usize::try_from(word(self.types, at)?).ok()?);
            let member_type = word(self.types, at + 4)?;
            let mut bits = word(self.types, at + 8)?;
            let is_bitfield = head.bitfields && bits >> 24 != 0;
            if head.bitfields {
                bits &= 0x00ff_ffff;
            }
            if member_name == name && !is_bitfield {
                return Some((member_type, bits));
            }
            if member_name.is_empty()
                && let Some((found, inner)) = self.member(self.resolve(member_type)?, name, depth + 1)
            {
                return Some((found, bits + inner));
            }
        }
        None
    }

    /// The type behind typedefs and qualifiers.
    fn resolve(&self, mut id: u32) -> Option<u32> {
        for _step in 0..DEPTH_MAX {
            let head = self.head(id)?;
            match head.kind {
                KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG => {
                    id = head.size_or_type;
                }
                _ => return Some(id),
            }
        }
        None
    }

    fn size(&self, id: u32) -> Option<u32> {
        let head = self.head(id)?;
        match head.kind {
            KIND_INT | KIND_STRUCT | KIND_UNION | KIND_ENUM => Some(head.size_or_type),
            _ => None,
        }
    }

    fn head(&self, id: u32) -> Option<Head> {
        (id != 0).then_some(())?;
        self.head_at(*self.starts.get(usize::try_from(id).ok()?)?)
    }

    fn head_at(&self, at: usize) -> Option<Head> {
        let info = word(self.types, at + 4)?;
        Some(Head {
            name: usize::try_from(word(self.types, at)?).ok()?,
            kind: (info >> 24) & 0x1f,
            members: usize::try_from(info & 0xffff).ok()?,
            bitfields: info >> 31 == 1,
            size_or_type: word(self.types, at + 8)?,
            body: at + 12,
        })
    }

    fn string(&self, at: usize) -> &'a [u8] {
        let rest = self.strings.get(at..).unwrap_or_default();
        rest.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..at.checked_add(4)?)?
        .try_into()
        .ok()
        .map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_running_kernel_says_where_its_members_are() {
        let bytes = std::fs::read("/sys/kernel/btf/vmlinux").expect("this kernel has BTF");
        let btf = Btf::parse(&bytes).unwrap();
        // Two members side by side, one in an unnamed struct, one in an array of structs.
        let pid = btf.offset("task_struct", "pid").unwrap();
        assert_eq!(btf.offset("task_struct", "tgid"), Some(pid + 4));
        assert!(btf.has_member("mm_struct", "hiwater_rss"));
        assert!(btf.has_member("task_struct", "se.sum_exec_runtime"));
        assert_eq!(btf.offset("task_struct", "no_such_member"), None);
        assert_eq!(btf.enum_value("cgroup_subsys_id", "cpuset_cgrp_id"), Some(0));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if bytes.len() > 24 {
                bytes[..2].copy_from_slice(&MAGIC.to_ne_bytes());
                bytes[4..8].copy_from_slice(&24_u32.to_ne_bytes());
                bytes[8..12].copy_from_slice(&0_u32.to_ne_bytes());
                let len = u32::try_from(bytes.len() - 24).unwrap();
                bytes[12..16].copy_from_slice(&len.to_ne_bytes());
                bytes[16..20].copy_from_slice(&0_u32.to_ne_bytes());
                bytes[20..24].copy_from_slice(&len.to_ne_bytes());
            }
            if let Ok(btf) = Btf::parse(&bytes) {
                prop_assert!(btf.offset("a", "b[1].c").is_none_or(|offset| offset < u32::MAX));
            }
        }
    }
}
