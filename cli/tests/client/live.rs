//! The live top on a real pseudo-terminal: it comes up, waits for its collector, obeys, and puts the terminal back.

use std::{
    collections::BTreeMap,
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

/// The program on its terminal.
struct Screen {
    child: Child,
    keyboard: File,
    output: Receiver<Vec<u8>>,
    terminal: Terminal,
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
            terminal: Terminal::default(),
        }
    }

    fn wait_for(&mut self, text: &str) {
        self.wait_until(text, |terminal| terminal.lines().any(|line| line.contains(text)));
    }

    fn wait_until(&mut self, what: &str, reached: impl Fn(&Terminal) -> bool) {
        let end = Instant::now() + DEADLINE;
        while !reached(&self.terminal) {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(bytes) = self.output.recv_timeout(left) else {
                panic!(
                    "{what:?} is not on the screen:\n{}",
                    self.terminal.lines().collect::<Vec<_>>().join("\n")
                );
            };
            self.terminal.take(&bytes);
        }
    }

    fn resize(&mut self, columns: u16, rows: u16) {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&self.keyboard, size).unwrap();
        kill_process(Pid::from_child(&self.child), Signal::WINCH).unwrap();
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// It ends well and the terminal is as it was.
    fn ends(mut self) {
        self.wait_until("the end", |terminal| terminal.left_alternate_screen);
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        let modes = tcgetattr(&self.keyboard).unwrap().local_modes;
        assert!(modes.contains(LocalModes::ICANON | LocalModes::ECHO), "{modes:?}");
    }
}

/// As much of a terminal as is needed to see what a person sees.
#[derive(Default)]
struct Terminal {
    bytes: Vec<u8>,
    cells: BTreeMap<(usize, usize), char>,
    row: usize,
    column: usize,
    left_alternate_screen: bool,
}

impl Terminal {
    fn take(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        let text = String::from_utf8_lossy(&self.bytes).into_owned();
        let mut rest = text.as_str();
        while let Some(c) = rest.chars().next() {
            if let Some(sequence) = rest.strip_prefix("\x1b[") {
                // The rest of an unfinished sequence or character comes with the next bytes.
                let Some(end) = sequence.find(|c: char| c.is_ascii_alphabetic()) else {
                    break;
                };
                let (parameters, after) = sequence.split_at(end);
                self.obey(parameters, &after[..1]);
                rest = &after[1..];
                continue;
            }
            if c == char::REPLACEMENT_CHARACTER || c == '\x1b' {
                break;
            }
            self.cells.insert((self.row, self.column), c);
            self.column += 1;
            rest = &rest[c.len_utf8()..];
        }
        let kept = if rest.is_empty() {
            0
        } else {
            1 + self
                .bytes
                .iter()
                .rev()
                .position(|b| *b == 0x1b || *b >= 0xc0)
                .unwrap()
        };
        self.bytes.drain(..self.bytes.len() - kept);
    }

    fn obey(&mut self, parameters: &str, command: &str) {
        match (parameters, command) {
            ("?1049l", _) | ("?1049", "l") => self.left_alternate_screen = true,
            (_, "H") => {
                let mut numbers = parameters.split(';').map(|number| number.parse().unwrap_or(1));
                self.row = numbers.next().unwrap_or(1);
                self.column = numbers.next().unwrap_or(1);
            }
            (_, "J") => self.cells.clear(),
            _ => {}
        }
    }

    fn lines(&self) -> impl Iterator<Item = String> {
        (1..=24).map(|row| {
            (1..=110)
                .map(|column| *self.cells.get(&(row, column)).unwrap_or(&' '))
                .collect()
        })
    }
}

#[test]
fn it_shows_the_stream_and_q_ends_it() {
    let collector = Collector::start();
    let mut screen = Screen::open(&collector.url);
    screen.wait_for("nginx --all");
    screen.wait_for("3 processes, 1 ended †, by CPU");
    screen.press("g");
    screen.wait_for("3 commands");
    let asked = collector.asked.lock().unwrap().top.clone();
    assert_eq!(
        (
            asked[0].group_by,
            asked[0].last_intervals,
            asked.last().unwrap().group_by
        ),
        (1, 1, 2)
    );
    screen.press("/ngi");
    screen.wait_for("name contains: ngi");
    screen.wait_for("1 command, by CPU, named \"ngi\"");
    screen.press("\x1b");
    screen.wait_for("3 commands");
    screen.press("q");
    screen.ends();
}

#[test]
fn an_arrow_key_looks_back_and_another_leads_back_to_now() {
    let collector = Collector::start();
    let mut screen = Screen::open(&collector.url);
    screen.wait_for("12:00:00 - 12:00:10 UTC");
    screen.press("\x1b[D");
    screen.wait_for("11:59:50 - 12:00:00 UTC");
    screen.wait_for("AGO  3 processes");
    screen.press("n");
    screen.wait_for("12:00:00 - 12:00:10 UTC");
    screen.wait_until("the present", |terminal| {
        !terminal.lines().any(|line| line.contains("AGO"))
    });
    let asked = collector.asked.lock().unwrap().top.clone();
    let past = asked.iter().find_map(|request| request.range).unwrap();
    assert_eq!((past.start, past.end.unwrap().seconds), (None, 1_769_860_800));
    assert_eq!(asked.last().unwrap().range, None);
    screen.press("q");
    screen.ends();
}

#[test]
fn enter_shows_the_history_of_the_chosen_process() {
    let collector = Collector::start();
    let mut screen = Screen::open(&collector.url);
    screen.wait_for("nginx --all");
    screen.press("\r");
    screen.wait_for("nginx, process 101 on web-1");
    screen.wait_for("CPU %, 100 is one CPU: 50.0 at the end");
    screen.press("+");
    screen.wait_for("the last 1h");
    // The screen says what it wants before the collector hears of it.
    let begin = |request: &procscope_proto::v1::GetProcessHistoryRequest| {
        assert_eq!(
            (&*request.process_id, request.range.unwrap().end),
            ("id-101", None)
        );
        request.range.unwrap().start.unwrap().seconds
    };
    let end = Instant::now() + DEADLINE;
    loop {
        let asked = collector.asked.lock().unwrap().history.clone();
        let further_back = begin(&asked[0]) - begin(asked.last().unwrap());
        if (further_back - 3_000).abs() < 60 {
            break;
        }
        assert!(Instant::now() < end, "ten minutes, then an hour: {asked:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
    screen.press("\x1b");
    screen.wait_for("3 processes");
    screen.press("q");
    screen.ends();
}

#[test]
fn a_list_is_chosen_from_and_a_small_terminal_is_enough() {
    let collector = Collector::start();
    let mut screen = Screen::open(&collector.url);
    screen.wait_for("nginx --all");
    // F6, then the second of the list.
    screen.press("\x1b[17~");
    screen.wait_for("peak memory");
    screen.press("j\r");
    screen.wait_for("by memory");
    screen.resize(40, 10);
    screen.wait_until("the narrow foot", |terminal| {
        let foot: Vec<String> = terminal.lines().filter(|line| line.contains("? Help")).collect();
        !foot.is_empty() && foot.iter().all(|line| !line.contains("F6 Sort"))
    });
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
    // It goes away, and the screen says so and keeps what it has.
    drop(collector);
    screen.wait_for("the last answer stays");
    screen.wait_for("nginx");
    screen.press("q");
    screen.ends();
}
