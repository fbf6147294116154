//! A machine in emulation: started, listened to, and ended when it takes too long. No hardware helps, so it runs
//! everywhere.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

/// Lines on their way out of a guest.
const LINES_WAITING: usize = 1024;

/// Memory of a guest in MiB: the image, which is unpacked into it, and 300 MiB that one test touches.
const MEMORY_MIB: &str = "1024";

/// A running guest. Dropping it ends it.
#[derive(Debug)]
pub struct Machine {
    emulator: Child,
    lines: Receiver<String>,
    console: PathBuf,
}

/// What a guest says next.
#[derive(Debug)]
pub enum Heard {
    /// A line.
    Line(String),
    /// It has ended.
    End,
    /// Nothing came until the deadline.
    Late,
}

impl Machine {
    /// Starts a kernel with a file system, and with a `disk` that outlives it. `folder` holds what it needs and what it
    /// says on its console.
    ///
    /// # Errors
    /// When there is no emulator or no kernel.
    pub fn start(
        cache: &Path,
        kernel: &Path,
        image: &Path,
        disk: Option<&Path>,
        folder: &Path,
    ) -> Result<Self> {
        ensure!(
            kernel.is_file(),
            "there is no kernel {}: run `cargo xtask setup --tests`",
            kernel.display()
        );
        let console = folder.join("console.log");
        let mut command = emulator(cache);
        command
            .args(["-accel", "tcg,thread=multi", "-cpu", "max"])
            .args(["-smp", "2", "-m", MEMORY_MIB])
            .args([
                "-display",
                "none",
                "-monitor",
                "none",
                "-no-reboot",
                "-net",
                "none",
            ])
            .arg("-kernel")
            .arg(kernel)
            .arg("-initrd")
            .arg(image)
            .args(["-append", "console=ttyS0 quiet panic=-1"])
            .arg("-serial")
            .arg(format!("file:{}", console.display()))
            .args(["-serial", "stdio"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        if let Some(disk) = disk {
            // What the guest has not flushed is gone with it; what it has is this machine's.
            let drive = format!(
                "file={},if=none,id=disk,format=raw,cache=writeback",
                disk.display()
            );
            command.args(["-drive", &drive, "-device", "nvme,drive=disk,serial=disk"]);
        }
        let log = folder.join("emulator.log");
        let log = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let mut emulator = command
            .stderr(log)
            .spawn()
            .context("start qemu-system-x86_64: run `cargo xtask setup --tests`")?;
        let out = BufReader::new(emulator.stdout.take().context("its output is piped")?);
        let (sender, lines) = sync_channel(LINES_WAITING);
        thread::spawn(move || {
            for line in out.split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            emulator,
            lines,
            console,
        })
    }

    /// The next line.
    #[must_use]
    pub fn hear(&self, deadline: Instant) -> Heard {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.lines.recv_timeout(left.max(Duration::from_millis(1))) {
            Ok(line) => Heard::Line(line),
            Err(RecvTimeoutError::Disconnected) => Heard::End,
            Err(RecvTimeoutError::Timeout) => Heard::Late,
        }
    }

    /// The last lines of the kernel's own console.
    #[must_use]
    pub fn last_words(&self, count: usize) -> Vec<String> {
        let text = fs::read(&self.console).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(count)..]
            .iter()
            .map(|line| (*line).to_owned())
            .collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It has mostly ended by itself.
        drop(self.emulator.kill());
        drop(self.emulator.wait());
    }
}

/// The emulator that set-up put into the cache, or else that of the system.
fn emulator(cache: &Path) -> Command {
    let root = cache.join("qemu");
    let own = root.join("usr/bin/qemu-system-x86_64");
    if !own.is_file() {
        return Command::new("qemu-system-x86_64");
    }
    let libraries = root.join("usr/lib/x86_64-linux-gnu");
    let paths = [libraries.clone(), root.join("lib/x86_64-linux-gnu")].map(|path| path.display().to_string());
    let mut command = Command::new(own);
    command
        .env("LD_LIBRARY_PATH", paths.join(":"))
        .env("QEMU_MODULE_DIR", libraries.join("qemu"));
    for folder in ["usr/share/seabios", "usr/share/qemu"] {
        command.arg("-L").arg(root.join(folder));
    }
    command
}
