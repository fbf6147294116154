//! The agent's binary with less than it wants: one clear line, the documented exit code, nothing left behind.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use procscope_tests_kernel::{Program, alone, report, wait_until};

/// The agent's binary beside this test.
fn agent() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let agent = test
        .parent()
        .and_then(|deps| deps.parent())
        .context("a target folder")?
        .join("procscope-agent");
    ensure!(
        agent.exists(),
        "{} is missing: run `cargo build` first",
        agent.display()
    );
    // Everybody may start it, also those who may not look into our folders.
    let open = std::env::temp_dir().join(format!("procscope-agent-test-{}", std::process::id()));
    fs::copy(&agent, &open).with_context(|| format!("copy {}", agent.display()))?;
    Ok(open)
}

fn run(script: &str) -> Result<Output> {
    let agent = agent()?;
    let script = script.replace("AGENT", &agent.display().to_string());
    let output = Command::new("sh")
        .args(["-c", &script])
        .output()
        .context("run sh")?;
    fs::remove_file(&agent)?;
    Ok(output)
}

/// Numbers of the programs that are loaded in this kernel by an agent.
fn programs() -> Result<usize> {
    let output = Command::new("bpftool")
        .args(["prog", "show"])
        .output()
        .context("run bpftool (see cargo xtask setup)")?;
    ensure!(
        output.status.success(),
        "bpftool: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text
        .lines()
        .filter(|line| line.contains("name sched_switch ") || line.contains("name task_iter "))
        .count())
}

/// The kernel frees programs a moment after their last user is gone.
fn nothing_left(before: usize) -> Result<()> {
    wait_until("kernel programs are gone", 10, || {
        programs().is_ok_and(|now| now <= before)
    })
}

fn check_refused(script: &str, says: &[&str]) -> Result<()> {
    let _alone = alone();
    let before = programs()?;
    let output = run(script)?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "{:?}: {error}", output.status);
    let lines: Vec<&str> = error.lines().collect();
    ensure!(lines.len() == 1, "one line, not: {error}");
    for word in says {
        ensure!(lines[0].contains(word), "`{word}` is missing in: {error}");
    }
    nothing_left(before)
}

#[test]
fn without_any_capability_it_names_both() -> Result<()> {
    check_refused(
        "setpriv --reuid=65534 --regid=65534 --clear-groups AGENT sample",
        &["procscope-agent: error: ", "CAP_BPF and CAP_PERFMON"],
    )
}

#[test]
fn without_perfmon_it_names_that_one() -> Result<()> {
    check_refused(
        "setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all,+bpf --ambient-caps=-all,+bpf \
         --bounding-set=-all,+bpf AGENT sample",
        &["grant CAP_PERFMON"],
    )
}

#[test]
fn without_kernel_types_it_says_so() -> Result<()> {
    check_refused(
        "unshare -m sh -c 'mount -t tmpfs none /sys/kernel/btf && exec AGENT sample'",
        &["BTF"],
    )
}

#[test]
fn in_a_pid_namespace_of_its_own_it_refuses_to_mix_numbers() -> Result<()> {
    check_refused("unshare -pf --mount-proc AGENT sample", &["hostPID"])
}

#[test]
fn in_a_time_namespace_of_its_own_it_refuses_to_mix_clocks() -> Result<()> {
    check_refused(
        "unshare -T --fork --boottime 100000 AGENT sample",
        &["time namespace", "boottime 100000"],
    )
}

#[test]
fn the_two_capabilities_are_enough() -> Result<()> {
    let _alone = alone();
    let before = programs()?;
    let caps = "-all,+bpf,+perfmon";
    let output = run(&format!(
        "setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps={caps} --ambient-caps={caps} \
         --bounding-set={caps} AGENT sample --interval 200ms --count 2"
    ))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{error}");
    let lines: Vec<serde_json::Value> = String::from_utf8(output.stdout)?
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()
        .context("each line is one JSON object")?;
    ensure!(lines.iter().filter(|line| line.get("audit").is_some()).count() == 2);
    let own = std::process::id();
    ensure!(
        lines
            .iter()
            .any(|line| line["pid"] == own && line["rss_bytes"].is_u64()),
        "this test is missing"
    );
    nothing_left(before)
}

/// Once it has read what ran before it, it is as harmless as any program, also when root started it.
#[test]
fn after_the_first_interval_the_agent_holds_no_capability_and_goes_on() -> Result<()> {
    let _alone = alone();
    let agent = agent()?;
    let mut child = Command::new(&agent)
        .args(["sample", "--interval", "100ms", "--count", "0"])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("piped")?).lines();
    let mut interval = || -> Result<()> {
        loop {
            let line = lines.next().context("it goes on")??;
            if line.contains("\"audit\"") {
                return Ok(());
            }
        }
    };
    interval()?;
    // It gives up when the first interval is written.
    interval()?;
    let status = fs::read_to_string(format!("/proc/{}/status", child.id()))?;
    let held = |set: &str| -> Result<u64> {
        let mask = status
            .lines()
            .find_map(|line| line.strip_prefix(set))
            .context("a set")?;
        Ok(u64::from_str_radix(mask.trim(), 16)?)
    };
    // Where the kernel hides processes, their I/O is read from /proc.
    let trace = 1 << 19;
    let (effective, permitted) = (held("CapEff:")?, held("CapPrm:")?);
    let may_not_gain = status.contains("NoNewPrivs:\t1");
    for _interval in 0..3 {
        interval()?;
    }
    child.kill()?;
    child.wait()?;
    fs::remove_file(&agent)?;
    ensure!(
        effective & !trace == 0 && permitted & !trace == 0 && may_not_gain,
        "{status}"
    );
    Ok(())
}

