//! What each key and each answer does.

mod happenings;

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use procscope_proto::v1::{HistoryPoint, TimeRange};

use super::*;
use crate::{
    top::trend::{SPANS, Subject},
    when,
};

fn process(name: &str, cpu: f64, memory: Option<f64>) -> TopProcess {
    TopProcess {
        name: name.to_owned(),
        avg_cpu_percent: cpu,
        avg_memory_mb: memory,
        exited: Some(memory.is_none()),
        ..TopProcess::default()
    }
}

fn state() -> State {
    let query = Query::new(By::Process, Sort::Cpu, String::new(), Vec::new());
    let mut state = State::new("http://h:1".to_owned(), query, 100);
    state.update(Update::Seen(Box::new(seen(&state, 0))));
    state
}

fn seen(state: &State, more: usize) -> Seen {
    let mut processes = vec![
        process("idle", 0.0, Some(1.0)),
        process("busy", 90.0, Some(5.0)),
        process("Fat", 1.0, Some(900.0)),
        process("gone", 2.0, None),
    ];
    processes.extend((0..more).map(|_| process("more", 0.0, Some(0.0))));
    let top = ListTopProcessesResponse {
        processes,
        ..ListTopProcessesResponse::default()
    };
    Seen {
        query: state.query.clone(),
        top,
        audit: None,
        hosts: None,
        busy: false,
    }
}

fn press(state: &mut State, keys: &str) -> Action {
    let mut action = Action::Nothing;
    for key in keys.chars() {
        let code = match key {
            '\n' => KeyCode::Enter,
            '\x1b' => KeyCode::Esc,
            '\x08' => KeyCode::Backspace,
            '↓' => KeyCode::Down,
            '↑' => KeyCode::Up,
            '⇟' => KeyCode::PageDown,
            '⇞' => KeyCode::PageUp,
            '⇲' => KeyCode::End,
            '←' => KeyCode::Left,
            '→' => KeyCode::Right,
            '⇱' => KeyCode::Home,
            '⑤' => KeyCode::F(5),
            '⑥' => KeyCode::F(6),
            c => KeyCode::Char(c),
        };
        action = state.key(KeyEvent::new(code, KeyModifiers::NONE), 2);
    }
    action
}

fn check(keys: &str, action: Action, shown: &[&str]) {
    let mut state = state();
    assert_eq!(press(&mut state, keys), action, "{keys:?}");
    assert_eq!(
        state
            .rows()
            .iter()
            .map(|row| row.process.name.as_str())
            .collect::<Vec<_>>(),
        shown,
        "{keys:?}"
    );
}

#[test]
fn keys_sort_at_once_and_ask_again() {
    check("", Action::Nothing, &["busy", "gone", "Fat", "idle"]);
    check("m", Action::Ask, &["Fat", "busy", "idle", "gone"]);
    check("mc", Action::Ask, &["busy", "gone", "Fat", "idle"]);
    check("c", Action::Nothing, &["busy", "gone", "Fat", "idle"]);
    check("e", Action::Nothing, &["gone", "busy", "Fat", "idle"]);
    check("q", Action::Quit, &["busy", "gone", "Fat", "idle"]);
    check("g", Action::Ask, &["busy", "gone", "Fat", "idle"]);
}

#[test]
fn a_filter_works_while_it_is_written_and_can_be_dropped() {
    check("/fa", Action::Nothing, &["Fat"]);
    check("/fa\n", Action::Ask, &["Fat"]);
    check("/fa\x1b", Action::Nothing, &["busy", "gone", "Fat", "idle"]);
    check("/fa\n\x1b", Action::Ask, &["busy", "gone", "Fat", "idle"]);
    check("/fx\x08\n", Action::Ask, &["Fat"]);
    check("/q", Action::Nothing, &[]);
    check("/\n", Action::Nothing, &["busy", "gone", "Fat", "idle"]);
}

#[test]
fn ctrl_c_quits_wherever_we_are() {
    for keys in ["", "/", "?"] {
        let mut state = state();
        press(&mut state, keys);
        assert_eq!(
            state.key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL), 2),
            Action::Quit
        );
    }
}

#[test]
fn a_pause_holds_the_screen_and_its_end_shows_the_newest() {
    let mut state = state();
    press(&mut state, " ");
    let newer = seen(&state, 1);
    state.update(Update::Seen(Box::new(newer)));
    assert_eq!(state.rows().len(), 4);
    press(&mut state, " ");
    assert_eq!(state.rows().len(), 5);
    press(&mut state, "  ");
    assert_eq!(state.rows().len(), 5);
}

