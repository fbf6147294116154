//! Compiles `bench-ebpf` as `agent/build.rs` compiles `agent-ebpf`: the same compiler, the same flags.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

/// What `cargo xtask setup` wrote down.
#[derive(serde::Deserialize)]
struct Toolchain {
    rustc: PathBuf,
    cargo: PathBuf,
    bpf_linker: PathBuf,
    #[serde(default)]
    env: BTreeMap<String, String>,
}

const REMEDY: &str = "run `cargo xtask setup` once, it finds or installs what compiles the kernel programs";

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(line) => {
            println!("cargo::error={line}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    let manifest_dir = path_from_env("CARGO_MANIFEST_DIR")?;
    let out_dir = path_from_env("OUT_DIR")?;
    let workspace = manifest_dir.parent().ok_or("the bench's folder has no parent")?;
    let cache = env::var_os("PROCSCOPE_CACHE")
        .or_else(|| {
            Some(
                Path::new(&env::var_os("XDG_CACHE_HOME")?)
                    .join("procscope")
                    .into(),
            )
        })
        .or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".cache/procscope").into()))
        .ok_or("HOME is not set: set PROCSCOPE_CACHE to a folder")?;
    let file = Path::new(&cache).join("ebpf-toolchain.toml");
    for path in ["bench-ebpf/src", "bench-ebpf/Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", workspace.join(path).display());
    }
    println!("cargo::rerun-if-changed={}", file.display());
    println!("cargo::rerun-if-env-changed=PROCSCOPE_CACHE");
    let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}: {REMEDY}", file.display()))?;
    let toolchain: Toolchain = toml::from_str(&text)
        .map_err(|error| format!("{}: {}: {REMEDY}", file.display(), error.message()))?;
    compile(workspace, &out_dir, &toolchain)
}

/// Runs the other cargo on `bench-ebpf`, in the target folder of `agent-ebpf`, and nothing of this build's settings.
fn compile(workspace: &Path, out_dir: &Path, toolchain: &Toolchain) -> Result<(), String> {
    let target_arch =
        env::var("CARGO_CFG_TARGET_ARCH").map_err(|error| format!("CARGO_CFG_TARGET_ARCH: {error}"))?;
    let target_dir = workspace.join("target/agent-ebpf");
    let flags = [
        format!("-Clinker={}", toolchain.bpf_linker.display()),
        "-Clink-arg=--btf".to_owned(),
        "-Cdebuginfo=2".to_owned(),
        "-Cpanic=abort".to_owned(),
        format!("--cfg=bpf_target_arch=\"{target_arch}\""),
    ];
    let mut cargo = Command::new(&toolchain.cargo);
    for (name, _value) in env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_") && name != "CARGO_HOME" || name.starts_with("RUST") || name == "CARGO" {
            cargo.env_remove(&*name);
        }
    }
    let output = cargo
        .current_dir(workspace.join("bench-ebpf"))
        .args(["build", "--release", "--locked", "--package", "bench-ebpf"])
        .args(["-Z", "build-std=core", "--target", "bpfel-unknown-none"])
        .arg("--target-dir")
        .arg(&target_dir)
        .env("RUSTC", &toolchain.rustc)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .env("CARGO_PROFILE_RELEASE_LTO", "fat")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .envs(&toolchain.env)
        .output()
        .map_err(|error| format!("could not run {}: {error}: {REMEDY}", toolchain.cargo.display()))?;
    if !output.status.success() {
        for line in String::from_utf8_lossy(&output.stderr).lines() {
            println!("cargo::warning={line}");
        }
        return Err("the programs to compare with did not compile (see the lines above)".to_owned());
    }
    let object = target_dir.join("bpfel-unknown-none/release/bench-ebpf");
    fs::copy(&object, out_dir.join("bench-ebpf.o"))
        .map_err(|error| format!("could not copy {}: {error}", object.display()))?;
    Ok(())
}

fn path_from_env(name: &str) -> Result<PathBuf, String> {
    env::var_os(name)
        .map(PathBuf::from)
        .ok_or_else(|| format!("cargo did not set {name}"))
}