#[test]
fn check_says_what_is_missing_and_how_to_mend_it() -> Result<()> {
    let _alone = alone();
    let good = run("AGENT check")?;
    ensure!(good.status.success(), "{}", String::from_utf8_lossy(&good.stdout));
    let bad = run("setpriv --reuid=65534 --regid=65534 --clear-groups AGENT check")?;
    let text = String::from_utf8_lossy(&bad.stdout);
    ensure!(
        bad.status.code() == Some(1) && text.contains("MISSING  CAP_BPF: not held -> "),
        "{text}"
    );
    Ok(())
}

#[test]
fn a_wrong_key_or_interval_is_wrong_usage() -> Result<()> {
    let _alone = alone();
    for (script, says) in [
        (
            "printf 'intervall = \"1s\"\\n' > AGENT.toml; AGENT --config AGENT.toml sample; s=$?; rm AGENT.toml; exit $s",
            "`intervall`",
        ),
        ("AGENT sample --interval 50ms", "100ms"),
        ("AGENT run", "--token-file"),
    ] {
        let output = run(script)?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.code() == Some(2),
            "{script}: {:?} {error}",
            output.status
        );
        ensure!(
            error.lines().count() == 1 && error.contains(says),
            "{script}: {error}"
        );
    }
    Ok(())
}

/// Runs the agent with these arguments in a control group that has the memory which its unit grants. What it used and
/// what is granted, in bytes.
fn run_within_its_memory(arguments: &str) -> Result<(u64, u64)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let unit = fs::read_to_string(folder.join("../../deploy/systemd/procscope-agent.service"))?;
    let granted = unit
        .lines()
        .find_map(|line| line.strip_prefix("MemoryMax=")?.strip_suffix('M'))
        .context("MemoryMax=…M in the agent's unit")?;
    let granted = granted.parse::<u64>()? << 20;
    let (group, limit, peak) = [
        (
            "/sys/fs/cgroup/memory",
            "memory.limit_in_bytes",
            "memory.max_usage_in_bytes",
        ),
        ("/sys/fs/cgroup", "memory.max", "memory.peak"),
    ]
    .into_iter()
    .find_map(|(root, limit, peak)| {
        let folder = PathBuf::from(root).join(format!("procscope-memory-{}", std::process::id()));
        let made = PathBuf::from(root).join("cgroup.procs").exists() && fs::create_dir(&folder).is_ok();
        made.then_some((folder, limit, peak))
    })
    .context("no control group for memory can be made here")?;
    fs::write(group.join(limit), granted.to_string())?;
    let output = run(&format!(
        "echo $$ > {}/cgroup.procs && exec timeout 60 AGENT {arguments}",
        group.display()
    ))?;
    let used = fs::read_to_string(group.join(peak))?.trim().parse::<u64>()?;
    fs::remove_dir(&group)?;
    ensure!(
        output.status.success(),
        "{:?} with {} MiB: {}",
        output.status,
        used >> 20,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok((used, granted))
}

/// What the kernel keeps for the maps, and what reading its types took, count against the agent's control group.
#[test]
fn the_agent_fits_into_the_memory_that_its_unit_grants() -> Result<()> {
    let _alone = alone();
    let (used, granted) = run_within_its_memory("sample --interval 100ms --count 20")?;
    report::figure(
        "memory of the agent's control group, maps and start included",
        "the group's own peak",
        &format!("{} MiB", used >> 20),
        &format!("{} MiB, the limit in its unit", granted >> 20),
    )
}

/// Every life of an interval is kept until its end, so an interval ends early when there are many. Its length alone
/// would make this last for ten minutes.
#[test]
fn a_long_interval_full_of_short_lives_does_not_take_more() -> Result<()> {
    let _alone = alone();
    let mut storm = Program::start(env!("CARGO_BIN_EXE_procscope-tests-kernel"), "vfork-storm 60000")?;
    let outcome = run_within_its_memory("sample --interval 60s --count 10");
    ensure!(storm.is_running(), "the storm was over");
    drop(storm);
    let (used, granted) = outcome?;
    report::figure(
        "memory of the agent's control group in a storm of vfork, an interval of 60 s",
        "the group's own peak",
        &format!("{} MiB", used >> 20),
        &format!("{} MiB, the limit in its unit", granted >> 20),
    )
}
