//! The units: systemd reads them without a word, they are as closed as they claim, the programs know their options,
//! and the agent works with exactly the privilege its unit grants.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{self, Command},
};

use crate::tools::{check_words, deploy, files, need_root, program, run, stdout, tool};

/// Greatest exposure that `systemd-analyze security` may find, in tenths of its points, 0 (closed) to 100 (open).
const EXPOSURE_MAX: [(&str, &str); 3] = [
    ("procscope-agent.service", "22"),
    ("procscope-collector.service", "15"),
    ("procscope-engine.service", "15"),
];

/// A root folder with the units, the system's own targets, and something to execute at each `ExecStart=`.
fn root_with_units() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let units = root.path().join("etc/systemd/system");
    let targets = root.path().join("usr/lib/systemd/system");
    fs::create_dir_all(&units).unwrap();
    fs::create_dir_all(&targets).unwrap();
    for target in files(Path::new("/usr/lib/systemd/system"), ".target") {
        fs::copy(&target, targets.join(target.file_name().unwrap())).unwrap();
    }
    for unit in files(&deploy("systemd"), ".service") {
        fs::copy(&unit, units.join(unit.file_name().unwrap())).unwrap();
        for line in values(&unit, "ExecStart") {
            let program = root
                .path()
                .join(line.split(' ').next().unwrap().trim_start_matches('/'));
            fs::create_dir_all(program.parent().unwrap()).unwrap();
            fs::write(&program, "#!/bin/sh\n").unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
    root
}

/// What a unit sets a key to, line by line.
fn values(unit: &Path, key: &str) -> Vec<String> {
    fs::read_to_string(unit)
        .unwrap()
        .lines()
        .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='))
        .map(str::to_owned)
        .collect()
}

fn agent_unit() -> PathBuf {
    deploy("systemd").join("procscope-agent.service")
}

#[test]
fn systemd_reads_the_units_without_a_word() {
    let root = root_with_units();
    for unit in files(&deploy("systemd"), ".service") {
        let output = run(Command::new(tool("systemd-analyze"))
            .args(["verify", "--man=no"])
            .arg(format!("--root={}", root.path().display()))
            .arg(unit.file_name().unwrap()));
        assert!(
            output.stderr.is_empty(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn the_units_are_as_closed_as_they_claim() {
    let root = root_with_units();
    assert_eq!(
        files(&deploy("systemd"), ".service").len(),
        EXPOSURE_MAX.len(),
        "a unit without a bound"
    );
    for (unit, exposure_max) in EXPOSURE_MAX {
        run(Command::new(tool("systemd-analyze"))
            .args(["security", "--no-pager", "--offline=true"])
            .arg(format!("--threshold={exposure_max}"))
            .arg(format!("--root={}", root.path().display()))
            .arg(unit));
    }
}

#[test]
fn the_programs_know_the_options_of_their_units() {
    for unit in files(&deploy("systemd"), ".service") {
        let name = unit.file_stem().unwrap().to_str().unwrap().to_owned();
        let mut words: Vec<String> = values(&unit, "ExecStart")[0]
            .split(' ')
            .skip(1)
            .map(str::to_owned)
            .collect();
        words.extend(values(&unit, "Environment"));
        check_words(&name, &words);
    }
}

#[test]
fn the_agent_samples_with_what_its_unit_grants() {
    need_root();
    let granted = values(&agent_unit(), "AmbientCapabilities");
    assert_eq!(granted, ["CAP_BPF CAP_PERFMON"]);
    assert_eq!(values(&agent_unit(), "CapabilityBoundingSet"), granted);
    let names = granted[0].to_lowercase().replace("cap_", "+").replace(' ', ",");
    let capabilities = format!("-all,{names}");

    // The folder of the build may be closed to other users.
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let agent = folder.path().join("procscope-agent");
    fs::copy(program("procscope-agent"), &agent).unwrap();

    let lines = stdout(
        Command::new(tool("setpriv"))
            .args([
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                "--no-new-privs",
            ])
            .arg(format!("--inh-caps={capabilities}"))
            .arg(format!("--ambient-caps={capabilities}"))
            .arg(format!("--bounding-set={capabilities}"))
            .arg(agent)
            .args([
                "sample",
                "--interval",
                "500ms",
                "--count",
                "1",
                "--format",
                "json",
            ])
            .current_dir("/"),
    );
    let own = format!("\"pid\":{},", process::id());
    assert!(
        lines.lines().any(|line| line.contains(&own)),
        "this test is not in\n{lines}"
    );
}
