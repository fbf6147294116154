//! Who stands in a top, from lists of those who used most in samples, minutes and hours.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use super::Metric;
use crate::{
    model::to_f64,
    store::{answers::RankRow, cut::Level},
};

/// Processes beside the rows of a top that may have to be looked at before it is known who stands in it; beyond them all
/// are added up.
const DOUBTFUL_MAX: usize = 100;

/// Sums of floats in another order differ by less.
const ROUNDING: f64 = 1e-9;

/// Those that used most in one level of a cut.
#[derive(Debug)]
pub(super) struct List {
    pub(super) rows: Vec<RankRow>,
    /// Nobody is missing.
    pub(super) is_whole: bool,
}

/// How parts of a range make one figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Adds {
    /// Of what the host observed.
    Share,
    Sum,
    Greatest,
}

/// Somebody and where.
pub(super) type Who = (String, String);

/// The figure that ranks, and the share of CPU that decides between equals.
pub(super) type Rank = (f64, f64);

impl Adds {
    pub(super) fn of(metric: Metric) -> Self {
        match metric {
            Metric::Cpu | Metric::Memory => Self::Share,
            Metric::PeakMemory => Self::Greatest,
            Metric::Runqueue | Metric::Io | Metric::Faults | Metric::Switches => Self::Sum,
        }
    }
}

impl List {
    /// What nobody exceeds who is not in the list.
    fn bound(&self, adds: Adds) -> Rank {
        let Some(last) = self.rows.last().filter(|_last| !self.is_whole) else {
            return (0.0, 0.0);
        };
        let figure = match adds {
            Adds::Share => last.score / last.observed_ns,
            Adds::Sum | Adds::Greatest => last.score,
        };
        // Of those with less than this, one may still have used more CPU.
        let share = if figure > 0.0 {
            f64::INFINITY
        } else {
            last.cpu_ns / last.observed_ns
        };
        (figure, share)
    }
}

/// What is known of somebody from the lists.
struct Known<'a> {
    host: &'a str,
    /// Of each list that names them.
    rows: Vec<Option<&'a RankRow>>,
}

impl Known<'_> {
    /// The least and the most that it can be, of a host that observed so much.
    fn ranks(&self, bounds: &[Rank], adds: Adds, observed_ns: f64) -> (Rank, Rank) {
        let rows = || self.rows.iter().flatten();
        let sum = |of: fn(&RankRow) -> f64| rows().map(|row| of(row)).sum::<f64>();
        let missing = || {
            self.rows
                .iter()
                .zip(bounds)
                .filter(|(row, _bound)| row.is_none())
                .map(|(_row, bound)| bound)
        };
        let most = |of: fn(&Rank) -> f64| missing().map(of).fold(0.0, f64::max);
        // What it was not listed for lies within the rest of what its host observed.
        let rest = (observed_ns - sum(|row| row.observed_ns)).max(0.0) / observed_ns;
        let of_rest = |share: f64| {
            if share > 0.0 && rest > 0.0 {
                rest * share
            } else {
                0.0
            }
        };
        let cpu = sum(|row| row.cpu_ns) / observed_ns;
        let (least, greatest) = match adds {
            Adds::Share => {
                let least = sum(|row| row.score) / observed_ns;
                (least, least + of_rest(most(|bound| bound.0)))
            }
            Adds::Sum => {
                let least = sum(|row| row.score);
                (least, least + missing().map(|bound| bound.0).sum::<f64>())
            }
            Adds::Greatest => {
                let least = rows().map(|row| row.score).fold(0.0, f64::max);
                (least, least.max(most(|bound| bound.0)))
            }
        };
        ((least, cpu), (greatest, cpu + of_rest(most(|bound| bound.1))))
    }
}

