//! Processes under their parents. Pure.

use std::collections::{HashMap, HashSet};

use procscope_proto::v1::TopProcess;

/// Deeper ones are drawn as deep as this.
const DEPTH_MAX: usize = 24;

/// A row of the table, and what is drawn before its name.
#[derive(Debug, Clone)]
pub(super) struct Row<'a> {
    pub process: &'a TopProcess,
    pub branch: String,
}

impl<'a> Row<'a> {
    /// A row that hangs on nothing.
    pub(super) fn flat(process: &'a TopProcess) -> Self {
        Self {
            process,
            branch: String::new(),
        }
    }
}

/// A process for good: host, boot, number and start.
type Identity<'a> = (Option<&'a String>, Option<&'a str>, u32, u64);

fn identity(p: &TopProcess) -> Option<Identity<'_>> {
    Some((
        p.hosts.first(),
        p.boot_id.as_deref(),
        p.pid?,
        p.start_boottime_ns?,
    ))
}

fn parent(p: &TopProcess) -> Option<Identity<'_>> {
    let start = p.parent_start_boottime_ns?;
    Some((p.hosts.first(), p.boot_id.as_deref(), p.parent_pid?, start))
}

/// The same rows, each below its parent; siblings stay in their order. One whose parent is not among them stands by
/// itself.
pub(super) fn arrange(processes: Vec<&TopProcess>) -> Vec<Row<'_>> {
    let known: HashSet<Identity<'_>> = processes.iter().filter_map(|p| identity(p)).collect();
    let mut children: HashMap<Identity<'_>, Vec<&TopProcess>> = HashMap::new();
    let mut roots = Vec::new();
    for p in &processes {
        match parent(p).filter(|parent| known.contains(parent)) {
            Some(parent) => children.entry(parent).or_default().push(p),
            None => roots.push(*p),
        }
    }
    let mut rows = Vec::with_capacity(processes.len());
    hang(roots, &mut children, &mut rows);
    if !children.is_empty() {
        // Parents that go round in a circle are nobody's; what they carry stands by itself.
        let placed: HashSet<*const TopProcess> = rows
            .iter()
            .map(|row: &Row<'_>| std::ptr::from_ref(row.process))
            .collect();
        let rest = processes
            .into_iter()
            .filter(|p| !placed.contains(&std::ptr::from_ref(*p)));
        rows.extend(rest.map(Row::flat));
    }
    rows
}

/// Puts rows and what hangs on them behind the others, taking each parent's children once.
fn hang<'a>(
    roots: Vec<&'a TopProcess>,
    children: &mut HashMap<Identity<'a>, Vec<&'a TopProcess>>,
    rows: &mut Vec<Row<'a>>,
) {
    // What still has to be placed: the process, what is drawn before it, and before what hangs on it.
    let mut waiting: Vec<(&TopProcess, String, String, usize)> = roots
        .into_iter()
        .rev()
        .map(|p| (p, String::new(), String::new(), 0))
        .collect();
    while let Some((process, branch, below, depth)) = waiting.pop() {
        rows.push(Row { process, branch });
        let Some(mut found) = identity(process).and_then(|identity| children.remove(&identity)) else {
            continue;
        };
        let last = found.pop();
        for (child, is_last) in last
            .map(|p| (p, true))
            .into_iter()
            .chain(found.into_iter().rev().map(|p| (p, false)))
        {
            let (here, further) = if is_last {
                ("└─ ", "   ")
            } else {
                ("├─ ", "│  ")
            };
            let deeper = if depth < DEPTH_MAX { further } else { "" };
            waiting.push((
                child,
                format!("{below}{here}"),
                format!("{below}{deeper}"),
                depth + 1,
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn process(pid: u32, parent: u32) -> TopProcess {
        TopProcess {
            name: pid.to_string(),
            pid: Some(pid),
            start_boottime_ns: Some(u64::from(pid)),
            parent_pid: Some(parent),
            parent_start_boottime_ns: Some(u64::from(parent)),
            ..TopProcess::default()
        }
    }

    fn check(processes: &[TopProcess], expected: &[&str]) {
        let rows = arrange(processes.iter().collect());
        let drawn: Vec<String> = rows
            .iter()
            .map(|row| format!("{}{}", row.branch, row.process.name))
            .collect();
        assert_eq!(drawn, expected);
    }

    #[test]
    fn children_hang_on_their_parents_in_the_order_of_the_list() {
        check(
            &[
                process(9, 1),
                process(3, 2),
                process(1, 0),
                process(2, 1),
                process(4, 2),
                process(7, 99),
            ],
            &["1", "├─ 9", "└─ 2", "   ├─ 3", "   └─ 4", "7"],
        );
        check(
            &[process(1, 0), process(2, 1), process(3, 2), process(4, 1)],
            &["1", "├─ 2", "│  └─ 3", "└─ 4"],
        );
    }

    #[test]
    fn a_number_that_was_used_again_is_no_parent() {
        let mut child = process(2, 1);
        child.parent_start_boottime_ns = Some(77);
        check(&[process(1, 0), child], &["1", "2"]);
    }

    #[test]
    fn parents_in_a_circle_lose_nobody() {
        check(&[process(1, 2), process(2, 1), process(3, 3)], &["1", "2", "3"]);
    }

    proptest! {
        #[test]
        fn everybody_is_there_once(parents in proptest::collection::vec(0_u32..40, 0..40)) {
            let processes: Vec<TopProcess> = (0..).zip(&parents).map(|(pid, parent)| process(pid, *parent)).collect();
            let mut pids: Vec<u32> = arrange(processes.iter().collect()).iter().filter_map(|row| row.process.pid).collect();
            pids.sort_unstable();
            prop_assert!(pids.into_iter().eq((0..).take(parents.len())));
        }
    }
}
