//! Processes that do not run, of which a walk tells little.

use super::*;

#[test]
fn a_row_is_made_once_for_a_process_that_sleeps_and_anew_when_it_wakes_up() {
    let mut fold = seeded(&[]);
    let sleeper = with_memory(leader(key(10), 100), 50, 60);
    interval(&mut fold, &[sleeper]);
    let quiet = interval_of(&mut fold, &[still(&sleeper)]);
    assert_eq!((of(&quiet, key(10)), quiet.same), (Some((100, 0, false)), 0));
    for _interval in 0..3 {
        let again = interval_of(&mut fold, &[still(&sleeper)]);
        assert_eq!((&again.processes, again.same), (&quiet.processes, 1));
    }
    let awake = interval(&mut fold, &[with_memory(leader(key(10), 130), 50, 60)]);
    assert_eq!((of(&awake, key(10)), awake.same), (Some((130, 30, false)), 0));
    let asleep = interval_of(&mut fold, &[still(&sleeper)]);
    assert_eq!((of(&asleep, key(10)), asleep.same), (Some((130, 0, false)), 0));
}

#[test]
fn what_others_change_of_a_sleeper_shows_at_once() {
    type Change = fn(&mut Present);
    let sleeper = with_memory(leader(key(10), 100), 50, 60);
    let cases: [(&str, Change); 7] = [
        ("memory", |now| now.anon_pages = 40),
        ("a peak", |now| now.hiwater_pages = 70),
        ("swap", |now| now.swap_pages = 5),
        ("the control group", |now| now.cgroup_id = 2),
        ("the limit", |now| now.open_files_limit = 10),
        ("the state", |now| now.state = 4),
        ("the name", |now| now.comm[0] = b'N'),
    ];
    for (what, change) in cases {
        let mut fold = seeded(&[]);
        interval(&mut fold, &[sleeper]);
        for _interval in 0..3 {
            interval_of(&mut fold, &[still(&sleeper)]);
        }
        let mut changed = sleeper;
        change(&mut changed.now);
        let told = interval_of(&mut fold, &[still(&changed)]);
        let mut whole = seeded(&[]);
        for record in [sleeper, sleeper, sleeper, sleeper] {
            interval(&mut whole, &[record]);
        }
        let expected = interval(&mut whole, &[changed]);
        assert_eq!((&told.processes, told.same), (&expected.processes, 0), "{what}");
    }
}

#[test]
fn a_sleeper_that_nobody_knows_makes_the_next_walk_tell_all() {
    let mut fold = seeded(&[]);
    interval(&mut fold, &[leader(key(10), 1)]);
    assert!(!fold.take_met_stranger());
    interval_of(
        &mut fold,
        &[still(&leader(key(10), 1)), still(&leader(key(11), 1))],
    );
    assert!(fold.take_met_stranger() && !fold.take_met_stranger());
}
