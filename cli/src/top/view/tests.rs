//! The screen as a person sees it, and what no name can put on it.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use procscope_proto::v1::{
    Coverage, CoverageLoss, GetAuditResponse, ListTopProcessesResponse, TimeRange, TopProcess,
};
use proptest::prelude::*;
use ratatui::{Terminal, backend::TestBackend, buffer::Buffer};

use super::*;
use crate::{
    args::{By, Sort},
    top::state::{Query, Update},
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
    }
}

fn query() -> Query {
    Query {
        by: By::Process,
        sort: Sort::Cpu,
        filter: String::new(),
    }
}

fn state(names: &[&str]) -> State {
    let mut state = State::new("http://127.0.0.1:7400".to_owned(), query(), 100);
    state.update(Update::Seen(Box::new(seen(names))));
    state
}

fn buffer(state: &State, width: u16, height: u16) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal
        .draw(|frame| draw(frame, state, &Users::default()))
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

#[test]
fn the_screen_of_an_ordinary_second() {
    let state = state(&["burn", "nginx", "sleep", "数据库"]);
    let expected = "\
procscope top · 2026-01-31 12:00:09 - 12:00:10 UTC (1.00 s) · host vm · coverage 100 % (ebpf)
CPU [████████████████████▓▓▓▓▓               ] processes 50.0 %  kernel 12.5 %  idle 37.5 %  of 2 CPUs
4 processes, 1 ended †, by CPU
  PID  USER     CPU%  CPU-TIME       RSS      PEAK  THR  WAIT%  NAME              COMMAND
  100  0       150.0     1m01s  12.3 MiB  14.0 MiB    4    3.1  burn              burn --all
  101  0        15.0     1m01s  12.3 MiB  14.0 MiB    4    3.1  nginx             nginx --all
  102  0         1.5     1m01s  12.3 MiB  14.0 MiB    -    3.1  †sleep            sleep --all
  103  0         0.1     1m01s  12.3 MiB  14.0 MiB    4    3.1  数据库            数据库 --all

q quit  c/m/p/r sort  g group  / filter  e ended first  space pause  ? help
";
    assert_eq!(screen(&state, 110, 10), expected);
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
        shown.contains("no new interval for 7 s, the last ended 2026-01-31 12:00:10 UTC"),
        "{shown}"
    );
    assert!(shown.contains("burn"));
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
    assert!(screen(&state, 110, 30).contains("sort by peak memory"));
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
