//! Compiles `procscope/v1/*.proto` to Rust, without a protoc binary.

use std::{env, fs, path::PathBuf};

use anyhow::Context as _;
use prost::Message as _;
use prost_types::{FileDescriptorSet, field_descriptor_proto::Label};
use tonic_prost_build::Builder;

const FILES: [&str; 2] = ["procscope/v1/ingest.proto", "procscope/v1/query.proto"];

/// What answers are made of, and so has a form in JSON too.
const ANSWERED: [&str; 9] = [
    "Coverage",
    "CoverageLoss",
    "TopProcess",
    "ProcessIdentity",
    "HistoryPoint",
    "ExitedProcess",
    "Host",
    "AuditRow",
    "AuditProgram",
];

/// Fields of them in which an empty text, or no count, means that it is not known.
const NOT_KNOWN_WHEN_EMPTY: [&str; 7] = [
    "container_id",
    "pod_uid",
    "exe",
    "cmdline",
    "source",
    "state",
    "runqueue_wait_counts",
];

fn main() -> anyhow::Result<()> {
    for file in FILES {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["."]).context("compile procscope/v1/*.proto")?;
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").context("cargo sets OUT_DIR")?);
    // Reflection serves the same descriptors that the code is made from.
    fs::write(out_dir.join("descriptors.bin"), descriptors.encode_to_vec())
        .context("write descriptors.bin")?;
    let mut builder = tonic_prost_build::configure();
    if env::var_os("CARGO_FEATURE_SCHEMA").is_some() {
        builder = with_json(builder, &descriptors);
    }
    builder
        .compile_fds(descriptors)
        .context("generate code from procscope/v1/*.proto")
}

/// The same fields, under the same names and with the same comments, in JSON and in `OpenAPI`; times as RFC 3339, and
/// null for what is not known.
fn with_json(mut builder: Builder, descriptors: &FileDescriptorSet) -> Builder {
    let messages = descriptors.file.iter().flat_map(|file| &file.message_type);
    for message in messages.filter(|message| ANSWERED.contains(&message.name())) {
        let path = format!("procscope.v1.{}", message.name());
        builder = builder.type_attribute(&path, "#[derive(serde::Serialize, utoipa::ToSchema)]");
        let times = message
            .field
            .iter()
            .filter(|field| field.type_name() == ".google.protobuf.Timestamp");
        for field in times {
            builder = builder.field_attribute(
                format!("{path}.{}", field.name()),
                "#[serde(serialize_with = \"crate::json::time\")]\
                 #[schema(value_type = Option<String>, format = DateTime)]",
            );
        }
        let fields = message.field.iter();
        for field in fields.filter(|field| NOT_KNOWN_WHEN_EMPTY.contains(&field.name())) {
            let (writes, holds) = match field.label() {
                Label::Repeated => ("counts", "Vec<u64>"),
                _ if field.proto3_optional() => ("known_if_present", "String"),
                _ => ("known", "String"),
            };
            builder = builder.field_attribute(
                format!("{path}.{}", field.name()),
                format!(
                    "#[serde(serialize_with = \"crate::json::{writes}\")]\
                     #[schema(value_type = Option<{holds}>)]"
                ),
            );
        }
    }
    builder
}
