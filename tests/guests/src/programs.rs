//! The tests of `tests/kernel` and the agent, compiled as static programs into the folder that the suite `deploy`
//! uses, too.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// What runs in a guest, by the file in `tests/kernel/tests` that it stands in: all that depends on the kernel and
/// not on its speed. What is left out there measures rates, or fills the ring buffer with thousands of lives.
const CORE: &[(&str, &[&str])] = &[
    (
        "cpu_time",
        &[
            "a_hog_that_never_gives_up_its_cpu_is_exact_while_it_runs_and_at_its_end",
            "a_short_burner_is_as_exact_as_a_long_one",
            "short_lives_are_all_told_with_their_codes_and_their_sum",
            "threads_that_come_and_go_stay_in_the_total_and_make_no_spike",
            "attaching_in_the_middle_puts_no_past_into_an_interval",
        ],
    ),
    (
        "lifecycle",
        &[
            "an_exit_tells_its_code_or_its_signal",
            "a_process_has_its_parent_user_and_program",
            "a_leader_that_exits_first_does_not_end_the_process",
            "an_exec_from_another_thread_keeps_the_process_and_its_total",
            "a_zombie_is_told_once_when_it_ends",
            "a_number_that_is_used_again_is_another_process",
        ],
    ),
    (
        "memory",
        &[
            "what_is_touched_is_resident_and_is_the_peak",
            "what_was_freed_between_two_samples_shows_as_peak_of_that_interval_only",
            "a_kernel_thread_has_no_memory_and_says_so",
        ],
    ),
    (
        "facts",
        &[
            "memory_is_exact_to_the_page_and_told_by_kind",
            "descriptors_and_io_are_counted",
            "user_and_system_time_add_up_and_tell_where_it_was_used",
            "state_waits_numbers_and_parents_are_those_of_proc",
        ],
    ),
    (
        "audit",
        &[
            "the_books_balance_under_mixed_load",
            "the_sum_of_processes_is_what_their_control_group_says",
        ],
    ),
    (
        "clock",
        &["a_wall_clock_that_jumps_changes_no_duration_and_no_identity"],
    ),
    (
        "privilege",
        &[
            "the_two_capabilities_are_enough",
            "without_any_capability_it_names_both",
            "without_perfmon_it_names_that_one",
            "without_kernel_types_it_says_so",
            "in_a_pid_namespace_of_its_own_it_refuses_to_mix_numbers",
            "after_the_first_interval_the_agent_holds_no_capability_and_goes_on",
        ],
    ),
];

/// One test of one program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Test {
    /// The program that holds it.
    pub program: PathBuf,
    /// Its name.
    pub name: &'static str,
}

/// What a guest is given.
#[derive(Debug)]
pub struct Programs {
    /// Programs that the tests start, where these look for them.
    pub helpers: Vec<PathBuf>,
    /// The tests, in their order.
    pub tests: Vec<Test>,
}

/// Compiles what is not compiled yet.
///
/// # Errors
/// When cargo fails, or a test is not where `CORE` says.
pub fn build() -> Result<Programs> {
    // One package at a time: together they would choose other features for what they depend on.
    let agent = executables(&["--package", "procscope-agent"])?;
    let mut selection = vec!["--package", "procscope-tests-kernel", "--bins"];
    for (file, _tests) in CORE {
        selection.extend(["--test", file]);
    }
    let built = executables(&selection)?;
    let mut tests = Vec::new();
    for (file, names) in CORE {
        let (_name, program) = built
            .iter()
            .find(|(name, _program)| name == file)
            .with_context(|| format!("cargo made no program of tests/kernel/tests/{file}.rs"))?;
        let has = listed(program)?;
        for &name in *names {
            ensure!(
                has.iter().any(|known| known == name),
                "tests/kernel/tests/{file}.rs has no test {name}"
            );
            tests.push(Test {
                program: program.clone(),
                name,
            });
        }
    }
    let helpers = agent
        .into_iter()
        .chain(built)
        .filter(|(name, _program)| name.starts_with("procscope-"))
        .map(|(_name, program)| program)
        .collect();
    Ok(Programs { helpers, tests })
}

/// The program of `tests/kernel` that others start.
///
/// # Errors
/// When cargo fails.
pub fn helper() -> Result<PathBuf> {
    let built = executables(&["--package", "procscope-tests-kernel", "--bins"])?;
    built
        .into_iter()
        .find_map(|(name, program)| (name == "procscope-tests-kernel").then_some(program))
        .context("cargo made no program procscope-tests-kernel")
}

/// Names of the tests in a program; it runs on this machine as in a guest.
fn listed(program: &Path) -> Result<Vec<String>> {
    let said = output(Command::new(program).args(["--list", "--format", "terse"]))?;
    Ok(said
        .lines()
        .filter_map(|line| line.strip_suffix(": test").map(str::to_owned))
        .collect())
}

/// Compiles a selection and returns its programs by the names of their targets.
fn executables(selection: &[&str]) -> Result<Vec<(String, PathBuf)>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .context("find the workspace above tests/guests")?;
    let cargo = env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
    let target = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    let mut build = Command::new(cargo);
    build
        .current_dir(root)
        .args(["build", "--locked", "--message-format=json-render-diagnostics"])
        .args(selection)
        .args(["--config", "tests/static.toml", "--target", &target])
        .arg("--target-dir")
        .arg(target_folder(root))
        .env("RUSTFLAGS", "-C target-feature=+crt-static");
    // Build scripts that look at these would run again whenever they are set or not, and much be compiled again.
    for (name, _value) in env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
        {
            build.env_remove(name);
        }
    }
    let said = output(&mut build)?;
    let mut found = Vec::new();
    for line in said.lines() {
        let message: Value =
            serde_json::from_str(line).with_context(|| format!("read cargo's line `{line}`"))?;
        if let (Some(name), Some(program)) =
            (message["target"]["name"].as_str(), message["executable"].as_str())
        {
            found.push((name.to_owned(), PathBuf::from(program)));
        }
    }
    Ok(found)
}

/// Where static programs are compiled.
fn target_folder(root: &Path) -> PathBuf {
    root.join("target/static")
}

/// Runs a command with its errors on our stderr and returns what it wrote.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("start {}", command.get_program().display()))?;
    ensure!(
        output.status.success(),
        "{} failed: {}",
        command.get_program().display(),
        output.status
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
