//! Groups of processes by command for Prometheus, with the names of process-exporter and of `OpenTelemetry`.
//!
//! Fed with each snapshot once, when the writer acknowledges it: exact, since a replay is never acknowledged again
//! as new, and cheap, since it costs a look-up a row and the store nothing. A question to the store at each scrape
//! would cost it a scan and could not say which rows came late.
//!
//! The groups change only when somebody scrapes. One that comes in is shown at zero first and counts from there; one
//! that goes is shown once more with all that it has and counts no more, and the time in between belongs to `other`.
//! So each interval belongs to exactly one series, and one who scrapes sees every rise. After a restart all begin at
//! zero; a group that comes back does too.

mod gauges;
mod page;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use self::gauges::{Gauges, Hosts};
use crate::model::{ProcessSample, Snapshot};

/// Groups that are exported beside `other`: each makes some forty series.
const GROUPS_MAX: usize = 100;

/// Commands whose use is kept in mind. When there are more, those that used least lately are forgotten.
const COMMANDS_MAX: usize = 8_192;

/// How long an exported group stays, at least.
const STAY: Duration = Duration::from_hours(1);

/// What was used counts half as much after this time.
const HALF_LIFE: Duration = Duration::from_mins(15);

/// The group of all processes that are in no other. A command of this name is in it.
const OTHER: &str = "other";

/// What a group has used since it is exported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Used {
    user_ns: u64,
    system_ns: u64,
    /// CPU time of which it is not known whether it was spent in the kernel.
    unsplit_ns: u64,
    runqueue_ns: u64,
    read_bytes: u64,
    written_bytes: u64,
    voluntary_switches: u64,
    involuntary_switches: u64,
    minor_faults: u64,
    major_faults: u64,
}

impl Used {
    fn of(sample: &ProcessSample) -> Self {
        let cpu_ns = sample.cpu_time_ns_delta;
        // Their sum is the whole, so that no rounding of an agent's makes CPU time from nothing.
        let user_ns = sample.user_time_ns_delta.unwrap_or(0).min(cpu_ns);
        let system_ns = sample.system_time_ns_delta.unwrap_or(0).min(cpu_ns - user_ns);
        Self {
            user_ns,
            system_ns,
            unsplit_ns: cpu_ns - user_ns - system_ns,
            runqueue_ns: sample.runqueue_ns_delta.unwrap_or(0),
            read_bytes: sample.disk_read_bytes_delta.unwrap_or(0),
            written_bytes: sample.disk_written_bytes_delta.unwrap_or(0),
            voluntary_switches: sample.voluntary_switches_delta.unwrap_or(0),
            involuntary_switches: sample.involuntary_switches_delta.unwrap_or(0),
            minor_faults: sample.minor_faults_delta.unwrap_or(0),
            major_faults: sample.major_faults_delta.unwrap_or(0),
        }
    }

    fn add(&mut self, more: Self) {
        let pairs = [
            (&mut self.user_ns, more.user_ns),
            (&mut self.system_ns, more.system_ns),
            (&mut self.unsplit_ns, more.unsplit_ns),
            (&mut self.runqueue_ns, more.runqueue_ns),
            (&mut self.read_bytes, more.read_bytes),
            (&mut self.written_bytes, more.written_bytes),
            (&mut self.voluntary_switches, more.voluntary_switches),
            (&mut self.involuntary_switches, more.involuntary_switches),
            (&mut self.minor_faults, more.minor_faults),
            (&mut self.major_faults, more.major_faults),
        ];
        for (sum, more) in pairs {
            *sum = sum.saturating_add(more);
        }
    }

    fn cpu_ns(&self) -> u64 {
        self.user_ns + self.system_ns + self.unsplit_ns
    }
}

/// What the processes of a command have used in a snapshot, and what those are that live on.
#[derive(Debug, Default)]
struct Sums {
    used: Used,
    gauges: Gauges,
}

impl Sums {
    /// In the order in which the commands are named first. Hundreds of processes have some tens of names, and a look-up
    /// by name is what a row costs here.
    fn by_command(snapshot: &Snapshot) -> Vec<(&str, Self)> {
        let mut places: HashMap<&str, usize> = HashMap::new();
        let mut by_command: Vec<(&str, Self)> = Vec::new();
        for sample in &snapshot.samples {
            let name = &*sample.identity.name;
            let place = *places.entry(name).or_insert(by_command.len());
            if place == by_command.len() {
                by_command.push((name, Self::default()));
            }
            let Some((_name, sums)) = by_command.get_mut(place) else {
                continue;
            };
            sums.used.add(Used::of(sample));
            if !sample.exited {
                sums.gauges.add(&Gauges::of(sample));
            }
        }
        by_command
    }
}

/// A command, whether exported or not.
#[derive(Debug)]
struct Command {
    /// CPU time used lately, the older the less, at `at`.
    lately_ns: f64,
    at: Instant,
    exported: Option<Group>,
}

/// An exported group.
#[derive(Debug)]
struct Group {
    used: Used,
    since: Instant,
    /// It is shown once more and counts no more.
    leaving: bool,
}

impl Command {
    fn lately_ns(&self, now: Instant) -> f64 {
        let halves = now.saturating_duration_since(self.at).as_secs_f64() / HALF_LIFE.as_secs_f64();
        self.lately_ns * (-halves).exp2()
    }

