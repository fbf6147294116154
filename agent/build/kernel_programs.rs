//! Compiles programs for the kernel with the tools that `cargo xtask setup` found: those of the agent, and those that
//! `bench` compares them with.

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

/// Compiles a package of the workspace to `PACKAGE.o` in the build's own folder, again when one of its parts changes.
pub(crate) fn compile(package: &str, parts: &[&str]) -> ExitCode {
    match build(package, parts) {
        Ok(()) => ExitCode::SUCCESS,
        Err(line) => {
            println!("cargo::error={line}");
            ExitCode::FAILURE
        }
    }
}

fn build(package: &str, parts: &[&str]) -> Result<(), String> {
    let manifest_dir = path_from_env("CARGO_MANIFEST_DIR")?;
    let out_dir = path_from_env("OUT_DIR")?;
    let workspace = manifest_dir
        .parent()
        .ok_or_else(|| format!("{} has no parent", manifest_dir.display()))?;
    let file = toolchain_file()?;
    for part in parts {
        for path in ["src", "Cargo.toml"] {
            println!(
                "cargo::rerun-if-changed={}",
                workspace.join(part).join(path).display()
            );
        }
    }
    println!("cargo::rerun-if-changed={}", file.display());
    println!("cargo::rerun-if-env-changed=PROCSCOPE_CACHE");
    let text = fs::read_to_string(&file).map_err(|error| {
        format!(
            "no compiler for the kernel programs is known ({}: {error}): {REMEDY}",
            file.display()
        )
    })?;
    let toolchain: Toolchain = toml::from_str(&text)
        .map_err(|error| format!("{}: {}: {REMEDY}", file.display(), error.message()))?;
    for tool in [&toolchain.rustc, &toolchain.cargo, &toolchain.bpf_linker] {
        if !tool.exists() {
            return Err(format!("{} is gone: {REMEDY}", tool.display()));
        }
    }
    run_cargo(package, workspace, &out_dir, &toolchain)
}

/// Runs the other cargo on the package, with a target folder of its own and nothing of this build's settings.
fn run_cargo(package: &str, workspace: &Path, out_dir: &Path, toolchain: &Toolchain) -> Result<(), String> {
    let target_arch =
        env::var("CARGO_CFG_TARGET_ARCH").map_err(|error| format!("CARGO_CFG_TARGET_ARCH: {error}"))?;
    // One folder for all profiles and targets of this build: the object is the same, and is compiled once. The
    // other cargo locks it.
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
        .current_dir(workspace.join(package))
        .args(["build", "--release", "--locked", "--package", package])
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
        return Err(format!("{package} did not compile (see the lines above)"));
    }
    let object = target_dir.join("bpfel-unknown-none/release").join(package);
    fs::copy(&object, out_dir.join(format!("{package}.o")))
        .map_err(|error| format!("could not copy {}: {error}", object.display()))?;
    Ok(())
}

/// Where `cargo xtask setup` writes down what it found.
fn toolchain_file() -> Result<PathBuf, String> {
    let cache = match (
        env::var_os("PROCSCOPE_CACHE"),
        env::var_os("XDG_CACHE_HOME"),
        env::var_os("HOME"),
    ) {
        (Some(cache), _, _) => PathBuf::from(cache),
        (None, Some(cache), _) => PathBuf::from(cache).join("procscope"),
        (None, None, Some(home)) => PathBuf::from(home).join(".cache/procscope"),
        (None, None, None) => return Err("HOME is not set: set PROCSCOPE_CACHE to a folder".to_owned()),
    };
    Ok(cache.join("ebpf-toolchain.toml"))
}

fn path_from_env(name: &str) -> Result<PathBuf, String> {
    env::var_os(name)
        .map(PathBuf::from)
        .ok_or_else(|| format!("cargo did not set {name}"))
}
