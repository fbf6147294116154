//! A compiler for eBPF: a Rust compiler that can build `core` for `bpfel-unknown-none`, and a bpf-linker that
//! reads what it writes. What was found is recorded in one file, which `agent/build/kernel_programs.rs` reads.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use super::{Outcome, apt, fresh_folder, write_file};
use crate::{
    place::{Place, find_program, is_program},
    shell::{cargo, logged, output, retry},
};

/// Debian's Rust for building its browsers: the newest that Debian 12 has, and with the source of `core`.
const DEBIAN_RUST: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];
/// LLVM of `rustc-web` when this was written; taken only where nothing here can say it.
const DEBIAN_LLVM: u32 = 22;
/// The versions of bpf-linker that are known to do.
const BPF_LINKER: &str = "^0.13";
/// The oldest LLVM that these can be compiled against.
const OLDEST_LLVM: u32 = 21;

/// What `agent/build/kernel_programs.rs` needs to know. The file has exactly these keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Toolchain {
    /// Absolute path.
    rustc: PathBuf,
    /// Absolute path.
    cargo: PathBuf,
    /// Absolute path.
    bpf_linker: PathBuf,
    /// Such as `1.96.0`; when the compiler says another one, the linker may not fit any more.
    rustc_version: String,
    /// What to add to the environment of both.
    env: BTreeMap<String, String>,
}

/// A Rust compiler that has the source of `core`.
struct Compiler {
    rustc: PathBuf,
    cargo: PathBuf,
    env: BTreeMap<String, String>,
    release: String,
    llvm: u32,
}

impl Compiler {
    fn at(rustc: PathBuf, cargo: PathBuf, bootstrap: bool) -> Result<Self> {
        let (release, llvm) = versions(&rustc)?;
        let sysroot = output(Command::new(&rustc).args(["--print", "sysroot"]))?;
        let core = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core/src/lib.rs");
        ensure!(
            core.is_file(),
            "{} has no source of core ({})",
            rustc.display(),
            core.display()
        );
        ensure!(is_program(&cargo), "{} is missing", cargo.display());
        let env = bootstrap
            .then(|| ("RUSTC_BOOTSTRAP".to_owned(), "1".to_owned()))
            .into_iter()
            .collect();
        Ok(Self {
            rustc,
            cargo,
            env,
            release,
            llvm,
        })
    }

    /// A nightly of rustup that has the component `rust-src`.
    fn nightly() -> Option<Self> {
        let toolchains = output(Command::new("rustup").args(["toolchain", "list"])).ok()?;
        toolchains
            .lines()
            .filter_map(|line| line.split_whitespace().next())
            .filter(|name| name.starts_with("nightly"))
            .find_map(|name| {
                let sysroot =
                    output(Command::new("rustup").args(["run", name, "rustc", "--print", "sysroot"])).ok()?;
                let bin = Path::new(sysroot.trim()).join("bin");
                Self::at(bin.join("rustc"), bin.join("cargo"), false).ok()
            })
    }

    /// Debian's, by its full name, since rustup's comes first in most `PATH`s.
    fn debian() -> Result<Self> {
        for (file, package) in [
            ("/usr/bin/rustc", DEBIAN_RUST[0]),
            ("/usr/bin/cargo", DEBIAN_RUST[1]),
        ] {
            let owner = apt::owner_of(file)?;
            ensure!(
                owner == package,
                "{file} belongs to the package {owner}, and {package} is needed"
            );
        }
        let compiler = Self::at("/usr/bin/rustc".into(), "/usr/bin/cargo".into(), true)?;
        ensure!(
            compiler.llvm >= OLDEST_LLVM,
            "{} {} has LLVM {}, and bpf-linker needs {OLDEST_LLVM} or newer: `apt-get update && apt-get install {}` \
             brings it where Debian's security updates are among the sources of apt",
            DEBIAN_RUST[0],
            compiler.release,
            compiler.llvm,
            DEBIAN_RUST.join(" ")
        );
        Ok(compiler)
    }

