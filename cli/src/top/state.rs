//! What the live top knows and what keys do to it. Pure: answers, keys and the time come in as arguments.

use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use procscope_proto::v1::{GetAuditResponse, ListTopProcessesResponse, TopProcess};

use super::columns;
use crate::args::{By, Sort};

/// A longer filter matches nothing: names are shorter.
const FILTER_CHARS_MAX: usize = 64;

/// What the collector is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Query {
    pub by: By,
    pub sort: Sort,
    pub filter: String,
}

/// One answer, and the question it belongs to.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub query: Query,
    pub top: ListTopProcessesResponse,
    /// Where the CPU time of the same range went; `None` when the collector did not say.
    pub audit: Option<GetAuditResponse>,
}

/// What the feed tells.
#[derive(Debug)]
pub(super) enum Update {
    /// Connected; the first answer comes when an interval is complete.
    Connected,
    /// A new interval is complete.
    Seen(Box<Seen>),
    /// There is no answer at the moment; `why` is safe to show.
    Away { why: String, retry_in: Duration },
}

/// How things stand between us and the collector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Link {
    Connecting,
    Connected,
    Away { why: String, retry_in: Duration },
}

/// What keys mean at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    Table,
    Help,
    /// The filter is being written; `before` is what it was.
    Filter {
        before: String,
    },
}

/// What the caller has to do after a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Nothing,
    Quit,
    /// The question changed: ask again.
    Ask,
}

/// All of the live view.
#[derive(Debug)]
pub(super) struct State {
    /// Where the collector is, safe to show.
    pub server: String,
    pub query: Query,
    /// The collector was asked for at most so many rows.
    pub limit: usize,
    pub link: Link,
    pub mode: Mode,
    /// Processes that ended stand first.
    pub ended_first: bool,
    pub seen: Option<Seen>,
    /// The screen holds still.
    pub paused: bool,
    /// The newest answer that came while paused.
    pub held_back: Option<Seen>,
    /// Since when nothing new has come.
    pub quiet_for: Duration,
    /// First row on the screen.
    pub offset: usize,
}

impl State {
    /// Before the first answer.
    pub(super) fn new(server: String, query: Query, limit: usize) -> Self {
        Self {
            server,
            query,
            limit,
            link: Link::Connecting,
            mode: Mode::Table,
            ended_first: false,
            seen: None,
            paused: false,
            held_back: None,
            quiet_for: Duration::ZERO,
            offset: 0,
        }
    }

    /// Takes in what the feed tells.
    pub(super) fn update(&mut self, update: Update) {
        match update {
            Update::Connected => self.link = Link::Connected,
            Update::Away { why, retry_in } => self.link = Link::Away { why, retry_in },
            Update::Seen(seen) => {
                self.link = Link::Connected;
                self.quiet_for = Duration::ZERO;
                if self.paused {
                    self.held_back = Some(*seen);
                } else {
                    self.seen = Some(*seen);
                }
            }
        }
    }

    /// Time passes.
    pub(super) fn tick(&mut self, passed: Duration) {
        self.quiet_for += passed;
        if let Link::Away { retry_in, .. } = &mut self.link {
            *retry_in = retry_in.saturating_sub(passed);
        }
    }

    /// The rows to show, filtered and in order. Sorted here too, so that a key has its effect at once.
    pub(super) fn rows(&self) -> Vec<&TopProcess> {
        let Some(seen) = &self.seen else { return Vec::new() };
        let filter = self.query.filter.to_lowercase();
        let mut rows: Vec<&TopProcess> = seen
            .top
            .processes
            .iter()
            .filter(|p| p.name.to_lowercase().contains(&filter))
            .collect();
        let ended_first = |p: &TopProcess| self.ended_first && columns::ended(p);
        rows.sort_by(|a, b| {
            ended_first(b)
                .cmp(&ended_first(a))
                .then_with(|| rank(self.query.sort, b).total_cmp(&rank(self.query.sort, a)))
        });
        rows
    }

    /// The first row to show, such that the last page is full.
    pub(super) fn first_row(&self, rows: usize, page: usize) -> usize {
        self.offset.min(rows.saturating_sub(page))
    }

    /// What a key does; `page` is the number of rows on the screen.
    pub(super) fn key(&mut self, key: KeyEvent, page: usize) -> Action {
        if key.kind == KeyEventKind::Release {
            return Action::Nothing;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) && matches!(key.code, KeyCode::Char('c' | 'd')) {
            return Action::Quit;
        }
        match &self.mode {
            Mode::Filter { before } => {
                let before = before.clone();
                self.filter_key(key, before)
            }
            Mode::Help => {
                self.mode = Mode::Table;
                if key.code == KeyCode::Char('q') {
                    Action::Quit
                } else {
                    Action::Nothing
                }
            }
            Mode::Table => self.table_key(key.code, page),
        }
    }

