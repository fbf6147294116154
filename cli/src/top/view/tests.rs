//! The screen as a person sees it, and what no name can put on it.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use procscope_proto::v1::{
    AuditRow, Coverage, CoverageLoss, GetAuditResponse, GetProcessHistoryResponse, HistoryPoint, Host,
    ListTopProcessesResponse, TimeRange, TopProcess,
};
use std::time::Duration;

use proptest::prelude::*;
use ratatui::{Terminal, backend::TestBackend, buffer::Buffer, style::Color};

use super::*;
use crate::{
    args::{By, Sort},
    top::{
        ask::Query,
        state::{Seen, Update},
    },
};

fn seen(names: &[&str]) -> Seen {
    let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let range = Some(TimeRange {
        start: at(1_769_860_809),
        end: at(1_769_860_810),
    });
    let mut processes: Vec<TopProcess> = Vec::new();
    let mut cpu = 150.0;
    for (pid, name) in (100..).zip(names) {
        processes.push(TopProcess {
            name: (*name).to_owned(),
            hosts: vec!["vm".to_owned()],
            pid: Some(pid),
            uid: Some(0),
            avg_cpu_percent: cpu,
            cpu_seconds: cpu / 100.0,
            cpu_time_ns: Some(61_000_000_000),
            rss_bytes: Some(12_900_000),
            peak_memory_mb: Some(14.0),
            threads: 4,
            runqueue_seconds: Some(0.031),
            exited: Some(name.starts_with("sleep")),
            cmdline: Some(format!("/usr/bin/{name} --all")),
            ..TopProcess::default()
        });
        cpu /= 10.0;
    }
    let coverage = Coverage {
        share: 1.0,
        observed_host_seconds: 1.0,
        total_host_seconds: 1.0,
        losses: Vec::new(),
        sources: vec!["ebpf".to_owned()],
    };
    let audit = AuditRow {
        host: "vm".to_owned(),
        cpus: 2,
        wall_ns: 2_000_000_000,
        process_ns: 1_000_000_000,
        kthread_ns: 250_000_000,
        idle_ns: 750_000_000,
        ..AuditRow::default()
    };
    Seen {
        query: query(),
        top: ListTopProcessesResponse {
            range,
            coverage: Some(coverage),
            processes,
            ..Default::default()
        },
        audit: Some(GetAuditResponse {
            rows: vec![audit],
            ..GetAuditResponse::default()
        }),
        hosts: None,
        busy: false,
    }
}

fn query() -> Query {
    Query::new(By::Process, Sort::Cpu, String::new(), Vec::new())
}

fn state(names: &[&str]) -> State {
    let mut state = State::new("http://127.0.0.1:7400".to_owned(), query(), 100);
    state.update(Update::Seen(Box::new(seen(names))));
    state
}

fn buffer(state: &State, width: u16, height: u16) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal
        .draw(|frame| draw(frame, state, &Users::default(), &Theme::basic()))
        .unwrap();
    terminal.backend().buffer().clone()
}

fn screen(state: &State, width: u16, height: u16) -> String {
    let buffer = buffer(state, width, height);
    let mut screen = String::new();
    for y in 0..height {
        let mut line = String::new();
        let mut x = 0;
        while x < width {
            let symbol = buffer[(x, y)].symbol();
            line.push_str(symbol);
            // A wide character takes the cell beside it too.
            x += u16::try_from(text::width(symbol)).unwrap().max(1);
        }
        screen.push_str(line.trim_end());
        screen.push('\n');
    }
    screen
}

fn host(name: &str) -> Host {
    Host {
        host: name.to_owned(),
        memory_total_bytes: 8 << 30,
        memory_available_bytes: Some(6 << 30),
        processes: 212,
        threads: 1_560,
        ..Host::default()
    }
}

#[test]
fn the_screen_of_an_ordinary_second() {
    let mut state = state(&["burn", "nginx", "sleep", "数据库"]);
    state.seen.as_mut().unwrap().hosts = Some(vec![host("vm")]);
    let expected = "\
procscope top · 2026-01-31 12:00:09 - 12:00:10 UTC (1.00 s) · host vm · coverage 100 % (ebpf)
CPU [████████████████████▓▓▓▓▓               ] processes 50.0 %  kernel 12.5 %  idle 37.5 %  of 2 CPUs
Mem [██████████                              ] 2.00 GiB used of 8.00 GiB  25.0 %  212 processes, 1,560 threads
4 processes, 1 ended †, by CPU
  PID  USER     CPU%  CPU-TIME       RSS      PEAK  THR  WAIT%  NAME              COMMAND
  100  0       150.0     1m01s  12.3 MiB  14.0 MiB    4    3.1  burn              burn --all
  101  0        15.0     1m01s  12.3 MiB  14.0 MiB    4    3.1  nginx             nginx --all
  102  0         1.5     1m01s  12.3 MiB  14.0 MiB    -    3.1  †sleep            sleep --all
  103  0         0.1     1m01s  12.3 MiB  14.0 MiB    4    3.1  数据库            数据库 --all







? Help  q Quit  Enter History  / Filter  t Tree  F6 Sort  g Group  ←→ Time  +- Width  space Pause  H Host
";
    assert_eq!(screen(&state, 110, 17), expected);
}