#[test]
fn a_chosen_row_stays_on_the_screen_and_stops_at_both_ends() {
    let mut state = state();
    for (keys, chosen, first) in [
        ("↑", "busy", 0),
        ("↓", "gone", 0),
        ("↓", "Fat", 1),
        ("⇟", "idle", 2),
        ("↓↓↓", "idle", 2),
        ("↑", "Fat", 2),
        ("⇞", "busy", 0),
        ("⇲", "idle", 2),
        ("⇱", "busy", 0),
    ] {
        press(&mut state, keys);
        let rows = state.rows();
        let name = &rows[state.cursor(&rows)].process.name;
        assert_eq!(
            (name.as_str(), state.first_row(&rows, 2)),
            (chosen, first),
            "{keys}"
        );
    }
}

#[test]
fn a_chosen_process_is_followed_and_the_top_is_a_place() {
    let mut state = state();
    press(&mut state, "↓");
    let mut newer = seen(&state, 0);
    newer.top.processes[3].avg_cpu_percent = 99.0;
    state.update(Update::Seen(Box::new(newer)));
    let chosen = |state: &State| {
        let rows = state.rows();
        let at = state.cursor(&rows);
        (rows[at].process.name.clone(), at)
    };
    assert_eq!(
        chosen(&state),
        ("gone".to_owned(), 0),
        "it rose, and is still the one"
    );
    press(&mut state, "⇱");
    let older = seen(&state, 0);
    state.update(Update::Seen(Box::new(older)));
    assert_eq!(
        chosen(&state),
        ("busy".to_owned(), 0),
        "the top, whoever is there"
    );
}

#[test]
fn an_absence_counts_down_and_an_answer_ends_it() {
    let mut state = state();
    state.update(Update::Away {
        why: "refused".to_owned(),
        retry_in: Duration::from_secs(2),
        busy: false,
    });
    state.tick(Duration::from_secs(1));
    assert_eq!(
        state.link,
        Link::Away {
            why: "refused".to_owned(),
            retry_in: Duration::from_secs(1)
        }
    );
    assert_eq!(state.rows().len(), 4, "the last answer stays");
    state.update(Update::Connected);
    assert_eq!(state.link, Link::Connected);
}

/// The answer of ten seconds up to an instant.
fn seen_up_to(state: &State, end: i64) -> Seen {
    let at = |second| Timestamp::from_second(second).unwrap();
    let mut seen = seen(state, 0);
    seen.top.range = Some(TimeRange {
        start: Some(when::to_wire(at(end - 10))),
        end: Some(when::to_wire(at(end))),
    });
    seen
}

#[test]
fn arrows_look_back_and_lead_back_to_now() {
    let mut state = state();
    assert_eq!(
        press(&mut state, "←"),
        Action::Nothing,
        "nothing is known of when now is"
    );
    let now = seen_up_to(&state, 1_000);
    state.update(Update::Seen(Box::new(now)));
    assert_eq!(
        press(&mut state, "→"),
        Action::Nothing,
        "there is nothing after now"
    );
    assert_eq!(press(&mut state, "←"), Action::Ask);
    assert!(state.is_waiting());
    // What was on its way is not what was asked for.
    let late = Seen {
        query: Query {
            past: None,
            ..state.query.clone()
        },
        ..seen(&state, 7)
    };
    state.update(Update::Seen(Box::new(late)));
    assert_eq!(state.rows().len(), 4);
    let past = seen_up_to(&state, 990);
    state.update(Update::Seen(Box::new(past)));
    state.tick(Duration::from_secs(5));
    assert!(!state.is_waiting());
    assert_eq!(state.back_ns(), Some(15_000_000_000));
    assert_eq!(press(&mut state, "["), Action::Ask);
    assert_eq!(state.back_ns(), Some(115_000_000_000));
    assert_eq!(press(&mut state, "n"), Action::Ask);
    assert_eq!((state.back_ns(), press(&mut state, "n")), (None, Action::Nothing));
}

#[test]
fn more_time_is_asked_for_and_a_pause_ends_with_it() {
    let mut state = state();
    press(&mut state, " ");
    assert_eq!(press(&mut state, "+"), Action::Ask);
    assert_eq!((state.query.intervals, state.paused), (10, false));
    assert_eq!(press(&mut state, "--"), Action::Nothing);
    assert_eq!(state.query.intervals, 1);
}