/// All who can stand in a top of `limit` rows, and where they ran; `None`: the lists do not tell.
pub(super) fn chosen(
    lists: &[Arc<List>],
    adds: Adds,
    observed: &HashMap<&str, u64>,
    limit: u32,
) -> Option<Vec<Who>> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let bounds: Vec<_> = lists.iter().map(|list| list.bound(adds)).collect();
    let mut known = BTreeMap::<&str, Known<'_>>::new();
    for (place, list) in lists.iter().enumerate() {
        for row in &list.rows {
            let one = known.entry(&row.id).or_insert_with(|| Known {
                host: &row.ran_on,
                rows: vec![None; lists.len()],
            });
            one.rows[place] = Some(row);
        }
    }
    let mut ranked: Vec<_> = known
        .iter()
        .filter_map(|(id, one)| {
            let observed_ns = *observed.get(one.host)?;
            let (least, most) = one.ranks(&bounds, adds, to_f64(observed_ns));
            Some((*id, one.host, least, most))
        })
        .collect();
    // By id where they are equal: the map is in that order.
    ranked.sort_by(|a, b| most_first(a.2, b.2));
    let who = |(id, host, ..): &(&str, &str, Rank, Rank)| ((*id).to_owned(), (*host).to_owned());
    if lists.iter().all(|list| list.is_whole) {
        return Some(ranked.iter().take(limit).map(who).collect());
    }
    let (.., last, _most) = *ranked.get(limit.checked_sub(1)?)?;
    let unlisted = match adds {
        Adds::Share | Adds::Greatest => bounds.iter().map(|bound| bound.0).fold(0.0, f64::max),
        Adds::Sum => bounds.iter().map(|bound| bound.0).sum(),
    };
    let unlisted = (unlisted, bounds.iter().map(|bound| bound.1).fold(0.0, f64::max));
    if can_reach(unlisted, last) {
        return None;
    }
    let candidates: Vec<_> = ranked
        .iter()
        .filter(|(.., most)| can_reach(*most, last))
        .map(who)
        .collect();
    (candidates.len() <= limit + limit.max(DOUBTFUL_MAX)).then_some(candidates)
}

/// Whether one who has at most this can stand before the one who has at least that.
fn can_reach(most: Rank, least: Rank) -> bool {
    let reaches = |most: f64, least: f64| most >= least - least * ROUNDING;
    if least.0 > 0.0 || most.0 > 0.0 {
        reaches(most.0, least.0)
    } else {
        reaches(most.1, least.1)
    }
}

/// Levels of whose lists, which name everybody, some are missing: there is nothing of them.
pub(super) fn absent(levels: &[Level], lists: &[Arc<List>], who: &[Who]) -> HashSet<(Level, String)> {
    let mut absent = HashSet::new();
    for (level, list) in levels.iter().zip(lists).filter(|(_level, list)| list.is_whole) {
        let named: HashSet<_> = list.rows.iter().map(|row| row.id.as_str()).collect();
        let missing = who.iter().filter(|(id, _host)| !named.contains(id.as_str()));
        absent.extend(missing.map(|(id, _host)| (*level, id.clone())));
    }
    absent
}

