//! What the live top knows and what keys do to it. Pure: no clock, no terminal, no network.

mod keys;

use std::{cmp::Ordering, time::Duration};

use jiff::{SignedDuration, Timestamp};
use procscope_proto::v1::{
    GetAuditResponse, GetProcessHistoryResponse, Host, ListTopProcessesResponse, TopProcess,
};

pub(super) use self::keys::Action;
use super::{
    ask::{Order, Past, Query},
    columns, tree,
    tree::Row,
    trend::{Trend, Wanted},
};
use crate::args::{By, Sort};

/// One answer, and the question it belongs to.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub query: Query,
    pub top: ListTopProcessesResponse,
    /// Where the CPU time of the same range went; `None` when the collector did not say.
    pub audit: Option<GetAuditResponse>,
    /// All hosts with something in that range; `None` when the collector did not say.
    pub hosts: Option<Vec<Host>>,
    /// The collector did not say because too many ask.
    pub busy: bool,
}

/// What the feed tells.
#[derive(Debug)]
pub(super) enum Update {
    /// Connected; the first answer comes when an interval is complete.
    Connected,
    /// A new interval is complete.
    Seen(Box<Seen>),
    /// Connected, and nothing comes: because too many ask, or because there is nothing.
    Silent { busy: bool },
    /// There is no answer at the moment; `why` is safe to show.
    Away {
        why: String,
        retry_in: Duration,
        /// Because too many ask.
        busy: bool,
    },
    /// A history, or why there is none.
    Trend {
        wanted: Wanted,
        answer: Box<Result<GetProcessHistoryResponse, String>>,
    },
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
    /// One of a list is being chosen; `at` is the one that Enter takes.
    Menu {
        menu: Menu,
        at: usize,
    },
    /// One process over time.
    Chart,
}

/// What can be chosen from a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Menu {
    Order,
    Host,
}

/// How rows stand, beside what they are ordered by.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Arranged {
    /// The least stands first.
    pub inverted: bool,
    /// Processes hang below their parents.
    pub tree: bool,
    /// Processes that ended stand first.
    pub ended_first: bool,
}

/// All of the live view.
#[derive(Debug)]
pub(super) struct State {
    /// Where the collector is, safe to show.
    pub server: String,
    pub query: Query,
    /// The hosts that were named when the program was started; all when none was.
    hosts_allowed: Vec<String>,
    /// The collector was asked for at most so many rows.
    pub limit: usize,
    pub link: Link,
    /// What the collector said last was that too many ask.
    pub busy: bool,
    pub mode: Mode,
    pub arranged: Arranged,
    pub seen: Option<Seen>,
    /// The screen holds still.
    pub paused: bool,
    /// The newest answer that came while paused.
    held_back: Option<Seen>,
    /// Since when nothing new has come.
    pub quiet_for: Duration,
    /// End of the newest interval that was seen, and the time since then: the present, as far as it is known.
    newest: Option<(Timestamp, Duration)>,
    /// First row on the screen.
    offset: usize,
    /// The row that Enter opens: that of this key while it is there, else the one at this place. Without a key it
    /// is the place that counts.
    cursor: (Option<String>, usize),
    pub trend: Option<Trend>,
    /// Something that a key could not do, until the next one.
    pub note: Option<&'static str>,
}

impl State {
    /// Before the first answer.
    pub(super) fn new(server: String, query: Query, limit: usize) -> Self {
        Self {
            server,
            hosts_allowed: query.hosts.clone(),
            query,
            limit,
            link: Link::Connecting,
            busy: false,
            mode: Mode::Table,
            arranged: Arranged::default(),
            seen: None,
            paused: false,
            held_back: None,
            quiet_for: Duration::ZERO,
            newest: None,
            offset: 0,
            cursor: (None, 0),
            trend: None,
            note: None,
        }
    }

    /// Takes in what the feed tells.
    pub(super) fn update(&mut self, update: Update) {
        match update {
            Update::Connected => self.link = Link::Connected,
            Update::Silent { busy } => self.busy = busy,
            Update::Away { why, retry_in, busy } => {
                self.busy = busy;
                self.link = Link::Away { why, retry_in };
            }
            Update::Seen(seen) => self.see(*seen),
            Update::Trend { wanted, answer } => {
                // One that was asked for before says nothing about what is wanted now.
                if let Some(trend) = self.trend.as_mut().filter(|trend| trend.wanted == wanted) {
                    match *answer {
                        Ok(answer) => {
                            trend.answer = Some(answer);
                            trend.failure = None;
                        }
                        Err(why) => trend.failure = Some(why),
                    }
                }
            }
        }
    }

    fn see(&mut self, mut seen: Seen) {
        self.link = Link::Connected;
        self.busy = seen.busy;
        // One that was on its way when a key asked for something else.
        if !self.query.is_answered_by(&seen.query) {
            return;
        }
        self.quiet_for = Duration::ZERO;
        if seen.query.past.is_none()
            && let Some(range) = Past::of(seen.top.range.as_ref())
        {
            self.newest = Some((range.end, Duration::ZERO));
        }
        if seen.query.past.is_some() {
            // Where its intervals really lie: steps go on from there.
            seen.query.past = Past::of(seen.top.range.as_ref()).or(seen.query.past);
            self.query.past = seen.query.past;
        }
        if self.paused {
            self.held_back = Some(seen);
        } else {
            self.seen = Some(seen);
        }
    }

