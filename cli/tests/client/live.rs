//! The live top on a real pseudo-terminal: it comes up, waits for its collector, obeys, and puts the terminal back.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::TcpListener,
    process::{Child, Stdio},
    sync::mpsc::{Receiver, sync_channel},
    time::{Duration, Instant},
};

use rustix::{
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};

use crate::collector::{Collector, client};

/// The two cores of a busy build machine are slow.
const DEADLINE: Duration = Duration::from_secs(20);
const LEAVE_ALTERNATE_SCREEN: &str = "\x1b[?1049l";

/// The program on its terminal.
struct Screen {
    child: Child,
    keyboard: File,
    output: Receiver<Vec<u8>>,
    shown: String,
}

impl Screen {
    fn open(url: &str) -> Self {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&controller).unwrap();
        unlockpt(&controller).unwrap();
        let name = ptsname(&controller, Vec::new()).unwrap();
        let terminal = File::options()
            .read(true)
            .write(true)
            .open(name.to_str().unwrap())
            .unwrap();
        tcsetwinsize(
            &terminal,
            Winsize {
                ws_row: 24,
                ws_col: 110,
                ws_xpixel: 0,
                ws_ypixel: 0,
            },
        )
        .unwrap();
        let child = client()
            .args(["top", "--server", url])
            .stdin(Stdio::from(terminal.try_clone().unwrap()))
            .stdout(Stdio::from(terminal.try_clone().unwrap()))
            .stderr(Stdio::from(terminal))
            .spawn()
            .unwrap();
        let keyboard = File::from(controller);
        let mut reader = keyboard.try_clone().unwrap();
        let (tell, output) = sync_channel(1024);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read) = reader.read(&mut bytes) {
                if read == 0 || tell.send(bytes[..read].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self {
            child,
            keyboard,
            output,
            shown: String::new(),
        }
    }

    fn wait_for(&mut self, text: &str) {
        let end = Instant::now() + DEADLINE;
        while !self.shown.contains(text) {
            let left = end.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.shown.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => panic!("{text:?} is not on the screen: {:?}", self.shown),
            }
        }
        self.shown.clear();
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// It ends well and the terminal is as it was.
    fn ends(mut self) {
        self.wait_for(LEAVE_ALTERNATE_SCREEN);
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        let modes = tcgetattr(&self.keyboard).unwrap().local_modes;
        assert!(modes.contains(LocalModes::ICANON | LocalModes::ECHO), "{modes:?}");
    }
}

#[test]
fn it_shows_the_stream_and_q_ends_it() {
    let collector = Collector::start();
    let mut screen = Screen::open(&collector.url);
    screen.wait_for("nginx");
    screen.press("g");
    let end = Instant::now() + DEADLINE;
    while collector
        .asked
        .lock()
        .unwrap()
        .top
        .last()
        .is_none_or(|query| query.group_by != 2)
    {
        assert!(Instant::now() < end, "the key g asks per command");
        std::thread::yield_now();
    }
    assert_eq!(collector.asked.lock().unwrap().top[0].last_intervals, 1);
    screen.press("q");
    screen.ends();
}

#[test]
fn ctrl_c_and_sigterm_put_the_terminal_back() {
    let collector = Collector::start();
    let mut screen = Screen::open(&collector.url);
    screen.wait_for("nginx");
    screen.press("\x03");
    screen.ends();
    let mut screen = Screen::open(&collector.url);
    screen.wait_for("nginx");
    kill_process(Pid::from_child(&screen.child), Signal::TERM).unwrap();
    screen.ends();
}

#[test]
fn it_waits_for_a_collector_that_is_not_there_and_goes_on_when_it_is() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut screen = Screen::open(&format!("http://{address}"));
    screen.wait_for("Connection refused");
    let collector = Collector::start_on(TcpListener::bind(address).unwrap());
    screen.wait_for("nginx");
    // It goes away, and the screen says so.
    drop(collector);
    screen.wait_for("trying again");
    screen.press("q");
    screen.ends();
}
