//! What each key does.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use jiff::SignedDuration;

use super::{Menu, Mode, Order, Past, State, key_of};
use crate::{
    args::{By, Sort},
    top::trend::{SPANS, Subject, Trend, Wanted},
};

/// A longer filter matches nothing: names are shorter.
const FILTER_CHARS_MAX: usize = 64;
/// One key for many steps of time.
const STEPS: i32 = 10;

/// What the caller has to do after a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Action {
    Nothing,
    Quit,
    /// The question changed: ask again.
    Ask,
    /// Another history is wanted, or none.
    Trend,
}

impl State {
    /// What a key does; `page` is the number of rows on the screen.
    pub(in super::super) fn key(&mut self, key: KeyEvent, page: usize) -> Action {
        if key.kind == KeyEventKind::Release {
            return Action::Nothing;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) && matches!(key.code, KeyCode::Char('c' | 'd')) {
            return Action::Quit;
        }
        self.note = None;
        match self.mode.clone() {
            Mode::Filter { before } => self.filter_key(key, before),
            Mode::Help => {
                self.mode = Mode::Table;
                if matches!(key.code, KeyCode::Char('q') | KeyCode::F(10)) {
                    Action::Quit
                } else {
                    Action::Nothing
                }
            }
            Mode::Menu { menu, at } => self.menu_key(key.code, menu, at),
            Mode::Chart => self.chart_key(key.code),
            Mode::Table => self.table_key(key, page),
        }
    }

