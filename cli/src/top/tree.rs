//! Processes under their parents. Pure.

use std::collections::HashMap;

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

/// The same rows, each below its parent. Families stand where the first of them stood, and so do siblings. One whose
/// parent is not among them stands by itself.
pub(super) fn arrange<'a>(processes: &[&'a TopProcess]) -> Vec<Row<'a>> {
    let known: HashMap<Identity<'_>, usize> = processes
        .iter()
        .enumerate()
        .filter_map(|(place, p)| Some((identity(p)?, place)))
        .collect();
    let parents: Vec<Option<usize>> = processes
        .iter()
        .map(|p| known.get(&parent(p)?).copied())
        .collect();
    let families = families(&parents);
    let mut children = vec![Vec::new(); processes.len()];
    let mut roots = Vec::new();
    for place in families {
        match parents[place] {
            Some(parent) => children[parent].push(place),
            None => roots.push(place),
        }
    }
    let mut rows = Vec::with_capacity(processes.len());
    let mut placed = vec![false; processes.len()];
    let mut put = |place: usize, branch: String| {
        placed[place] = true;
        rows.push(Row {
            process: processes[place],
            branch,
        });
    };
    hang(roots, &children, &mut put);
    // Parents that go round in a circle are nobody's; what they carry stands by itself.
    let lost = placed.iter().zip(processes).filter(|(placed, _)| !**placed);
    rows.extend(lost.map(|(_, p)| Row::flat(p)));
    rows
}

/// All places, those first whose family has somebody at the beginning of the list.
fn families(parents: &[Option<usize>]) -> Vec<usize> {
    let mut first = vec![None; parents.len()];
    for place in 0..parents.len() {
        let mut ancestor = Some(place);
        // Who has one already has it from somebody before.
        while let Some(at) = ancestor.filter(|at| first[*at].is_none()) {
            first[at] = Some(place);
            ancestor = parents[at];
        }
    }
    let mut places: Vec<usize> = (0..parents.len()).collect();
    places.sort_by_key(|place| first[*place]);
    places
}

/// Puts rows, and below each what hangs on it.
fn hang(roots: Vec<usize>, children: &[Vec<usize>], put: &mut impl FnMut(usize, String)) {
    // What still has to be put: the place, what is drawn before it, and before what hangs on it.
    let mut waiting: Vec<(usize, String, String, usize)> = roots
        .into_iter()
        .rev()
        .map(|place| (place, String::new(), String::new(), 0))
        .collect();
    while let Some((place, branch, below, depth)) = waiting.pop() {
        put(place, branch);
        let deeper = |further: &str| {
            let further = if depth < DEPTH_MAX { further } else { "" };
            format!("{below}{further}")
        };
        for (index, child) in children[place].iter().rev().enumerate() {
            let (here, further) = if index == 0 {
                ("└─ ", "   ")
            } else {
                ("├─ ", "│  ")
            };
            waiting.push((*child, format!("{below}{here}"), deeper(further), depth + 1));
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
        let rows = arrange(&processes.iter().collect::<Vec<_>>());
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
    fn a_family_stands_where_the_first_of_it_stood() {
        check(
            &[process(5, 2), process(1, 0), process(6, 1), process(2, 0)],
            &["2", "└─ 5", "1", "└─ 6"],
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
            let mut pids: Vec<u32> = arrange(&processes.iter().collect::<Vec<_>>()).iter().filter_map(|row| row.process.pid).collect();
            pids.sort_unstable();
            prop_assert!(pids.into_iter().eq((0..).take(parents.len())));
        }
    }
}
