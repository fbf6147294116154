//! Compiles `procscope/v1/*.proto` to Rust, without a protoc binary.

use std::{env, fs, path::PathBuf};

use anyhow::Context as _;
use prost::Message as _;

const FILES: [&str; 2] = ["procscope/v1/ingest.proto", "procscope/v1/query.proto"];

fn main() -> anyhow::Result<()> {
    for file in FILES {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["."]).context("compile procscope/v1/*.proto")?;
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").context("cargo sets OUT_DIR")?);
    // Reflection serves the same descriptors that the code is made from.
    fs::write(out_dir.join("descriptors.bin"), descriptors.encode_to_vec())
        .context("write descriptors.bin")?;
    tonic_prost_build::configure()
        .compile_fds(descriptors)
        .context("generate code from procscope/v1/*.proto")
}