    fn is_counting(&self) -> bool {
        self.exported.as_ref().is_some_and(|group| !group.leaving)
    }
}

#[derive(Debug)]
struct State {
    commands: HashMap<Arc<str>, Command>,
    other: Used,
    hosts: Hosts,
    /// Commands that found no room and were forgotten with what they used lately.
    forgotten: u64,
    groups_max: usize,
    commands_max: usize,
}

/// What all processes of the fleet have used, by command. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ProcessMetrics {
    state: Arc<Mutex<State>>,
}

impl Default for ProcessMetrics {
    fn default() -> Self {
        Self::with_bounds(GROUPS_MAX, COMMANDS_MAX)
    }
}

impl ProcessMetrics {
    fn with_bounds(groups_max: usize, commands_max: usize) -> Self {
        let state = State {
            commands: HashMap::new(),
            other: Used::default(),
            hosts: Hosts::default(),
            forgotten: 0,
            groups_max,
            commands_max,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Adds a snapshot that was stored. Each is added once.
    pub fn stored(&self, snapshot: &Snapshot, now: Instant) {
        let by_command = Sums::by_command(snapshot);
        let mut state = self.lock();
        let state = &mut *state;
        for (name, sums) in &by_command {
            state.add(name, sums.used, now);
        }
        let of_group = |name: &str| {
            let found = state.commands.get_key_value(name);
            found
                .filter(|(_name, command)| command.is_counting())
                .map(|(name, _command)| Arc::clone(name))
        };
        let now_are = by_command.iter().map(|(name, sums)| (*name, &sums.gauges));
        state.hosts.note(snapshot, now_are, of_group, now);
    }

    /// The page, as `OpenMetrics` text. Here the groups change.
    #[must_use]
    pub fn page(&self, now: Instant) -> String {
        let mut state = self.lock();
        state.elect(now);
        state.hosts.forget_silent(now);
        page::text(&state)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, name: &str, used: Used, now: Instant) {
        #[expect(
            clippy::cast_precision_loss,
            clippy::as_conversions,
            reason = "a rank needs no 64 bits"
        )]
        let lately_ns = used.cpu_ns() as f64;
        if let Some(command) = self.commands.get_mut(name) {
            command.lately_ns = command.lately_ns(now) + lately_ns;
            command.at = now;
            match &mut command.exported {
                Some(group) if !group.leaving => group.used.add(used),
                _ => self.other.add(used),
            }
            return;
        }
        self.other.add(used);
        if name == OTHER {
            return;
        }
        if self.commands.len() >= self.commands_max {
            self.forget(now);
        }
        let command = Command {
            lately_ns,
            at: now,
            exported: None,
        };
        self.commands.insert(name.into(), command);
    }

    /// Makes room: of those that are not exported, the half that used least lately.
    fn forget(&mut self, now: Instant) {
        let mut ranks: Vec<(f64, Arc<str>)> = self
            .commands
            .iter()
            .filter(|(_name, command)| command.exported.is_none())
            .map(|(name, command)| (command.lately_ns(now), Arc::clone(name)))
            .collect();
        ranks.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let half = ranks.len().div_ceil(2);
        for (_lately, name) in ranks.into_iter().take(half) {
            self.commands.remove(&name);
            self.forgotten += 1;
        }
    }

    /// Takes those away that have been shown for the last time, and fills the places with those that used most lately.
    fn elect(&mut self, now: Instant) {
        let mut ranks: Vec<(bool, f64, Arc<str>)> = Vec::new();
        for (name, command) in &self.commands {
            let group = command.exported.as_ref();
            let must_stay = group.is_some_and(|group| now.saturating_duration_since(group.since) < STAY);
            ranks.push((must_stay, command.lately_ns(now), Arc::clone(name)));
        }
        ranks.sort_by(|a, b| {
            (b.0, b.1)
                .partial_cmp(&(a.0, a.1))
                .unwrap_or(std::cmp::Ordering::Equal)
        });
        for (place, (_stays, _lately, name)) in ranks.into_iter().enumerate() {
            let Some(command) = self.commands.get_mut(&name) else {
                continue;
            };
            let is_in = place < self.groups_max;
            match &mut command.exported {
                // It was shown with all it has, and nothing came since.
                Some(group) if group.leaving && !is_in => command.exported = None,
                Some(group) => {
                    if group.leaving {
                        group.since = now;
                    }
                    group.leaving = !is_in;
                }
                None if is_in => {
                    command.exported = Some(Group {
                        used: Used::default(),
                        since: now,
                        leaving: false,
                    });
                }
                None => {}
            }
        }
    }

    /// The exported groups and `other`, in the order of names: what each has used, and what it is now.
    fn groups(&self) -> Vec<(&str, Used, Gauges)> {
        let now = self.hosts.sums();
        let of = |name: &str| now.get(name).copied().unwrap_or_default();
        let mut groups: Vec<_> = self
            .commands
            .iter()
            .filter_map(|(name, command)| Some((&**name, command.exported.as_ref()?.used, of(name))))
            .collect();
        groups.push((OTHER, self.other, of(OTHER)));
        groups.sort_by_key(|(name, ..)| *name);
        groups
    }
}

#[cfg(test)]
mod tests;
