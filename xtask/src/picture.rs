//! `cargo xtask picture`: a real screen of the live top for the README. Runs the whole stack and a made-up shop on this
//! machine, looks at the shop alone, and draws what a terminal shows.

mod svg;

use std::{
    env, fs,
    fs::File,
    net::{Ipv4Addr, TcpListener},
    os::unix::{fs::symlink, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::{place::Place, run, shell::output};

/// The screen that is drawn.
const COLUMNS: u32 = 112;
const ROWS: u32 = 19;
/// What all processes of the shop have in their names.
const SHOP: &str = "shop";
/// Time for the stack to start and for a first answer.
const START_TIME: Duration = Duration::from_mins(4);
/// Time for a key to have its effect.
const SCREEN_TIME: Duration = Duration::from_secs(30);
/// How often is looked whether something is so.
const LOOK: Duration = Duration::from_millis(200);
/// Parts of the shop, and what they cost.
const PARTS: [(&str, &[&str]); 4] = [
    ("shop-web", &["--cpu", "9", "--mib", "40", "--workers", "3"]),
    ("shop-db", &["--cpu", "24", "--mib", "310", "--workers", "2"]),
    ("shop-cache", &["--cpu", "3", "--mib", "120"]),
    ("shop-orders", &["--cpu", "5", "--mib", "25", "--mails"]),
];

/// Draws `docs/top.svg`.
///
/// # Errors
/// What could not be started, or did not come about in time.
pub(crate) fn draw(place: &Place) -> Result<()> {
    run::build(place, false)?;
    let folder = env::temp_dir().join(format!("procscope-picture-{}", std::process::id()));
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let screen = record(place, &folder);
    let removed = fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()));
    let picture = svg::picture(&screen?, COLUMNS, "procscope top, looking at a shop");
    let path = place.root.join("docs/top.svg");
    fs::write(&path, &picture).with_context(|| format!("write {}", path.display()))?;
    println!("{}: {} bytes", path.display(), picture.len());
    removed
}

/// The screen, with the sequences that colour it.
fn record(place: &Place, folder: &Path) -> Result<String> {
    let ports = free_ports()?;
    let log = File::create(folder.join("log")).context("create the log")?;
    // Not this very file: building may have put a new one in its place.
    let mut stack = Command::new(place.programs.join("xtask"));
    stack
        .args(["run", "--no-tui", "--data-dir"])
        .arg(folder.join("data"))
        .args([
            "--grpc-port",
            &ports[0].to_string(),
            "--http-port",
            &ports[1].to_string(),
        ])
        .args(["--engine-port", &ports[2].to_string()])
        .env("PROCSCOPE_AGENT_HOST", "shop-1")
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("share the log")?)
        .stderr(log);
    let mut stack = Started::new(stack, "cargo xtask run")?;
    let _shop = open_shop(folder)?;
    let server = format!("http://127.0.0.1:{}", ports[0]);
    let top = place.programs.join("procscope");
    wait_for("the first answer", START_TIME, || {
        if stack.child.try_wait().context("look after the stack")?.is_some() {
            let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
            bail!("the stack ended: {}", crate::shell::last_lines(&log, 1).join(""));
        }
        let mut once = Command::new(&top);
        once.args(["top", "--once", "--filter", SHOP, "--server", &server]);
        Ok(output(&mut once).is_ok_and(|text| text.contains("shop-db")))
    })?;
    let terminal = Terminal::open(folder, &top, &server)?;
    terminal.wait_for("shop-db")?;
    terminal.press("+")?;
    terminal.wait_for("(10.0 s)")?;
    terminal.press("t")?;
    terminal.wait_for("as a tree")?;
    terminal.press("Down")?;
    let newest = terminal.first_line()?;
    wait_for("a screen of the next second", SCREEN_TIME, || {
        Ok(terminal.first_line()? != newest)
    })?;
    terminal.screen()
}

/// A program that ends with us.
struct Started {
    child: Child,
}

impl Started {
    fn new(mut command: Command, what: &str) -> Result<Self> {
        let child = command.spawn().with_context(|| format!("start {what}"))?;
        Ok(Self { child })
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // What has ended already needs no signal, and a stack stops its parts in order.
        let _signalled = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ended = self.child.wait();
    }
}

/// Starts what is looked at.
fn open_shop(folder: &Path) -> Result<Vec<Started>> {
    fs::write(folder.join("app.pl"), include_str!("picture/shop.pl")).context("write the shop")?;
    let perl = output(Command::new("sh").args(["-c", "command -v perl"])).context("find perl")?;
    let mut parts = Vec::new();
    for name in PARTS.iter().map(|(name, _)| *name).chain(["shop-mail"]) {
        symlink(perl.trim(), folder.join(name)).with_context(|| format!("name a part {name}"))?;
    }
    for (name, arguments) in PARTS {
        let mut part = Command::new(format!("./{name}"));
        part.arg0(name)
            .arg("app.pl")
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::null());
        parts.push(Started::new(part, name)?);
    }
    Ok(parts)
}

/// A terminal that nobody sits at.
struct Terminal {
    socket: PathBuf,
}

impl Terminal {
    fn open(folder: &Path, top: &Path, server: &str) -> Result<Self> {
        let terminal = Self {
            socket: folder.join("tmux"),
        };
        let (columns, rows) = (COLUMNS.to_string(), ROWS.to_string());
        let mut open = terminal.tmux();
        open.args([
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            &columns,
            "-y",
            &rows,
        ])
        .arg(top)
        .args(["top", "--colors", "dark", "--filter", SHOP, "--server", server]);
        output(&mut open).context("open a terminal; tmux is a package of that name")?;
        Ok(terminal)
    }

    fn tmux(&self) -> Command {
        let mut tmux = Command::new("tmux");
        tmux.arg("-u")
            .arg("-S")
            .arg(&self.socket)
            .env("TERM", "xterm-256color");
        tmux
    }

    fn press(&self, key: &str) -> Result<()> {
        output(self.tmux().args(["send-keys", key])).map(drop)
    }

    fn screen(&self) -> Result<String> {
        output(self.tmux().args(["capture-pane", "-p", "-e", "-N"]))
    }

    fn first_line(&self) -> Result<String> {
        Ok(self.screen()?.lines().next().unwrap_or_default().to_owned())
    }

    fn wait_for(&self, text: &str) -> Result<()> {
        wait_for(text, SCREEN_TIME, || Ok(self.screen()?.contains(text)))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // One that is closed already is as good.
        drop(output(self.tmux().arg("kill-server")));
    }
}

/// Ports that nobody listens on right now.
fn free_ports() -> Result<Vec<u16>> {
    let mut held = Vec::new();
    for _port in 0..3 {
        held.push(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?);
    }
    held.iter()
        .map(|listener| Ok(listener.local_addr().context("read a port")?.port()))
        .collect()
}

fn wait_for(what: &str, time: Duration, mut so: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + time;
    while !so()? {
        if Instant::now() >= end {
            bail!("`{what}` did not come within {} s", time.as_secs());
        }
        thread::sleep(LOOK);
    }
    Ok(())
}
