//! What a column is: its name, its type, and the function that writes it.

use super::Parts;
use crate::model::Snapshot;

/// One column of a table: what it is called, and how the values of rows are written. A row is an item of a snapshot.
#[derive(Debug)]
pub(crate) struct Column<T> {
    /// Name in the table.
    pub(crate) name: &'static str,
    /// Type in the table.
    pub(crate) kind: Kind,
    /// Writes the values of some rows: a function for each column, so that a value is written where it is read.
    pub(crate) put: for<'a> fn(&mut Parts<'a>, &[(&'a Snapshot, &'a T)]),
}

/// The type of a column; for each there is a method of `Parts` that writes its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    U32,
    U64,
    /// `DateTime64(3, 'UTC')`: milliseconds since 1970.
    Time,
    Uuid,
    Text,
    /// `LowCardinality(String)`.
    Word,
    MaybeBool,
    MaybeU32,
    MaybeU64,
    MaybeI64,
    /// `Map(String, UInt64)`.
    Counts,
    /// `Array(UInt64)`.
    Numbers,
    /// `Array(String)`.
    Texts,
}

impl Kind {
    /// The type as ClickHouse prints it.
    pub(crate) fn type_name(self) -> &'static str {
        match self {
            Self::Bool => "Bool",
            Self::U32 => "UInt32",
            Self::U64 => "UInt64",
            Self::Time => "DateTime64(3, 'UTC')",
            Self::Uuid => "UUID",
            Self::Text => "String",
            Self::Word => "LowCardinality(String)",
            Self::MaybeBool => "Nullable(Bool)",
            Self::MaybeU32 => "Nullable(UInt32)",
            Self::MaybeU64 => "Nullable(UInt64)",
            Self::MaybeI64 => "Nullable(Int64)",
            Self::Counts => "Map(String, UInt64)",
            Self::Numbers => "Array(UInt64)",
            Self::Texts => "Array(String)",
        }
    }
}

/// A column: its name, its kind, and how a value is read from snapshot and row.
macro_rules! column_of {
    ($name:expr, Bool, $get:expr) => {
        $crate::store::native::Column {
            name: $name,
            kind: $crate::store::native::Kind::Bool,
            put: |parts, rows| parts.bool(rows, $get),
        }
    };
    ($name:expr, U32, $get:expr) => {
        $crate::store::native::Column {
            name: $name,
            kind: $crate::store::native::Kind::U32,
            put: |parts, rows| parts.u32(rows, $get),
        }
    };
    ($name:expr, U64, $get:expr) => {
        $crate::store::native::Column {
            name: $name,
            kind: $crate::store::native::Kind::U64,
            put: |parts, rows| parts.u64(rows, $get),
        }
    };
    ($name:expr, Time, $get:expr) => {
        $crate::store::native::Column {
            name: $name,
            kind: $crate::store::native::Kind::Time,
            put: |parts, rows| parts.time(rows, $get),
        }
    };
    ($name:expr, Uuid, $get:expr) => {
        $crate::store::native::Column {
            name: $name,
            kind: $crate::store::native::Kind::Uuid,
            put: |parts, rows| parts.uuid(rows, $get),
        }
    };
    ($name:expr, Text, $get:expr) => {
        $crate::store::native::Column {
            name: $name,
            kind: $crate::store::native::Kind::Text,
            put: |parts, rows| parts.text(rows, $get),
        }
    };
    ($name:expr, Word, $get:expr) => {
        $crate::store::native::Column {
            name: $name,
            kind: $crate::store::native::Kind::Word,
            put: |parts, rows| parts.word(rows, $get),
        }
    };
    ($name:expr, MaybeBool, $get:expr) => {
        $crate::store::native::Column {
            name: $name,
            kind: $crate::store::native::Kind::MaybeBool,
            put: |parts, rows| parts.maybe_bool(rows, $get),
        }
    };
    ($name:expr, MaybeU32, $get:expr) => {
        $crate::store::native::Column {
            name: $name,
            kind: $crate::store::native::Kind::MaybeU32,
            put: |parts, rows| parts.maybe_u32(rows, $get),
        }
    };
    ($name:expr, MaybeU64, $get:expr) => {
        $crate::store::native::Column {
            name: $name,
            kind: $crate::store::native::Kind::MaybeU64,
            put: |parts, rows| parts.maybe_u64(rows, $get),
        }
    };
    ($name:expr, MaybeI64, $get:expr) => {
        $crate::store::native::Column {
            name: $name,
            kind: $crate::store::native::Kind::MaybeI64,
            put: |parts, rows| parts.maybe_i64(rows, $get),
        }
    };
    ($name:expr, Counts, $get:expr) => {
        $crate::store::native::Column {
            name: $name,
            kind: $crate::store::native::Kind::Counts,
            put: |parts, rows| parts.counts(rows, $get),
        }
    };
    ($name:expr, Numbers, $get:expr) => {
        $crate::store::native::Column {
            name: $name,
            kind: $crate::store::native::Kind::Numbers,
            put: |parts, rows| parts.numbers(rows, $get),
        }
    };
    ($name:expr, Texts, $get:expr) => {
        $crate::store::native::Column {
            name: $name,
            kind: $crate::store::native::Kind::Texts,
            put: |parts, rows| parts.texts(rows, $get),
        }
    };
}
pub(crate) use column_of;