    fn llvm_packages(&self) -> Vec<String> {
        llvm_packages(self.llvm)
    }

    /// Where set-up puts the linker for this compiler.
    fn own_linker(&self, place: &Place) -> PathBuf {
        place.cache.join(format!("bpf-linker-llvm-{}", self.llvm))
    }

    /// A linker that is here and reads what this compiler writes.
    fn linker_here(&self, place: &Place) -> Option<PathBuf> {
        let own = self.own_linker(place).join("bin/bpf-linker");
        find_program("bpf-linker")
            .into_iter()
            .chain([own])
            .find(|linker| is_program(linker) && self.is_read_by(place, linker).is_ok())
    }

    /// Compiles one function to bitcode and lets the linker make an eBPF object of it.
    fn is_read_by(&self, place: &Place, linker: &Path) -> Result<()> {
        let folder = fresh_folder(&place.cache, "probe")?;
        let source = "#![no_std]\n#[unsafe(no_mangle)]\npub extern \"C\" fn probe(n: u64) -> u64 { n / 3 }\n";
        fs::write(folder.join("probe.rs"), source).context("write probe.rs")?;
        let mut rustc = Command::new(&self.rustc);
        rustc.args([
            "--edition=2024",
            "--crate-type=lib",
            "--emit=llvm-bc",
            "-Cpanic=abort",
            "-Copt-level=2",
        ]);
        output(rustc.args(["probe.rs", "-o", "probe.bc"]).current_dir(&folder))?;
        let mut link = Command::new(linker);
        link.args([
            "--target",
            "bpfel-unknown-none",
            "--export",
            "probe",
            "probe.bc",
            "-o",
            "probe.o",
        ]);
        output(link.current_dir(&folder))?;
        fs::remove_dir_all(&folder).context("remove the probe")
    }

    /// Compiles bpf-linker against the development files of this compiler's LLVM.
    fn install_linker(&self, place: &Place) -> Result<PathBuf> {
        let llvm = PathBuf::from(format!("/usr/lib/llvm-{}", self.llvm));
        if !llvm.join("include/llvm-c").is_dir() {
            apt::install(&self.llvm_packages())?;
        }
        let folder = self.own_linker(place);
        eprintln!("compiling bpf-linker for LLVM {} (about a minute)", self.llvm);
        retry("installing bpf-linker", || {
            let mut install = cargo();
            install.args([
                "install",
                "--locked",
                "--force",
                "bpf-linker",
                "--version",
                BPF_LINKER,
            ]);
            install
                .args(["--no-default-features", "--features"])
                .arg(format!("llvm-{}", self.llvm));
            install.arg("--root").arg(&folder);
            install
                .env("LLVM_PREFIX", &llvm)
                .env(format!("LLVM_SYS_{}1_PREFIX", self.llvm), &llvm);
            install.env("RUSTFLAGS", format!("-L native={}", llvm.join("lib").display()));
            install
                .env_remove("CARGO_TARGET_DIR")
                .env_remove("CARGO_ENCODED_RUSTFLAGS")
                .current_dir(&place.cache);
            logged(&mut install, &place.cache.join("bpf-linker.log"))
        })?;
        let linker = folder.join("bin/bpf-linker");
        self.is_read_by(place, &linker)
            .context("try the new bpf-linker")?;
        Ok(linker)
    }
}

/// The release and the major version of LLVM, from `rustc -vV`.
fn versions(rustc: &Path) -> Result<(String, u32)> {
    let said = output(Command::new(rustc).arg("-vV"))?;
    parse_versions(&said).with_context(|| format!("read the versions that {} -vV says", rustc.display()))
}

fn parse_versions(said: &str) -> Option<(String, u32)> {
    let value = |key: &str| {
        said.lines()
            .find_map(|line| line.strip_prefix(key))
            .map(str::trim)
    };
    let llvm = value("LLVM version:")?.split('.').next()?.parse().ok()?;
    Some((value("release:")?.to_owned(), llvm))
}