    fn table_key(&mut self, key: KeyEvent, page: usize) -> Action {
        let steps = if key.modifiers.contains(KeyModifiers::SHIFT) {
            STEPS
        } else {
            1
        };
        match key.code {
            KeyCode::Char('q') | KeyCode::F(10) => return Action::Quit,
            KeyCode::Char('P' | 'c') => return self.order(Order::By(Sort::Cpu)),
            KeyCode::Char('M' | 'm') => return self.order(Order::By(Sort::Memory)),
            KeyCode::Char('p') => return self.order(Order::By(Sort::Peak)),
            KeyCode::Char('T') => return self.order(Order::Time),
            KeyCode::Char('N') => return self.order(Order::Pid),
            KeyCode::Char('r') => return self.order(Order::By(Sort::Runqueue)),
            KeyCode::Char('d') => return self.order(Order::By(Sort::Io)),
            KeyCode::Char('f') => return self.order(Order::By(Sort::Faults)),
            KeyCode::Char('s') => return self.order(Order::By(Sort::Switches)),
            KeyCode::Char('<' | ',') => return self.order(self.query.order.beside(false)),
            KeyCode::Char('>' | '.') => return self.order(self.query.order.beside(true)),
            KeyCode::Char('I') => self.arranged.inverted = !self.arranged.inverted,
            KeyCode::F(6) => self.open(Menu::Order),
            KeyCode::Char('H') => self.open(Menu::Host),
            KeyCode::Char('g') => return self.group(),
            KeyCode::Char('t') | KeyCode::F(5) => {
                self.arranged.tree = !self.arranged.tree;
                if self.arranged.tree && self.query.by != By::Process {
                    self.note = Some("the tree shows when one row is one process: g");
                }
            }
            KeyCode::Char('e') => self.arranged.ended_first = !self.arranged.ended_first,
            KeyCode::Char(' ' | 'z' | 'Z') => self.pause(!self.paused),
            KeyCode::Left => return self.look_back(steps),
            KeyCode::Right => return self.look_back(-steps),
            KeyCode::Char('[') => return self.look_back(STEPS),
            KeyCode::Char(']') => return self.look_back(-STEPS),
            KeyCode::Char('n') => return self.back_to_now(),
            KeyCode::Char('+' | '=') => return self.widen(true),
            KeyCode::Char('-') => return self.widen(false),
            KeyCode::Char('/' | '\\') | KeyCode::F(3 | 4) => {
                self.mode = Mode::Filter {
                    before: self.query.filter.clone(),
                }
            }
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.mode = Mode::Help,
            KeyCode::Esc if self.query.past.is_some() => return self.back_to_now(),
            KeyCode::Esc if !self.query.filter.is_empty() => {
                self.query.filter.clear();
                return Action::Ask;
            }
            KeyCode::Enter => return self.enter(),
            code => self.move_cursor(code, page),
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
                self.start_over();
            }
            _ => {}
        }
        Action::Nothing
    }

    fn menu_key(&mut self, code: KeyCode, menu: Menu, at: usize) -> Action {
        let last = self.choices(menu).0.len().saturating_sub(1);
        let at = at.min(last);
        let at = match code {
            KeyCode::Up | KeyCode::Char('k') => at.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => (at + 1).min(last),
            KeyCode::Home | KeyCode::PageUp => 0,
            KeyCode::End | KeyCode::PageDown => last,
            KeyCode::Esc | KeyCode::Char('q') => {
                self.mode = Mode::Table;
                return Action::Nothing;
            }
            KeyCode::Enter => {
                self.mode = Mode::Table;
                return match menu {
                    Menu::Order => Order::ALL
                        .get(at)
                        .map_or(Action::Nothing, |order| self.order(*order)),
                    Menu::Host => {
                        let host = at.checked_sub(1).and_then(|at| self.hosts().into_iter().nth(at));
                        self.on_hosts(host.map_or_else(|| self.hosts_allowed.clone(), |host| vec![host]))
                    }
                };
            }
            _ => at,
        };
        self.mode = Mode::Menu { menu, at };
        Action::Nothing
    }

    fn chart_key(&mut self, code: KeyCode) -> Action {
        let now = self.now();
        let Some(trend) = &mut self.trend else {
            self.mode = Mode::Table;
            return Action::Nothing;
        };
        let before = trend.wanted.clone();
        let at = SPANS.iter().position(|span| *span == before.span).unwrap_or(0);
        match code {
            KeyCode::Esc | KeyCode::Enter | KeyCode::Backspace | KeyCode::Char('q') => {
                self.mode = Mode::Table;
                self.trend = None;
                return Action::Trend;
            }
            KeyCode::F(10) => return Action::Quit,
            KeyCode::Char('+' | '=') => trend.wanted.span = *SPANS.get(at + 1).unwrap_or(&before.span),
            KeyCode::Char('-') => trend.wanted.span = at.checked_sub(1).map_or(before.span, |at| SPANS[at]),
            KeyCode::Char('n') => trend.wanted.until = None,
            KeyCode::Left | KeyCode::Right => {
                let half = SignedDuration::try_from(before.span / 2).unwrap_or_default();
                let end = before.until.or(now);
                let moved = end.and_then(|end| {
                    if code == KeyCode::Left {
                        end.checked_sub(half)
                    } else {
                        end.checked_add(half)
                    }
                    .ok()
                });
                trend.wanted.until = match (moved, now) {
                    (Some(moved), Some(now)) if moved >= now => None,
                    (Some(moved), _) => Some(moved),
                    (None, _) => before.until,
                };
            }
            _ => {}
        }
        if trend.wanted == before {
            Action::Nothing
        } else {
            Action::Trend
        }
    }

    /// Opens the history of the chosen row, or looks into it.
    fn enter(&mut self) -> Action {
        let rows = self.rows();
        let (Some(seen), Some(row)) = (&self.seen, rows.get(self.cursor(&rows))) else {
            return Action::Nothing;
        };
        let row = row.process.clone();
        let subject = match (seen.query.by, row.process_id.as_ref(), row.hosts.as_slice()) {
            (By::Process, Some(id), _) => Subject::Process(id.clone()),
            (By::Command, _, [host]) => Subject::Name {
                host: host.clone(),
                name: row.name.clone(),
            },
            (By::Host, _, _) => {
                let host = row.name;
                self.query.by = By::Process;
                self.start_over();
                return self.on_hosts(vec![host]);
            }
            (By::Command, _, _) => {
                self.note = Some("a name has one history a host: choose a host with H");
                return Action::Nothing;
            }
            _ => {
                self.note = Some("histories are of processes, commands and hosts: g");
                return Action::Nothing;
            }
        };
        self.mode = Mode::Chart;
        self.trend = Some(Trend {
            wanted: Wanted {
                subject,
                span: SPANS[0],
                until: self.query.past.map(|past| past.end),
            },
            row,
            answer: None,
            failure: None,
        });
        Action::Trend
    }

    fn open(&mut self, menu: Menu) {
        let (_, at) = self.choices(menu);
        self.mode = Mode::Menu { menu, at };
    }

    fn on_hosts(&mut self, hosts: Vec<String>) -> Action {
        self.query.hosts = hosts;
        self.start_over();
        self.ask()
    }

    fn group(&mut self) -> Action {
        self.query.by = match self.query.by {
            By::Process => By::Command,
            By::Command => By::Container,
            By::Container => By::Pod,
            By::Pod => By::User,
            By::User => By::Host,
            By::Host => By::Process,
        };
        self.start_over();
        self.ask()
    }

    fn order(&mut self, order: Order) -> Action {
        let asked = self.query.order.sort();
        self.query.order = order;
        self.start_over();
        if asked == order.sort() {
            Action::Nothing
        } else {
            Action::Ask
        }
    }

    fn look_back(&mut self, widths: i32) -> Action {
        let shown = self
            .seen
            .as_ref()
            .and_then(|seen| Past::of(seen.top.range.as_ref()));
        let now = self.now();
        if self.query.look_back(widths, shown, now) {
            self.ask()
        } else {
            Action::Nothing
        }
    }

    fn back_to_now(&mut self) -> Action {
        if self.query.past.take().is_some() {
            self.ask()
        } else {
            Action::Nothing
        }
    }

    fn widen(&mut self, wider: bool) -> Action {
        if self.query.widen(wider) {
            self.ask()
        } else {
            Action::Nothing
        }
    }

    /// Another question goes on at once, also when the screen was held.
    fn ask(&mut self) -> Action {
        self.pause(false);
        Action::Ask
    }

    fn pause(&mut self, paused: bool) {
        self.paused = paused;
        if let Some(newest) = self.held_back.take() {
            self.seen = Some(newest);
        }
    }

    fn start_over(&mut self) {
        self.offset = 0;
        self.cursor = (None, 0);
    }

    fn move_cursor(&mut self, code: KeyCode, page: usize) {
        let rows = self.rows();
        let last = rows.len().saturating_sub(1);
        let (at, first) = (self.cursor(&rows), self.first_row(&rows, page));
        let (to, first) = match code {
            KeyCode::Up | KeyCode::Char('k') => (at.saturating_sub(1), first),
            KeyCode::Down | KeyCode::Char('j') => (at.saturating_add(1).min(last), first),
            KeyCode::PageUp => (at.saturating_sub(page), first.saturating_sub(page)),
            KeyCode::PageDown => (at.saturating_add(page).min(last), first.saturating_add(page)),
            KeyCode::Home => return self.start_over(),
            KeyCode::End => (last, last),
            _ => return,
        };
        let key = rows.get(to).map(|row| key_of(row.process).to_owned());
        self.cursor = (key, to);
        self.offset = first;
        let rows = self.rows();
        self.offset = self.first_row(&rows, page);
    }
}
