//! Loads that are many at once or odd by birth: storms of forks and switches, swarms of threads, numbers used again.

use std::{
    fs, io,
    os::unix::process::CommandExt as _,
    path::Path,
    process::Command,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use procscope_tests_kernel::Program;

use crate::{panicked, say, spin, thread_clock, touch_pages, wait_for_a_line};

/// How a storm makes its children.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Birth {
    /// fork(2): a copy of the address space.
    Fork,
    /// vfork(2): the very address space.
    Vfork,
}

/// Runs one of these loads, if it is one.
pub(crate) fn run(arguments: &[&str]) -> Option<Result<()>> {
    Some(match *arguments {
        ["in-group", folder, ref rest @ ..] => join(folder).and_then(|()| crate::run(rest)),
        ["launch", times, ref rest @ ..] => launch(times, rest),
        ["shell", ref script @ ..] => {
            Err(Command::new("sh").args(["-c", &script.join(" ")]).exec()).context("run sh")
        }
        ["burn-as", how, milliseconds, threads] => burn_as(how, milliseconds, threads),
        ["load", milliseconds, threads] => load(milliseconds, threads),
        ["fork-storm", milliseconds] => storm(Birth::Fork, milliseconds),
        ["vfork-storm", milliseconds] => storm(Birth::Vfork, milliseconds),
        ["switch-storm", milliseconds] => switch_storm(milliseconds),
        ["thread-swarm", count, microseconds] => thread_swarm(count, microseconds),
        ["exec-chain", count, milliseconds] => exec_chain(count, milliseconds),
        ["numbered", number, milliseconds] => numbered(number, milliseconds),
        ["touch-together", mib, threads] => touch_together(mib, threads),
        ["touch-and-end", mib] => touch_and_end(mib),
        ["touch-then-exec", mib] => touch_then_exec(mib),
        ["vfork-and-wait", mib] => vfork_and_wait(mib),
        ["phases", count, milliseconds] => phases(count, milliseconds),
        _ => return None,
    })
}

/// Joins a control group, and says what this process had used before it was in it.
fn join(folder: &str) -> Result<()> {
    let file = Path::new(folder).join("cgroup.procs");
    let before = thread_clock();
    fs::write(&file, "0").with_context(|| format!("join {folder}"))?;
    let after = thread_clock();
    say("outside_ns", u64::try_from(((before + after) / 2).as_nanos())?)
}

/// Runs one of our loads so many times, one after another, and says of each its number and what wait4(2) says.
fn launch(times: &str, load: &[&str]) -> Result<()> {
    for _time in 0..times.parse::<u32>()? {
        let child = Program::spawn(Command::new("/proc/self/exe").args(load))?;
        say("child", child.pid().into())?;
        let (status, used_ns) = child.wait4()?;
        ensure!(status == 0, "{load:?} ended with status {status}");
        say("used_ns", used_ns)?;
    }
    Ok(())
}

/// Burns with some threads that are scheduled in a particular way.
fn burn_as(how: &str, milliseconds: &str, threads: &str) -> Result<()> {
    let time = Duration::from_millis(milliseconds.parse()?);
    let count = threads.parse::<usize>()?;
    match how {
        "free" | "migrating" => {}
        "pinned" => pin(0)?,
        "nice" => {
            // SAFETY: a plain system call.
            let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) };
            ensure!(result == 0, "setpriority: {}", io::Error::last_os_error());
        }
        "fifo" => {
            let parameters = libc::sched_param { sched_priority: 1 };
            // SAFETY: valid for one value. Threads inherit it.
            let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) };
            ensure!(result == 0, "SCHED_FIFO: {}", io::Error::last_os_error());
        }
        _ => bail!("burn how? {how}"),
    }
    let migrating = how == "migrating";
    let burners: Vec<_> = (0..count)
        .map(|_| {
            thread::spawn(move || {
                if migrating {
                    spin_on_the_move(time)
                } else {
                    spin(time);
                    Ok(())
                }
            })
        })
        .collect();
    for burner in burners {
        burner.join().map_err(panicked)??;
    }
    Ok(())
}

/// Burns, and goes to the next CPU after each millisecond.
fn spin_on_the_move(time: Duration) -> Result<()> {
    let cpus = thread::available_parallelism()?.get();
    let end = thread_clock() + time;
    for cpu in (0..cpus).cycle() {
        let left = end.saturating_sub(thread_clock());
        if left.is_zero() {
            break;
        }
        pin(cpu)?;
        spin(left.min(Duration::from_millis(1)));
    }
    Ok(())
}

