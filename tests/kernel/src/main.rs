//! Programs whose use is known: what the tests of the kernel side run and measure.
//!
//! Each prints what the kernel says of it as `key value` lines, and waits for a line on its input where a test
//! wants to look at it.

mod spool;
mod storms;

use std::{
    any::Any,
    ffi::{CString, OsString},
    fs,
    hint::black_box,
    io::{self, BufRead as _, Read as _, Write as _},
    os::unix::ffi::OsStrExt as _,
    path::Path,
    process::{Command, ExitCode},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use procscope_tests_kernel::children_cpu_ns;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let words: Vec<_> = arguments
        .iter()
        .map(|argument| argument.to_string_lossy())
        .collect();
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    let outcome = match *words {
        // Has a name that no terminal should see.
        ["name", _] => take_name(arguments[1].as_bytes()),
        _ => run(&words),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(io::stderr(), "{error:#}"));
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &[&str]) -> Result<()> {
    match *arguments {
        // Uses one CPU for each thread and never gives it up by itself.
        ["burn", milliseconds, threads] => {
            burn(Duration::from_millis(milliseconds.parse()?), threads.parse()?)
        }
        // The first thread exits at once, another burns on.
        ["leader-exits-first", milliseconds] => {
            let time = Duration::from_millis(milliseconds.parse()?);
            thread::spawn(move || {
                spin(time);
                // SAFETY: ends the whole process, as exit(3) would.
                unsafe { libc::_exit(5) }
            });
            // SAFETY: ends this thread alone; nothing of it is used afterwards.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
            bail!("the first thread is still there")
        }
        // Burns in the first thread, then calls execve from another.
        ["exec-from-thread", before, after] => {
            spin(Duration::from_millis(before.parse()?));
            let after = after.to_owned();
            let caller = thread::spawn(move || -> io::Error {
                use std::os::unix::process::CommandExt as _;
                spin(Duration::from_millis(30));
                Command::new("/proc/self/exe").args(["burn", &after, "1"]).exec()
            });
            let error = caller
                .join()
                .map_err(|_panic| anyhow::anyhow!("the caller panicked"))?;
            Err(error).context("execve from a thread")
        }
        // Threads that burn a little and end, one after another.
        ["threads", count, milliseconds] => {
            let time = Duration::from_millis(milliseconds.parse()?);
            for _thread in 0..count.parse::<u32>()? {
                thread::spawn(move || spin(time))
                    .join()
                    .map_err(|_panic| anyhow::anyhow!("a thread panicked"))?;
            }
            Ok(())
        }
        // Touches so many MiB, says so, and keeps or frees them before it waits.
        ["touch", mib, keep] => touch(mib.parse()?, keep == "keep"),
        // Writes a spool until the power is cut, or reads what is left of one.
        ["spool", "write", folder] => spool::write(Path::new(folder)),
        ["spool", "read", folder] => spool::read(Path::new(folder)),
        // Runs a program so many times, one after another, and says what its children used.
        ["spawn", count, program] => {
            for _run in 0..count.parse::<u32>()? {
                Command::new(program)
                    .status()
                    .with_context(|| format!("run {program}"))?;
            }
            say("children_cpu_ns", children_cpu_ns()?)
        }
        // The same, and every run is the process of one number; says which.
        ["reuse", count, program] => reuse(count.parse()?, program),
        // A child that has ended and is not reaped until the test says so.
        ["zombie", milliseconds] => {
            let mut child = Command::new("/proc/self/exe")
                .args(["burn", milliseconds, "1"])
                .spawn()?;
            say("child", child.id().into())?;
            wait_for_a_line()?;
            child.wait()?;
            say("reaped", 1)?;
            wait_for_a_line()
        }
        // Opens so many files and keeps them; reads 1,000 and writes 500 bytes through each, in one call each.
        ["files", count] => {
            say("ready", 1)?;
            wait_for_a_line()?;
            let mut open = Vec::new();
            for _file in 0..count.parse::<u32>()? {
                let mut file = fs::OpenOptions::new().read(true).write(true).open("/dev/zero")?;
                file.read_exact(&mut [0; 1000])?;
                file.write_all(&[0; 500])?;
                open.push(file);
            }
            say("open", u64::try_from(open.len())?)?;
            wait_for_a_line()
        }
        // Asks the kernel for so long for what costs it more than us.
        ["kernel", milliseconds] => {
            let end = thread_clock() + Duration::from_millis(milliseconds.parse()?);
            while thread_clock() < end {
                drop(fs::read("/proc/self/maps")?);
            }
            Ok(())
        }
        // Maps memory, says where, and sleeps; then works for so long, and sleeps again.
        ["untouched", mib, milliseconds] => {
            sleep_beside_memory(mib.parse()?, Duration::from_millis(milliseconds.parse()?))
        }
        // The first thread sleeps for ever. Another gives it a name, opens files, and opens one more and ends.
        ["first-thread-sleeps", name] => sleep_beside_a_thread(name.to_owned()),
        ["exit", code] => std::process::exit(code.parse()?),
        ["pause", ..] => {
            say("ready", 1)?;
            wait_for_a_line()
        }
        _ => storms::run(arguments).unwrap_or_else(|| bail!("no such program: {arguments:?}")),
    }
}