#[test]
fn keys_of_htop_sort_and_invert() {
    let names = |keys: &str| {
        let mut state = state();
        press(&mut state, keys);
        let names: Vec<String> = state.rows().iter().map(|row| row.process.name.clone()).collect();
        names.join(" ")
    };
    assert_eq!(names("M"), "Fat busy idle gone");
    assert_eq!(names("MI"), "gone idle busy Fat");
    assert_eq!(names("MP"), "busy gone Fat idle");
    assert_eq!(names(">"), "Fat busy idle gone");
    assert_eq!(names("><"), "busy gone Fat idle");
    assert_eq!(names("⑥↓\n"), "Fat busy idle gone");
    assert_eq!(names("⑥↓\x1b"), "busy gone Fat idle");
}

#[test]
fn a_host_is_chosen_from_those_that_are_there() {
    let mut state = state();
    let mut with_hosts = seen(&state, 0);
    let host = |name: &str| Host {
        host: name.to_owned(),
        ..Host::default()
    };
    with_hosts.hosts = Some(vec![host("b"), host("a")]);
    state.update(Update::Seen(Box::new(with_hosts)));
    assert_eq!(
        state.choices(Menu::Host),
        (["all hosts", "a", "b"].map(str::to_owned).to_vec(), 0)
    );
    assert_eq!(press(&mut state, "H↓↓\n"), Action::Ask);
    assert_eq!(state.query.hosts, ["b"]);
    assert_eq!(state.choices(Menu::Host).1, 2);
    assert_eq!(press(&mut state, "H↑↑↑\n"), Action::Ask);
    assert!(state.query.hosts.is_empty());
}

#[test]
fn enter_opens_a_history_and_escape_leaves_it() {
    let mut state = state();
    let mut with_ids = seen(&state, 0);
    for p in &mut with_ids.top.processes {
        p.process_id = Some(format!("id of {}", p.name));
    }
    state.update(Update::Seen(Box::new(with_ids)));
    assert_eq!(press(&mut state, "↓\n"), Action::Trend);
    let wanted = state.trend.as_ref().unwrap().wanted.clone();
    assert_eq!(wanted.subject, Subject::Process("id of gone".to_owned()));
    assert_eq!((wanted.span, wanted.until), (SPANS[0], None));
    state.update(Update::Trend {
        wanted: wanted.clone(),
        answer: Box::new(Err("refused".to_owned())),
    });
    assert_eq!(state.trend.as_ref().unwrap().failure.as_deref(), Some("refused"));
    assert_eq!(press(&mut state, "+"), Action::Trend);
    // The answer to what was wanted before.
    state.update(Update::Trend {
        wanted,
        answer: Box::new(Ok(GetProcessHistoryResponse::default())),
    });
    assert!(state.trend.as_ref().unwrap().answer.is_none());
    assert_eq!(press(&mut state, "++++-"), Action::Trend);
    assert_eq!(state.trend.as_ref().unwrap().wanted.span, SPANS[2]);
    assert_eq!(press(&mut state, "\x1b"), Action::Trend);
    assert!(state.trend.is_none() && state.mode == Mode::Table);
}

#[test]
fn what_has_no_history_says_so_until_the_next_key() {
    let mut state = state();
    press(&mut state, "gg");
    let users = seen(&state, 0);
    state.update(Update::Seen(Box::new(users)));
    assert_eq!(press(&mut state, "\n"), Action::Nothing);
    assert!(state.note.unwrap().contains("histories are of"));
    press(&mut state, "↓");
    assert_eq!(state.note, None);
}

#[test]
fn a_host_opens_into_its_processes() {
    let mut state = state();
    press(&mut state, "ggggg");
    let mut hosts = seen(&state, 0);
    hosts.top.processes.truncate(1);
    hosts.top.processes[0].name = "web".to_owned();
    state.update(Update::Seen(Box::new(hosts)));
    assert_eq!(press(&mut state, "\n"), Action::Ask);
    assert_eq!(
        (state.query.by, state.query.hosts.as_slice()),
        (By::Process, &["web".to_owned()][..])
    );
}

#[test]
fn a_released_key_does_nothing() {
    let mut state = state();
    let mut key = KeyEvent::new(KeyCode::Char('q'), KeyModifiers::NONE);
    key.kind = KeyEventKind::Release;
    assert_eq!(state.key(key, 1), Action::Nothing);
}