pub(super) fn most_first(a: Rank, b: Rank) -> Ordering {
    b.0.total_cmp(&a.0).then(b.1.total_cmp(&a.1))
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const LEVELS: usize = 3;
    const OBSERVED_NS: [f64; LEVELS] = [30.0, 600.0, 3_600.0];

    /// What a process used in each level: the figure that ranks, and CPU; and on which of two hosts.
    type Used = ([u32; LEVELS], [u32; LEVELS], bool);

    /// The second host was there for the first level only.
    fn observed_of(level: usize, on_second: bool) -> f64 {
        if on_second && level > 0 {
            0.0
        } else {
            OBSERVED_NS[level]
        }
    }

    fn host(on_second: bool) -> &'static str {
        if on_second { "new" } else { "old" }
    }

    fn rows(used: &[Used], level: usize, adds: Adds) -> Vec<RankRow> {
        let on = |(.., on_second): &Used| observed_of(level, *on_second);
        let here = used.iter().enumerate();
        let mut rows: Vec<_> = here
            .filter(|(_id, used)| on(used) > 0.0 && used.0[level] + used.1[level] > 0)
            .map(|(id, used)| RankRow {
                id: format!("{id:03}"),
                ran_on: host(used.2).to_owned(),
                score: used.0[level].into(),
                cpu_ns: used.1[level].into(),
                observed_ns: on(used),
            })
            .collect();
        let rank = |row: &RankRow| {
            let share = row.cpu_ns / row.observed_ns;
            match adds {
                Adds::Share => (row.score / row.observed_ns, share),
                Adds::Sum | Adds::Greatest => (row.score, share),
            }
        };
        rows.sort_by(|a, b| most_first(rank(a), rank(b)).then(a.id.cmp(&b.id)));
        rows
    }

    /// Of all processes, the ranks that stand in a top.
    fn top(used: &[Used], adds: Adds, limit: usize) -> Vec<(Rank, String)> {
        let mut ranks = Vec::new();
        for (id, one) in used.iter().enumerate() {
            let levels = || (0..LEVELS).filter(|level| observed_of(*level, one.2) > 0.0);
            let observed: f64 = levels().map(|level| observed_of(level, one.2)).sum();
            let scores = || levels().map(|level| f64::from(one.0[level]));
            let figure = match adds {
                Adds::Share => scores().sum::<f64>() / observed,
                Adds::Sum => scores().sum(),
                Adds::Greatest => scores().fold(0.0, f64::max),
            };
            let cpu: f64 = levels().map(|level| f64::from(one.1[level])).sum();
            ranks.push(((figure, cpu / observed), format!("{id:03}")));
        }
        ranks.sort_by(|a, b| most_first(a.0, b.0).then(a.1.cmp(&b.1)));
        ranks.truncate(limit);
        ranks
    }

    fn lists(used: &[Used], adds: Adds, listed: usize) -> Vec<Arc<List>> {
        let list = |level| {
            let mut rows = rows(used, level, adds);
            let is_whole = rows.len() < listed;
            rows.truncate(listed);
            Arc::new(List { rows, is_whole })
        };
        (0..LEVELS).map(list).collect()
    }

    fn observed() -> HashMap<&'static str, u64> {
        HashMap::from([("old", 4_230), ("new", 30)])
    }

    proptest! {
        /// Whoever stands in the top is among the chosen, however short the lists are.
        #[test]
        fn nobody_who_stands_in_a_top_is_missed(
            used in vec((any::<[u8; LEVELS]>(), any::<[u8; LEVELS]>(), any::<bool>()), 1..60),
            scale in 1_u32..1_000,
            listed in 5_usize..40,
            limit in 1_u32..5,
            adds in prop_oneof![Just(Adds::Share), Just(Adds::Sum), Just(Adds::Greatest)],
        ) {
            // Of few figures: many are equal, and many nothing.
            let used: Vec<Used> = used
                .into_iter()
                .enumerate()
                .map(|(id, (score, cpu, on_second))| {
                    let much = if id % 7 == 0 { scale } else { 1 };
                    (score.map(|n| u32::from(n % 4) * much), cpu.map(|n| u32::from(n % 3)), on_second)
                })
                .collect();
            let Some(who) = chosen(&lists(&used, adds, listed), adds, &observed(), limit) else {
                return Ok(());
            };
            let who: HashSet<_> = who.into_iter().map(|(id, _host)| id).collect();
            for (rank, id) in top(&used, adds, usize::try_from(limit).unwrap()) {
                // One who used nothing is in no list.
                prop_assert!(rank == (0.0, 0.0) || who.contains(&id), "{id} {rank:?} {who:?}");
            }
        }
    }

    #[test]
    fn lists_tell_who_stands_in_a_top_where_few_used_much() {
        let used: Vec<Used> = (0..300)
            .map(|id| {
                (
                    [1, if id < 3 { 500 } else { 2 }, if id == 7 { 3_000 } else { 5 }],
                    [1; 3],
                    false,
                )
            })
            .collect();
        for adds in [Adds::Share, Adds::Sum, Adds::Greatest] {
            let who = chosen(&lists(&used, adds, 50), adds, &observed(), 4).unwrap();
            let who: HashSet<_> = who.iter().map(|(id, _host)| id.as_str()).collect();
            assert!(
                ["000", "001", "002", "007"].iter().all(|id| who.contains(id)),
                "{adds:?} {who:?}"
            );
        }
        // Of many who are equal nobody knows who is first.
        let used: Vec<Used> = (0..300).map(|_id| ([1, 2, 5], [1; 3], false)).collect();
        assert_eq!(
            chosen(&lists(&used, Adds::Share, 50), Adds::Share, &observed(), 4),
            None
        );
        let who = chosen(&lists(&used, Adds::Share, 301), Adds::Share, &observed(), 4).unwrap();
        assert_eq!(
            who.iter().map(|(id, _host)| id.as_str()).collect::<Vec<_>>(),
            ["000", "001", "002", "003"]
        );
    }
}