    /// Time passes.
    pub(super) fn tick(&mut self, passed: Duration) {
        self.quiet_for = self.quiet_for.saturating_add(passed);
        if let Some((_, since)) = &mut self.newest {
            *since = since.saturating_add(passed);
        }
        if let Link::Away { retry_in, .. } = &mut self.link {
            *retry_in = retry_in.saturating_sub(passed);
        }
    }

    /// The present, as far as it is known.
    pub(super) fn now(&self) -> Option<Timestamp> {
        let (end, since) = self.newest?;
        end.checked_add(SignedDuration::try_from(since).ok()?).ok()
    }

    /// How long ago what is looked at was; `None` for the present.
    pub(super) fn back_ns(&self) -> Option<u64> {
        let past = self.query.past?;
        Some(crate::when::between_ns(past.end, self.now().unwrap_or(past.end)))
    }

    /// The answer on the screen is not the one that was asked for last.
    pub(super) fn is_waiting(&self) -> bool {
        self.seen
            .as_ref()
            .is_some_and(|seen| !self.query.is_answered_by(&seen.query))
    }

    /// The rows to show, filtered and in order. Sorted here too, so that a key has its effect at once.
    pub(super) fn rows(&self) -> Vec<Row<'_>> {
        let Some(seen) = &self.seen else { return Vec::new() };
        let filter = self.query.filter.to_lowercase();
        let mut rows: Vec<&TopProcess> = seen
            .top
            .processes
            .iter()
            .filter(|p| p.name.to_lowercase().contains(&filter))
            .collect();
        let ended_first = |p: &TopProcess| self.arranged.ended_first && columns::ended(p);
        rows.sort_by(|a, b| {
            let order = compare(self.query.order, a, b);
            ended_first(b)
                .cmp(&ended_first(a))
                .then(if self.arranged.inverted {
                    order.reverse()
                } else {
                    order
                })
        });
        if self.arranged.tree && seen.query.by == By::Process {
            tree::arrange(&rows)
        } else {
            rows.into_iter().map(Row::flat).collect()
        }
    }

    /// Where the chosen row is.
    pub(super) fn cursor(&self, rows: &[Row<'_>]) -> usize {
        let (key, place) = &self.cursor;
        key.as_deref()
            .and_then(|key| rows.iter().position(|row| key_of(row.process) == key))
            .unwrap_or_else(|| (*place).min(rows.len().saturating_sub(1)))
    }

    /// The first row to show, such that the chosen one is on the screen and the last page full.
    pub(super) fn first_row(&self, rows: &[Row<'_>], page: usize) -> usize {
        let cursor = self.cursor(rows);
        self.offset
            .max((cursor + 1).saturating_sub(page))
            .min(cursor)
            .min(rows.len().saturating_sub(page))
    }

    /// What a menu lists, and which of it is so now.
    pub(super) fn choices(&self, menu: Menu) -> (Vec<String>, usize) {
        match menu {
            Menu::Order => {
                let words = Order::ALL.iter().map(|order| order.word().to_owned()).collect();
                let now = Order::ALL.iter().position(|order| *order == self.query.order);
                (words, now.unwrap_or(0))
            }
            Menu::Host => {
                let hosts = self.hosts();
                let now = match self.query.hosts.as_slice() {
                    [host] => hosts.iter().position(|name| name == host).map_or(0, |at| at + 1),
                    _ => 0,
                };
                let mut words = vec!["all hosts".to_owned()];
                words.extend(hosts.iter().map(|host| crate::text::safe(host)));
                (words, now)
            }
        }
    }

    /// The hosts that can be chosen.
    fn hosts(&self) -> Vec<String> {
        if !self.hosts_allowed.is_empty() {
            return self.hosts_allowed.clone();
        }
        let seen = self
            .seen
            .as_ref()
            .and_then(|seen| seen.hosts.as_deref())
            .unwrap_or_default();
        crate::heading::host_names(seen, &[])
    }
}

/// What names a row, from one answer to the next.
fn key_of(p: &TopProcess) -> &str {
    p.process_id.as_deref().unwrap_or(&p.name)
}

/// The order of two rows; what is not known comes last.
fn compare(order: Order, a: &TopProcess, b: &TopProcess) -> Ordering {
    match order {
        // As other tools do: the smallest number first.
        Order::Pid => a.pid.unwrap_or(u32::MAX).cmp(&b.pid.unwrap_or(u32::MAX)),
        Order::Time => time_rank(b).total_cmp(&time_rank(a)),
        Order::By(sort) => rank(sort, b).total_cmp(&rank(sort, a)),
    }
}

fn time_rank(p: &TopProcess) -> f64 {
    p.cpu_time_ns.map_or(p.cpu_seconds, count_rank)
}

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
mod tests;