fn sleep_beside_memory(mib: usize, work: Duration) -> Result<()> {
    let memory = Mapping::new(mib << 20)?;
    say("address", u64::try_from(memory.start.expose_provenance())?)?;
    wait_for_a_line()?;
    spin(work);
    say("worked", 1)?;
    wait_for_a_line()
}

fn sleep_beside_a_thread(name: String) -> ! {
    thread::spawn(move || {
        let done: Result<()> = (|| {
            say("ready", 1)?;
            wait_for_a_line()?;
            fs::write(format!("/proc/self/task/{}/comm", std::process::id()), name)?;
            say("named", 1)?;
            for count in [5, 1] {
                wait_for_a_line()?;
                for _file in 0..count {
                    std::mem::forget(fs::File::open("/dev/null")?);
                }
                say("open", count)?;
            }
            Ok(())
        })();
        if done.is_err() {
            std::process::exit(2);
        }
    });
    loop {
        // SAFETY: a plain system call.
        unsafe { libc::pause() };
    }
}

/// Why a thread did not come to its end.
fn panicked(_panic: Box<dyn Any + Send>) -> anyhow::Error {
    anyhow::anyhow!("a thread panicked")
}

/// Runs `program` so many times as the process of one number: that of the first run, which the kernel chose.
fn reuse(count: u32, program: &str) -> Result<()> {
    let path = CString::new(program)?;
    let mut first = Command::new(program)
        .spawn()
        .with_context(|| format!("run {program}"))?;
    let pid = first.id().cast_signed();
    first.wait()?;
    for _run in 1..count {
        // SAFETY: all bits zero is a value: no flags, nothing shared.
        let mut how: libc::clone_args = unsafe { std::mem::zeroed() };
        how.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
        how.set_tid = u64::try_from((&raw const pid).expose_provenance())?;
        how.set_tid_size = 1;
        // SAFETY: as fork(2); `pid` and `how` outlive the call.
        let child = unsafe { libc::syscall(libc::SYS_clone3, &raw const how, size_of_val(&how)) };
        if child == 0 {
            let arguments = [path.as_ptr(), std::ptr::null()];
            // SAFETY: both end as execv(3) wants it; no other thread held a lock, for there is none.
            unsafe { libc::execv(path.as_ptr(), arguments.as_ptr()) };
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(127) };
        }
        ensure!(
            child > 0,
            "make process {pid} once more: {}",
            io::Error::last_os_error()
        );
        // SAFETY: a status is not asked for.
        let waited = unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
        ensure!(waited == pid, "wait for {pid}: {}", io::Error::last_os_error());
    }
    say("pid", first.id().into())
}

fn take_name(name: &[u8]) -> Result<()> {
    let mut bytes = [0_u8; 16];
    let len = name.len().min(15);
    bytes[..len].copy_from_slice(&name[..len]);
    // SAFETY: reads 16 bytes that end with zero.
    unsafe { libc::prctl(libc::PR_SET_NAME, bytes.as_ptr()) };
    say("ready", 1)?;
    wait_for_a_line()
}

fn burn(time: Duration, threads: usize) -> Result<()> {
    let burners: Vec<_> = (1..threads).map(|_| thread::spawn(move || spin(time))).collect();
    spin(time);
    for burner in burners {
        burner
            .join()
            .map_err(|_panic| anyhow::anyhow!("a burner panicked"))?;
    }
    Ok(())
}

/// Computes until the thread has used so much CPU time, and gives the CPU up to nobody.
fn spin(time: Duration) {
    let end = thread_clock() + time;
    let mut x = 1_u64;
    while thread_clock() < end {
        for _turn in 0..100_000 {
            x = black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
    }
}

/// CPU time of this thread.
fn thread_clock() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

fn touch(mib: usize, keep: bool) -> Result<()> {
    say("ready", 1)?;
    wait_for_a_line()?;
    let memory = touch_pages(mib << 20)?;
    if !keep {
        drop(memory);
        say("touched", 1)?;
        return wait_for_a_line();
    }
    say("touched", 1)?;
    wait_for_a_line()?;
    drop(memory);
    Ok(())
}

/// Memory of its own mapping, freed when it is dropped.
struct Mapping {
    start: *mut libc::c_void,
    len: usize,
}

impl Mapping {
    /// Memory in small pages, as most programs have them, and none of it there yet.
    fn new(len: usize) -> Result<Self> {
        // SAFETY: a new anonymous mapping at an address that the kernel chooses.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error()).context("map memory");
        }
        // SAFETY: the mapping is ours.
        unsafe { libc::madvise(start, len, libc::MADV_NOHUGEPAGE) };
        Ok(Self { start, len })
    }

    fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and no pointer into it is used afterwards.
        unsafe { libc::munmap(self.start, self.len) };
    }
}

/// Maps memory and writes to each of its pages.
fn touch_pages(len: usize) -> Result<Mapping> {
    const PAGE: usize = 4096;
    let memory = Mapping::new(len)?;
    for offset in (0..len).step_by(PAGE) {
        // SAFETY: within the mapping.
        let byte = unsafe { memory.start.cast::<u8>().add(offset) };
        // SAFETY: as above.
        unsafe { byte.write_volatile(1) };
    }
    Ok(memory)
}

fn say(key: &str, value: u64) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{key} {value}")?;
    out.flush().context("say something to the test")
}

fn wait_for_a_line() -> Result<()> {
    let mut line = String::new();
    io::stdin()
        .lock()
        .read_line(&mut line)
        .context("wait for the test")?;
    Ok(())
}