#[test]
fn a_small_screen_keeps_what_matters() {
    let expected = "\
2026-01-31 12:00:09 - 12:00:10 UTC (1.0…
CPU [████▓   ] processes 50.0 %  kernel
4 processes, 1 ended †, by CPU
  PID   CPU%       RSS  NAME
  100  150.0  12.3 MiB  burn
  101   15.0  12.3 MiB  nginx
  102    1.5  12.3 MiB  †sleep
  103    0.1  12.3 MiB  数据库

? Help  q Quit  Enter History  / Filter
";
    assert_eq!(
        screen(&state(&["burn", "nginx", "sleep", "数据库"]), 40, 10),
        expected
    );
}

#[test]
fn each_host_has_its_bars_and_the_rest_share_a_line() {
    let mut state = state(&["burn", "nginx"]);
    let seen = state.seen.as_mut().unwrap();
    let row = seen.audit.as_ref().unwrap().rows[0].clone();
    let names: Vec<String> = (1..=9).map(|number| format!("web-{number}")).collect();
    seen.audit.as_mut().unwrap().rows = names
        .iter()
        .zip(1..)
        .map(|(name, tenth): (_, u64)| AuditRow {
            host: name.clone(),
            process_ns: tenth * 100_000_000,
            kthread_ns: 0,
            ..row.clone()
        })
        .collect();
    seen.hosts = Some(names.iter().map(|name| host(name)).collect());
    let shown = screen(&state, 100, 30);
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[0].contains("9 hosts"), "{shown}");
    let busiest = lines
        .iter()
        .find(|line| line.starts_with("web-9   CPU ["))
        .unwrap();
    assert!(
        busiest.contains("45.0 % of 2") && busiest.ends_with("2.00 GiB/8.00 GiB]"),
        "{shown}"
    );
    assert_eq!(
        lines[1..7].iter().filter(|line| line.starts_with("web-")).count(),
        5,
        "{shown}"
    );
    assert!(
        lines[6].starts_with("4 more  CPU [") && lines[6].ends_with("8.00 GiB/32.0 GiB]"),
        "{shown}"
    );
}

#[test]
fn colours_tell_what_is_hot_and_what_is_chosen() {
    let mut state = state(&["burn", "nginx", "sleep"]);
    state.key(KeyEvent::new(KeyCode::Down, KeyModifiers::NONE), 5);
    let (buffer, theme) = (buffer(&state, 110, 10), Theme::basic());
    let style = |x, y| buffer[(x, y)].style();
    // Titles, then burn at 150 %, nginx which is chosen, and sleep which ended.
    let at = |column: u16, row: u16| (style(column, row).fg, style(column, row).bg);
    assert_eq!(at(16, 3), (theme.sorted_title.fg, theme.sorted_title.bg));
    assert_eq!(at(0, 3), (theme.titles.fg, theme.titles.bg));
    assert_eq!(at(16, 4).0, theme.hot.fg);
    assert_eq!(at(64, 4).0, theme.name.fg);
    assert_eq!(at(16, 5), (theme.selected.fg, theme.selected.bg));
    assert_eq!(at(109, 5), (theme.selected.fg, theme.selected.bg));
}

#[test]
fn without_colours_the_chosen_row_is_reversed_and_nothing_has_a_colour() {
    let state = state(&["burn", "nginx"]);
    let mut terminal = Terminal::new(TestBackend::new(110, 10)).unwrap();
    terminal
        .draw(|frame| draw(frame, &state, &Users::default(), &Theme::plain()))
        .unwrap();
    let buffer = terminal.backend().buffer();
    assert!(buffer[(3, 4)].modifier.contains(Modifier::REVERSED));
    let plain = |cell: &ratatui::buffer::Cell| (cell.fg, cell.bg) == (Color::Reset, Color::Reset);
    assert!(buffer.content().iter().all(plain));
}

