//! The contract on the wire: `procscope.v1` as Rust types, clients and servers.
//!
//! Agent and collector meet only here; each converts into its own types at its door.

#[cfg(feature = "schema")]
mod json;

/// Messages and services of package `procscope.v1`.
#[allow(
    clippy::pedantic,
    clippy::as_conversions,
    clippy::allow_attributes_without_reason,
    missing_docs,
    unreachable_pub,
    reason = "generated from procscope/v1/*.proto, which carry the documentation"
)]
pub mod v1 {
    tonic::include_proto!("procscope.v1");
}

/// The compiled `FileDescriptorSet`, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