/// What bpf-linker is compiled against.
fn llvm_packages(llvm: u32) -> Vec<String> {
    let versioned = [format!("llvm-{llvm}-dev"), format!("libpolly-{llvm}-dev")];
    versioned
        .into_iter()
        .chain(["libzstd-dev", "zlib1g-dev"].map(str::to_owned))
        .collect()
}

/// What an earlier set-up recorded, if all of it is still there.
fn recorded(place: &Place) -> Option<Toolchain> {
    let toolchain: Toolchain = toml::from_str(&fs::read_to_string(place.ebpf_toolchain()).ok()?).ok()?;
    let there = is_program(&toolchain.cargo) && is_program(&toolchain.bpf_linker);
    let (release, _llvm) = versions(&toolchain.rustc).ok()?;
    (there && release == toolchain.rustc_version).then_some(toolchain)
}

/// The Debian packages that the way through Debian lacks; none where there is another way.
pub(super) fn missing_packages(place: &Place) -> Vec<String> {
    if recorded(place).is_some() {
        return Vec::new();
    }
    let (mut missing, llvm, linker) = match Compiler::nightly().map_or_else(Compiler::debian, Ok) {
        Ok(compiler) => (Vec::new(), compiler.llvm, compiler.linker_here(place)),
        // Not there in full, or too old: apt brings the newest that it knows of.
        Err(_error) => (
            DEBIAN_RUST.map(str::to_owned).to_vec(),
            apt::llvm_of(DEBIAN_RUST[0]).unwrap_or(DEBIAN_LLVM),
            None,
        ),
    };
    if linker.is_none() {
        missing.extend(apt::missing(&llvm_packages(llvm)));
    }
    missing
}

/// Finds or completes a toolchain and records it.
pub(super) fn set_up(place: &Place) -> Result<Outcome> {
    if let Some(toolchain) = recorded(place) {
        return Ok(Outcome::Found(describe(&toolchain)));
    }
    let compiler = Compiler::nightly().map_or_else(Compiler::debian, Ok)?;
    let bpf_linker = match compiler.linker_here(place) {
        Some(linker) => linker,
        None => compiler.install_linker(place)?,
    };
    let toolchain = Toolchain {
        rustc: compiler.rustc,
        cargo: compiler.cargo,
        bpf_linker,
        rustc_version: compiler.release,
        env: compiler.env,
    };
    let text = toml::to_string(&toolchain).context("write the toolchain as TOML")?;
    write_file(&place.ebpf_toolchain(), &text)?;
    Ok(Outcome::Installed(describe(&toolchain)))
}

fn describe(toolchain: &Toolchain) -> String {
    let Toolchain {
        rustc,
        rustc_version,
        bpf_linker,
        ..
    } = toolchain;
    format!("{} {rustc_version}, {}", rustc.display(), bpf_linker.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_llvm_is_read_from_what_rustc_says() {
        let said = "rustc 1.96.0 (built from a source tarball)\nrelease: 1.96.0\nLLVM version: 22.1.8\n";
        assert_eq!(parse_versions(said), Some(("1.96.0".to_owned(), 22)));
        assert_eq!(parse_versions("rustc 1.96.0\n"), None);
    }

    #[test]
    fn the_record_has_the_keys_that_the_agents_build_reads() {
        let toolchain = Toolchain {
            rustc: "/usr/bin/rustc".into(),
            cargo: "/usr/bin/cargo".into(),
            bpf_linker: "/cache/bin/bpf-linker".into(),
            rustc_version: "1.96.0".to_owned(),
            env: [("RUSTC_BOOTSTRAP".to_owned(), "1".to_owned())].into(),
        };
        let text = "rustc = \"/usr/bin/rustc\"\ncargo = \"/usr/bin/cargo\"\nbpf_linker = \"/cache/bin/bpf-linker\"\n\
                    rustc_version = \"1.96.0\"\n\n[env]\nRUSTC_BOOTSTRAP = \"1\"\n";
        assert_eq!(toml::to_string(&toolchain).unwrap(), text);
        assert_eq!(toml::from_str::<Toolchain>(text).unwrap(), toolchain);
    }
}