/// Wants a CPU for each of some threads, for so long by the clock on the wall.
fn load(milliseconds: &str, threads: &str) -> Result<()> {
    let end = Instant::now() + Duration::from_millis(milliseconds.parse()?);
    let threads: Vec<_> = (0..threads.parse::<usize>()?)
        .map(|_| {
            thread::spawn(move || {
                while Instant::now() < end {
                    spin(Duration::from_millis(1));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().map_err(panicked)?;
    }
    Ok(())
}

/// Keeps the calling thread on one CPU.
fn pin(cpu: usize) -> Result<()> {
    let mut one = rustix::thread::CpuSet::new();
    one.set(cpu);
    rustix::thread::sched_setaffinity(None, &one).with_context(|| format!("stay on CPU {cpu}"))
}

/// Makes children that end at once, for so long, and says how many it was.
fn storm(birth: Birth, milliseconds: &str) -> Result<()> {
    let end = Instant::now() + Duration::from_millis(milliseconds.parse()?);
    let mut children = 0;
    while Instant::now() < end {
        for _child in 0..100 {
            one_life(birth)?;
            children += 1;
        }
    }
    say("children", children)
}

/// A child that ends at once, made and reaped.
#[allow(deprecated, reason = "vfork(2) is the very thing that is tested")]
fn one_life(birth: Birth) -> Result<()> {
    let pid = match birth {
        // SAFETY: the child calls _exit(2) and nothing else.
        Birth::Fork => unsafe { libc::fork() },
        // SAFETY: as above, so the memory it shares with us stays as it is.
        Birth::Vfork => unsafe { libc::vfork() },
    };
    if pid == 0 {
        // SAFETY: ends the child alone.
        unsafe { libc::_exit(0) }
    }
    reap(pid)
}

fn reap(pid: libc::pid_t) -> Result<()> {
    ensure!(pid > 0, "make a child: {}", io::Error::last_os_error());
    // SAFETY: a plain system call that wants no status.
    let reaped = unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
    ensure!(reaped == pid, "waitpid: {}", io::Error::last_os_error());
    Ok(())
}

/// Two threads on each CPU that give it to each other as fast as they can.
fn switch_storm(milliseconds: &str) -> Result<()> {
    let time = Duration::from_millis(milliseconds.parse()?);
    let stop = Arc::new(AtomicBool::new(false));
    let mut threads = Vec::new();
    for cpu in 0..thread::available_parallelism()?.get() {
        for _half in 0..2 {
            let stop = Arc::clone(&stop);
            threads.push(thread::spawn(move || -> Result<()> {
                pin(cpu)?;
                while !stop.load(Ordering::Relaxed) {
                    for _turn in 0..64 {
                        thread::yield_now();
                    }
                }
                Ok(())
            }));
        }
    }
    let before = own_switches()?;
    let start = Instant::now();
    thread::sleep(time);
    let switches = own_switches()?.saturating_sub(before);
    let took = start.elapsed();
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().map_err(panicked)??;
    }
    say(
        "switches_per_second",
        u64::try_from(u128::from(switches) * 1_000_000 / took.as_micros().max(1))?,
    )
}

/// Context switches of all threads of this process until now.
fn own_switches() -> Result<u64> {
    let mut sum = 0;
    for thread in fs::read_dir("/proc/self/task")? {
        let text = fs::read_to_string(thread?.path().join("status"))?;
        sum += text
            .lines()
            .filter(|line| line.contains("ctxt_switches:"))
            .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
            .sum::<u64>();
    }
    Ok(sum)
}

/// Threads that burn a little each, wait for each other, and all end at once when the test says so.
fn thread_swarm(count: &str, microseconds: &str) -> Result<()> {
    let count = count.parse::<usize>()?;
    let time = Duration::from_micros(microseconds.parse()?);
    let ready = Arc::new(Barrier::new(count + 1));
    let go = Arc::new(Barrier::new(count + 1));
    let threads: Vec<_> = (0..count)
        .map(|_| {
            let (ready, go) = (Arc::clone(&ready), Arc::clone(&go));
            thread::Builder::new().stack_size(64 << 10).spawn(move || {
                spin(time);
                ready.wait();
                go.wait();
            })
        })
        .collect::<io::Result<_>>()
        .context("start the threads")?;
    ready.wait();
    say("ready", u64::try_from(count)?)?;
    wait_for_a_line()?;
    go.wait();
    for thread in threads {
        thread.join().map_err(panicked)?;
    }
    say("ended", 1)?;
    wait_for_a_line()
}

/// Burns, then becomes itself with one exec less to go.
fn exec_chain(count: &str, milliseconds: &str) -> Result<()> {
    spin(Duration::from_millis(milliseconds.parse()?));
    match count.parse::<u32>()?.checked_sub(1) {
        None => Ok(()),
        Some(left) => Err(Command::new("/proc/self/exe")
            .args(["exec-chain", &left.to_string(), milliseconds])
            .exec())
        .context("execve"),
    }
}

/// A child with a number of our choice: clone3(2) with `set_tid`.
fn child_with_number(number: libc::pid_t) -> Result<libc::pid_t> {
    // SAFETY: all bits zero is a value: no flags, no stack of its own, so it is a fork(2).
    let mut how: libc::clone_args = unsafe { std::mem::zeroed() };
    how.exit_signal = u64::try_from(libc::SIGCHLD)?;
    how.set_tid = u64::try_from((&raw const number).addr())?;
    how.set_tid_size = 1;
    // SAFETY: `how` and `number` are valid; the child has one thread and goes on like one of fork(2).
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const how, size_of::<libc::clone_args>()) };
    ensure!(
        pid >= 0,
        "clone3 with number {number}: {}",
        io::Error::last_os_error()
    );
    Ok(libc::pid_t::try_from(pid)?)
}

/// One child with a number of our choice burns, and we say what it used.
fn numbered(number: &str, milliseconds: &str) -> Result<()> {
    let time = Duration::from_millis(milliseconds.parse()?);
    let pid = child_with_number(number.parse()?)?;
    if pid == 0 {
        spin(time);
        // SAFETY: ends the child alone.
        unsafe { libc::_exit(0) }
    }
    reap(pid)?;
    say("children_cpu_ns", procscope_tests_kernel::children_cpu_ns()?)
}

/// Threads that each touch their part of so many MiB, so that each CPU keeps a part of the count; then all is freed.
fn touch_together(mib: &str, threads: &str) -> Result<()> {
    let count = threads.parse::<usize>()?;
    let len = (mib.parse::<usize>()? << 20) / count;
    let (ready, done) = (
        Arc::new(Barrier::new(count + 1)),
        Arc::new(Barrier::new(count + 1)),
    );
    let threads: Vec<_> = (0..count)
        .map(|cpu| {
            let (ready, done) = (Arc::clone(&ready), Arc::clone(&done));
            thread::spawn(move || -> Result<()> {
                pin(cpu % thread::available_parallelism()?.get())?;
                ready.wait();
                // Twice: what the test measures before, and after it.
                ready.wait();
                let memory = touch_pages(len)?;
                done.wait();
                drop(memory);
                Ok(())
            })
        })
        .collect();
    ready.wait();
    say("ready", 1)?;
    wait_for_a_line()?;
    ready.wait();
    done.wait();
    for thread in threads {
        thread.join().map_err(panicked)??;
    }
    say("freed", 1)?;
    wait_for_a_line()
}

/// Touches so many MiB and ends without freeing them, all within one interval.
fn touch_and_end(mib: &str) -> Result<()> {
    let memory = touch_pages(mib.parse::<usize>()? << 20)?;
    // SAFETY: ends the process; nothing is freed before.
    unsafe { libc::_exit(i32::from(memory.is_empty())) }
}

/// Becomes a small program after it was a large one.
fn touch_then_exec(mib: &str) -> Result<()> {
    let memory = touch_pages(mib.parse::<usize>()? << 20)?;
    say("touched", 1)?;
    wait_for_a_line()?;
    let error = Command::new("/proc/self/exe").args(["pause", "after"]).exec();
    drop(memory);
    Err(error).context("execve")
}

/// Has so many MiB, and a child of vfork(2) that waits for the test with all of them in sight.
#[allow(deprecated, reason = "vfork(2) is the very thing that is tested")]
fn vfork_and_wait(mib: &str) -> Result<()> {
    let memory = touch_pages(mib.parse::<usize>()? << 20)?;
    // SAFETY: the child writes a line, reads one, and calls _exit(2): plain system calls.
    let pid = unsafe { libc::vfork() };
    if pid == 0 {
        let mut byte = 0_u8;
        // SAFETY: reads ten bytes of a constant.
        unsafe { libc::write(1, c"vforked 1\n".as_ptr().cast(), 10) };
        // SAFETY: writes one byte of ours.
        unsafe { libc::read(0, (&raw mut byte).cast(), 1) };
        // SAFETY: ends the child alone.
        unsafe { libc::_exit(0) }
    }
    reap(pid)?;
    drop(memory);
    say("child", pid.cast_unsigned().into())
}

/// Burns in user space and in the kernel by turns.
fn phases(count: &str, milliseconds: &str) -> Result<()> {
    let time = Duration::from_millis(milliseconds.parse()?);
    for _phase in 0..count.parse::<u32>()? {
        spin(time);
        let end = thread_clock() + time;
        while thread_clock() < end {
            drop(fs::read("/proc/self/maps")?);
        }
    }
    Ok(())
}
