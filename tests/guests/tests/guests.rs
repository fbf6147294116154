//! The tests of the kernel side on the kernels of Debian's clouds, two machines at a time. With `--no-run` it only
//! compiles what they run. Closes each guest with a line as test programs do, so that it is counted.

use std::{
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use procscope_tests_guests::{
    cache,
    image::image,
    machine::{Heard, Machine},
    programs::{self, Programs},
};

/// The kernels, by the names that set-up gives them: the oldest that is supported, and the one after.
const KERNELS: &[&str] = &["6.1", "6.12"];

/// A guest that says no more by then is ended. The suite has five minutes.
const TIME: Duration = Duration::from_secs(280);

/// Times that a guest is started whose kernel dies before it has started anything: emulation on several threads can break
/// a kernel that rewrites its own code, which it does as it starts.
const STARTS_MAX: u32 = 3;

/// Lines of a dead guest's console that are shown.
const LAST_WORDS: usize = 40;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("guests: error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Whether all tests passed.
fn run() -> Result<bool> {
    let programs = programs::build()?;
    if env::args().any(|argument| argument == "--no-run") {
        return Ok(true);
    }
    let cache = cache()?;
    let folder = env::temp_dir().join(format!("procscope-guests-{}", std::process::id()));
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let file = folder.join("image");
    fs::write(&file, image(&cache, &programs)?).with_context(|| format!("write {}", file.display()))?;
    let outcomes: Vec<Result<Outcome>> = thread::scope(|scope| {
        let guests: Vec<_> = KERNELS
            .iter()
            .map(|kernel| scope.spawn(|| guest(&cache, kernel, &folder, &file, &programs)))
            .collect();
        guests
            .into_iter()
            .map(|guest| {
                guest
                    .join()
                    .unwrap_or_else(|_panic| Err(anyhow::anyhow!("its thread panicked")))
            })
            .collect()
    });
    fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
    let mut good = true;
    for (kernel, outcome) in KERNELS.iter().zip(outcomes) {
        let outcome = outcome.unwrap_or_else(|error| {
            say(&format!("{kernel}: error: {error:#}"));
            Outcome {
                passed: 0,
                failed: programs.tests.len(),
                took: Duration::ZERO,
            }
        });
        good &= outcome.failed == 0;
        say(&format!(
            "test result: {}. {} passed; {} failed; 0 ignored; guest {kernel}, finished in {:.0} s",
            if outcome.failed == 0 { "ok" } else { "FAILED" },
            outcome.passed,
            outcome.failed,
            outcome.took.as_secs_f64()
        ));
    }
    Ok(good)
}

/// What a guest came to.
struct Outcome {
    passed: usize,
    failed: usize,
    took: Duration,
}

/// Runs one guest to its end. Tests that it said nothing of have failed.
fn guest(cache: &Path, kernel: &str, folder: &Path, image: &Path, programs: &Programs) -> Result<Outcome> {
    let start = Instant::now();
    let own: PathBuf = folder.join(kernel);
    fs::create_dir_all(&own).with_context(|| format!("create {}", own.display()))?;
    let boot = || Machine::start(cache, &cache.join("kernels").join(kernel), image, None, &own);
    let (mut machine, mut starts) = (boot()?, 1);
    let (mut passed, mut failed) = (0, 0);
    let mut test_start = Instant::now();
    let mut up = false;
    let end = loop {
        let line = match machine.hear(start + TIME) {
            Heard::Line(line) => line,
            Heard::End if !up && starts < STARTS_MAX => {
                for line in machine.last_words(3) {
                    say(&format!("{kernel}: console | {line}"));
                }
                say(&format!(
                    "{kernel}: it died while it started; it is started again"
                ));
                machine = boot()?;
                starts += 1;
                continue;
            }
            Heard::End => break "it ended before its tests did",
            Heard::Late => break "its time is over",
        };
        let Some(message) = line.strip_prefix("GUEST ") else {
            // What a test that failed has printed.
            if !line.is_empty() {
                say(&format!("{kernel}: | {line}"));
            }
            continue;
        };
        let (word, rest) = message.split_once(' ').unwrap_or((message, ""));
        let seconds = test_start.elapsed().as_secs_f64();
        match word {
            "up" => {
                up = true;
                say(&format!("{kernel}: up {rest}"));
            }
            "test" => test_start = Instant::now(),
            "ok" => {
                passed += 1;
                say(&format!("{kernel}: ok {rest} ({seconds:.1} s)"));
            }
            "failed" => {
                failed += 1;
                say(&format!("{kernel}: FAILED {rest} ({seconds:.1} s)"));
            }
            "done" => break "",
            _ => say(&format!("{kernel}: {word} {rest}")),
        }
    };
    let silent = programs.tests.len().saturating_sub(passed + failed);
    if silent > 0 {
        say(&format!("{kernel}: {end}: {silent} tests said nothing"));
        for line in machine.last_words(LAST_WORDS) {
            say(&format!("{kernel}: console | {line}"));
        }
    }
    Ok(Outcome {
        passed,
        failed: programs.tests.len() - passed,
        took: start.elapsed(),
    })
}

/// Prints a line at once.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody listens any more: the exit code still tells.
    drop(writeln!(out, "{line}").and_then(|()| out.flush()));
}