#[test]
fn the_past_is_marked_and_says_how_long_ago_it_was() {
    let mut state = state(&["burn"]);
    state.key(KeyEvent::new(KeyCode::Left, KeyModifiers::NONE), 5);
    assert!(screen(&state, 110, 10).contains("asking http://127.0.0.1:7400"));
    let past = Seen {
        query: state.query.clone(),
        ..seen(&["burn"])
    };
    state.update(Update::Seen(Box::new(past)));
    state.tick(Duration::from_secs(65));
    let shown = screen(&state, 110, 10);
    assert!(
        shown.contains(" 1m05s AGO  1 process, by CPU") && shown.contains("n Now"),
        "{shown}"
    );
}

#[test]
fn lists_to_choose_from_lie_over_the_table() {
    let mut state = state(&["burn"]);
    state.key(KeyEvent::new(KeyCode::F(6), KeyModifiers::NONE), 5);
    let shown = screen(&state, 110, 20);
    assert!(
        shown.starts_with(" sort by") && shown.contains(" • CPU") && shown.contains("page faults"),
        "{shown}"
    );
    assert!(screen(&state, 12, 3).starts_with(" sort by"));
}

#[test]
fn a_history_takes_the_whole_screen_and_says_what_it_waits_for() {
    let mut with_id = seen(&["burn"]);
    with_id.top.processes[0].process_id = Some("id".to_owned());
    let mut state = State::new("http://h:1".to_owned(), query(), 100);
    state.update(Update::Seen(Box::new(with_id)));
    state.key(KeyEvent::new(KeyCode::Enter, KeyModifiers::NONE), 5);
    let shown = screen(&state, 100, 30);
    assert!(
        shown.starts_with("burn, process 100 on vm\n/usr/bin/burn --all\nthe last 10m: asking http://h:1"),
        "{shown}"
    );
    let wanted = state.trend.as_ref().unwrap().wanted.clone();
    let points = (0..60).map(|second| HistoryPoint {
        time: Some(prost_types::Timestamp {
            seconds: second * 10,
            nanos: 0,
        }),
        avg_cpu_percent: Some(50.0),
        avg_memory_mb: Some(12.0),
        ..HistoryPoint::default()
    });
    let answer = GetProcessHistoryResponse {
        points: points.collect(),
        step_ms: 10_000,
        ..GetProcessHistoryResponse::default()
    };
    state.update(Update::Trend {
        wanted: wanted.clone(),
        answer: Box::new(Ok(answer)),
    });
    let shown = screen(&state, 100, 30);
    for part in [
        "in steps of 10s",
        "CPU %, 100 is one CPU: 50.0 at the end",
        "WAIT %, ready without a CPU: nothing",
        "00:10:00",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    state.update(Update::Trend {
        wanted,
        answer: Box::new(Err("connection refused".to_owned())),
    });
    let shown = screen(&state, 100, 30);
    assert!(
        shown.contains("connection refused") && shown.contains("50.0 at the end"),
        "{shown}"
    );
}

#[test]
fn a_tree_has_branches() {
    let mut with_parents = seen(&["parent", "child"]);
    for (p, start) in with_parents.top.processes.iter_mut().zip(1..) {
        p.start_boottime_ns = Some(start);
    }
    with_parents.top.processes[1].parent_pid = Some(100);
    with_parents.top.processes[1].parent_start_boottime_ns = Some(1);
    let mut state = State::new(String::new(), query(), 100);
    state.update(Update::Seen(Box::new(with_parents)));
    state.key(KeyEvent::new(KeyCode::Char('t'), KeyModifiers::NONE), 5);
    let shown = screen(&state, 110, 10);
    assert!(
        shown.contains("3.1  └─ child          child --all") && shown.contains("by CPU, as a tree"),
        "{shown}"
    );
}

#[test]
fn a_process_that_ended_is_dim() {
    let buffer = buffer(&state(&["burn", "sleep"]), 110, 10);
    assert!(buffer[(60, 5)].modifier.contains(Modifier::DIM));
    assert!(!buffer[(60, 4)].modifier.contains(Modifier::DIM));
}

#[test]
fn without_a_collector_the_screen_says_what_it_waits_for() {
    let mut state = State::new("http://127.0.0.1:7400".to_owned(), query(), 100);
    assert!(screen(&state, 100, 8).contains("connecting to http://127.0.0.1:7400"));
    let why = "could not reach the collector: connection refused".to_owned();
    state.update(Update::Away {
        why,
        retry_in: Duration::from_secs(3),
        busy: false,
    });
    let shown = screen(&state, 100, 8);
    assert!(
        shown.contains("trying again in 3 s: could not reach the collector: connection refused"),
        "{shown}"
    );
    state.update(Update::Connected);
    assert!(screen(&state, 100, 8).contains("waits for the first complete interval"));
}

#[test]
fn a_silence_is_noticed_and_the_last_answer_stays() {
    let mut state = state(&["burn"]);
    state.tick(Duration::from_secs(7));
    let shown = screen(&state, 110, 10);
    assert!(
        shown.contains(
            "no new interval for 7 s, the last ended 2026-01-31 12:00:10 UTC: is an agent sending?"
        ),
        "{shown}"
    );
    assert!(shown.contains("burn"));
    state.update(Update::Silent { busy: true });
    let shown = screen(&state, 110, 10);
    assert!(shown.contains("UTC: the collector is busy"), "{shown}");
    let late = Seen {
        audit: None,
        busy: true,
        ..seen(&["burn"])
    };
    state.update(Update::Seen(Box::new(late)));
    let shown = screen(&state, 110, 10);
    assert!(
        shown.contains("audit is not known: the collector is busy"),
        "{shown}"
    );
}

#[test]
fn losses_have_a_line_of_their_own() {
    let mut seen = seen(&["burn"]);
    let coverage = seen.top.coverage.as_mut().unwrap();
    coverage.losses = vec![CoverageLoss {
        reason: "map_full".to_owned(),
        count: 7,
    }];
    let mut state = State::new(String::new(), query(), 100);
    state.update(Update::Seen(Box::new(seen)));
    assert!(
        screen(&state, 110, 10)
            .lines()
            .any(|line| line == "lost: map_full 7")
    );
}

#[test]
fn what_the_audit_cannot_place_is_said() {
    let mut seen = seen(&["burn"]);
    seen.audit.as_mut().unwrap().rows[0].residual_ns = 140_000_000;
    let mut state = State::new(String::new(), query(), 100);
    state.update(Update::Seen(Box::new(seen)));
    assert!(screen(&state, 130, 10).contains("idle 37.5 %  unaccounted 7.0 %  of 2 CPUs"));
}

#[test]
fn rows_that_are_not_all_are_the_first() {
    let mut state = state(&["burn", "nginx"]);
    state.limit = 2;
    assert!(screen(&state, 110, 10).contains("the first 2 processes, by CPU"));
}

#[test]
fn help_and_filter_are_shown() {
    let mut state = state(&["burn", "nginx"]);
    state.key(KeyEvent::new(KeyCode::Char('?'), KeyModifiers::NONE), 5);
    assert!(screen(&state, 110, 36).contains("sort by CPU time over the whole life"));
    for key in ['x', '/', 'n', 'g'] {
        state.key(KeyEvent::new(KeyCode::Char(key), KeyModifiers::NONE), 5);
    }
    let shown = screen(&state, 110, 30);
    assert!(
        shown.contains("name contains: ng") && shown.contains("1 process, by CPU, named \"ng\""),
        "{shown}"
    );
    assert!(!shown.contains("burn"));
}

proptest! {
    #[test]
    fn no_name_puts_a_control_character_on_the_screen(
        names in proptest::collection::vec(any::<String>(), 1..8),
        host in any::<String>(),
        reason in any::<String>(),
    ) {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut seen = seen(&names);
        seen.top.processes[0].hosts = vec![host.clone()];
        seen.top.coverage.as_mut().unwrap().losses = vec![CoverageLoss { reason: reason.clone(), count: 1 }];
        seen.top.coverage.as_mut().unwrap().sources = vec![reason];
        seen.audit.as_mut().unwrap().rows[0].host = host;
        let mut state = State::new(String::new(), query(), 100);
        state.update(Update::Seen(Box::new(seen)));
        for cell in buffer(&state, 100, 20).content() {
            prop_assert!(!cell.symbol().chars().any(text::is_unsafe), "{:?}", cell.symbol());
        }
    }

    #[test]
    fn no_terminal_is_too_small(width in 1_u16..200, height in 1_u16..40) {
        let mut state = state(&["burn", "nginx", "sleep", "数据库"]);
        buffer(&state, width, height);
        let area = Rect::new(0, 0, width, height);
        prop_assert!(page(&state, area) <= usize::from(height));
        state.key(KeyEvent::new(KeyCode::Char('?'), KeyModifiers::NONE), 1);
        buffer(&state, width, height);
    }
}
