//! Keys, answers and sizes in any order: there is always a screen, and nothing hostile on it.

use proptest::prelude::*;
use ratatui::{Terminal, backend::TestBackend};

use super::*;
use crate::{
    top::{theme::Theme, view},
    users::Users,
};

/// Something that may happen to the screen.
#[derive(Debug, Clone)]
enum Happening {
    Key(KeyEvent),
    Answer {
        processes: Vec<TopProcess>,
        range: Option<TimeRange>,
        stale: bool,
    },
    Trend {
        values: Vec<Option<f64>>,
        step_ms: u64,
    },
    NoTrend,
    Connected,
    Away,
    Tick(Duration),
    Size(u16, u16),
}

fn any_key() -> impl Strategy<Value = KeyEvent> {
    let named = [
        KeyCode::Enter,
        KeyCode::Esc,
        KeyCode::Backspace,
        KeyCode::Up,
        KeyCode::Down,
        KeyCode::Left,
        KeyCode::Right,
        KeyCode::PageUp,
        KeyCode::PageDown,
        KeyCode::Home,
        KeyCode::End,
        KeyCode::Tab,
    ];
    let code = prop_oneof![
        8 => proptest::sample::select(named.to_vec()),
        8 => proptest::sample::select("PMTNImcprdfsgteHzn?h/+-<>[] ".chars().collect::<Vec<_>>()).prop_map(KeyCode::Char),
        2 => (1_u8..13).prop_map(KeyCode::F),
        1 => any::<char>().prop_map(KeyCode::Char),
    ];
    (code, any::<bool>()).prop_map(|(code, shift)| {
        KeyEvent::new(
            code,
            if shift {
                KeyModifiers::SHIFT
            } else {
                KeyModifiers::NONE
            },
        )
    })
}

fn any_process() -> impl Strategy<Value = TopProcess> {
    let value = proptest::option::of(any::<f64>());
    (
        ".{0,9}",
        proptest::option::of(0_u32..9),
        0_u32..9,
        any::<f64>(),
        value,
        any::<bool>(),
        "[ab]",
    )
        .prop_map(|(name, pid, parent, cpu, memory, exited, host)| TopProcess {
            process_id: pid.map(|pid| pid.to_string()),
            name,
            pid,
            start_boottime_ns: pid.map(u64::from),
            parent_pid: Some(parent),
            parent_start_boottime_ns: Some(u64::from(parent)),
            avg_cpu_percent: cpu,
            avg_memory_mb: memory,
            exited: Some(exited),
            hosts: vec![host],
            ..TopProcess::default()
        })
}

fn any_range() -> impl Strategy<Value = Option<TimeRange>> {
    proptest::option::of((any::<i64>(), any::<i64>(), -2_000_i64..2_000)).prop_map(|range| {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        range.map(|(wild, other, tame)| match wild % 3 {
            0 => TimeRange {
                start: at(wild),
                end: at(other),
            },
            1 => TimeRange {
                start: at(i64::MIN),
                end: at(253_402_207_200),
            },
            _ => TimeRange {
                start: at(tame),
                end: at(tame + 10),
            },
        })
    })
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        6 => any_key().prop_map(Happening::Key),
        2 => (proptest::collection::vec(any_process(), 0..9), any_range(), any::<bool>())
            .prop_map(|(processes, range, stale)| Happening::Answer { processes, range, stale }),
        1 => (proptest::collection::vec(proptest::option::of(any::<f64>()), 0..9), any::<u64>())
            .prop_map(|(values, step_ms)| Happening::Trend { values, step_ms }),
        1 => prop_oneof![
            Just(Happening::NoTrend),
            Just(Happening::Connected),
            Just(Happening::Away),
            any::<Duration>().prop_map(Happening::Tick),
            (1_u16..130, 1_u16..40).prop_map(|(width, height)| Happening::Size(width, height)),
        ],
    ]
}

fn happens(state: &mut State, happening: Happening) {
    let wanted = state.trend.as_ref().map(|trend| trend.wanted.clone());
    match happening {
        Happening::Key(key) => drop(state.key(key, 3)),
        Happening::Answer {
            processes,
            range,
            stale,
        } => {
            let host = |name: &str| Host {
                host: name.to_owned(),
                memory_total_bytes: 7,
                memory_available_bytes: Some(5),
                ..Host::default()
            };
            let row = |host: &str| procscope_proto::v1::AuditRow {
                host: host.to_owned(),
                wall_ns: 10,
                process_ns: 7,
                ..Default::default()
            };
            let query = if stale {
                Query::new(By::User, Sort::Cpu, String::new(), Vec::new())
            } else {
                state.query.clone()
            };
            state.update(Update::Seen(Box::new(Seen {
                query,
                top: ListTopProcessesResponse {
                    range,
                    processes,
                    ..Default::default()
                },
                audit: Some(GetAuditResponse {
                    rows: vec![row("a"), row("b")],
                    ..Default::default()
                }),
                hosts: Some(vec![host("a"), host("b")]),
                busy: false,
            })));
        }
        Happening::Trend { values, step_ms } => {
            let points = (0..).zip(values).map(|(seconds, value)| HistoryPoint {
                time: Some(prost_types::Timestamp { seconds, nanos: 0 }),
                gap: value.is_none(),
                avg_cpu_percent: value,
                ..HistoryPoint::default()
            });
            let answer = GetProcessHistoryResponse {
                points: points.collect(),
                step_ms,
                ..Default::default()
            };
            if let Some(wanted) = wanted {
                state.update(Update::Trend {
                    wanted,
                    answer: Box::new(Ok(answer)),
                });
            }
        }
        Happening::NoTrend => {
            if let Some(wanted) = wanted {
                state.update(Update::Trend {
                    wanted,
                    answer: Box::new(Err("no".to_owned())),
                });
            }
        }
        Happening::Connected => state.update(Update::Connected),
        Happening::Away => {
            state.update(Update::Away {
                why: "gone".to_owned(),
                retry_in: Duration::from_secs(1),
                busy: false,
            });
        }
        Happening::Tick(passed) => state.tick(passed),
        Happening::Size(..) => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn whatever_happens_there_is_a_screen(happenings in proptest::collection::vec(happening(), 1..40)) {
        let mut state = state();
        let mut terminal = Terminal::new(TestBackend::new(90, 24)).unwrap();
        let (users, theme) = (Users::default(), Theme::basic());
        for happening in happenings {
            if let Happening::Size(width, height) = happening {
                terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
            }
            happens(&mut state, happening);
            terminal.draw(|frame| view::draw(frame, &state, &users, &theme)).unwrap();
            for cell in terminal.backend().buffer().content() {
                prop_assert!(!cell.symbol().chars().any(crate::text::is_unsafe), "{:?}", cell.symbol());
            }
        }
    }
}