    fn table_key(&mut self, code: KeyCode, page: usize) -> Action {
        let rows = self.rows().len();
        let at = self.first_row(rows, page);
        match code {
            KeyCode::Char('q') => return Action::Quit,
            KeyCode::Char('c') => return self.sort(Sort::Cpu),
            KeyCode::Char('m') => return self.sort(Sort::Memory),
            KeyCode::Char('p') => return self.sort(Sort::Peak),
            KeyCode::Char('r') => return self.sort(Sort::Runqueue),
            KeyCode::Char('d') => return self.sort(Sort::Io),
            KeyCode::Char('f') => return self.sort(Sort::Faults),
            KeyCode::Char('s') => return self.sort(Sort::Switches),
            KeyCode::Char('g') => {
                self.query.by = if self.query.by == By::Process {
                    By::Command
                } else {
                    By::Process
                };
                self.offset = 0;
                return Action::Ask;
            }
            KeyCode::Char('e') => self.ended_first = !self.ended_first,
            KeyCode::Char(' ') => {
                self.paused = !self.paused;
                if let Some(newest) = self.held_back.take() {
                    self.seen = Some(newest);
                }
            }
            KeyCode::Char('/') => {
                self.mode = Mode::Filter {
                    before: self.query.filter.clone(),
                }
            }
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.mode = Mode::Help,
            KeyCode::Esc if !self.query.filter.is_empty() => {
                self.query.filter.clear();
                return Action::Ask;
            }
            KeyCode::Up | KeyCode::Char('k') => self.offset = at.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => {
                self.scroll_to(at.saturating_add(1), rows, page);
            }
            KeyCode::PageUp => self.offset = at.saturating_sub(page),
            KeyCode::PageDown => self.scroll_to(at.saturating_add(page), rows, page),
            KeyCode::Home => self.offset = 0,
            KeyCode::End => self.scroll_to(usize::MAX, rows, page),
            _ => {}
        }
        Action::Nothing
    }

    fn filter_key(&mut self, key: KeyEvent, before: String) -> Action {
        match key.code {
            KeyCode::Enter => {
                self.mode = Mode::Table;
                if before != self.query.filter {
                    return Action::Ask;
                }
            }
            KeyCode::Esc => {
                self.mode = Mode::Table;
                self.query.filter = before;
            }
            KeyCode::Backspace => {
                self.query.filter.pop();
            }
            KeyCode::Char('u') if key.modifiers.contains(KeyModifiers::CONTROL) => self.query.filter.clear(),
            KeyCode::Char(c) if self.query.filter.chars().count() < FILTER_CHARS_MAX => {
                self.query.filter.push(c);
                self.offset = 0;
            }
            _ => {}
        }
        Action::Nothing
    }

    fn sort(&mut self, sort: Sort) -> Action {
        self.offset = 0;
        if self.query.sort == sort {
            return Action::Nothing;
        }
        self.query.sort = sort;
        Action::Ask
    }

    fn scroll_to(&mut self, offset: usize, rows: usize, page: usize) {
        self.offset = offset;
        self.offset = self.first_row(rows, page);
    }
}

/// What the rows are ordered by; what is not known comes last.
fn rank(sort: Sort, p: &TopProcess) -> f64 {
    let counted = |count: Option<u64>| count.map(count_rank);
    let value = match sort {
        Sort::Cpu => Some(p.avg_cpu_percent),
        Sort::Memory => p.avg_memory_mb,
        Sort::Peak => p.peak_memory_mb,
        Sort::Runqueue => p.runqueue_seconds,
        Sort::Io => counted(columns::sum(p.disk_read_bytes, p.disk_written_bytes)),
        Sort::Faults => counted(columns::sum(p.minor_faults, p.major_faults)),
        Sort::Switches => counted(columns::sum(p.voluntary_switches, p.involuntary_switches)),
    };
    value.filter(|value| !value.is_nan()).unwrap_or(-1.0)
}

/// A count as a float for ordering only.
fn count_rank(count: u64) -> f64 {
    Duration::from_nanos(count).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let query = Query {
            by: By::Process,
            sort: Sort::Cpu,
            filter: String::new(),
        };
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
            state.rows().iter().map(|p| p.name.as_str()).collect::<Vec<_>>(),
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
    fn scrolling_stops_at_both_ends() {
        let mut state = state();
        for (keys, first) in [
            ("↑", 0),
            ("↓", 1),
            ("⇟", 2),
            ("↓↓↓", 2),
            ("↑", 1),
            ("⇞", 0),
            ("⇲", 2),
            ("↑", 1),
        ] {
            press(&mut state, keys);
            assert_eq!(state.first_row(4, 2), first, "{keys}");
        }
    }

    #[test]
    fn an_absence_counts_down_and_an_answer_ends_it() {
        let mut state = state();
        state.update(Update::Away {
            why: "refused".to_owned(),
            retry_in: Duration::from_secs(2),
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
}
