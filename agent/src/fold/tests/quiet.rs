//! Ends that are told late or not at all, in quiet mode.

use super::*;

#[test]
fn in_quiet_mode_the_kernels_sum_has_the_threads_that_nobody_heard() {
    let mut fold = seeded(&[]);
    fold.go_quiet();
    fold.fork(&fork(key(10)));
    let folded = interval(&mut fold, &[leader(key(10), 100), task(key(10), 11, 7, cpu(40))]);
    assert_eq!(of(&folded, key(10)), Some((140, 140, false)));
    fold.exit(&exit(key(10), 77));
    // Thread 11 goes unheard, and another one that no walk found.
    fold.process_freed(&freed(key(10), 400));
    let folded = interval(&mut fold, &[]);
    assert_eq!(of(&folded, key(10)), Some((400, 260, true)));
    assert_eq!(folded.lost_ends, 0);
    // The kernel frees them in any order.
    fold.thread_end(&end(key(10), 12, 8, 250), 0);
    fold.thread_end(&leader_end(key(10), 100), 0);
    for _walk in 0..5 {
        let folded = interval(&mut fold, &[]);
        assert_eq!((folded.processes.len(), folded.lost_ends), (0, 0));
    }
}

#[test]
fn in_quiet_mode_a_process_whose_last_end_nobody_heard_is_counted_as_lost() {
    let mut fold = seeded(&[]);
    fold.go_quiet();
    fold.fork(&fork(key(10)));
    fold.exit(&exit(key(10), 77));
    fold.thread_end(&end(key(10), 11, 7, 40), 0);
    let lost = std::iter::repeat_with(|| interval(&mut fold, &[]))
        .take(10)
        .find(|folded| of(folded, key(10)).is_some_and(|(_total, _delta, ended)| ended))
        .map(|folded| folded.lost_ends);
    assert_eq!(lost, Some(1));
}

#[test]
fn in_quiet_mode_what_was_used_before_the_exit_is_in_the_interval_of_the_exit() {
    let mut fold = seeded(&[]);
    fold.go_quiet();
    fold.fork(&fork(key(10)));
    let exited = ExitEvent {
        cpu_time_ns: 700,
        ..exit(key(10), 77)
    };
    fold.exit(&exited);
    assert_eq!(of(&interval(&mut fold, &[]), key(10)), Some((700, 700, false)));
    // The kernel frees it at its leisure.
    fold.thread_end(&leader_end(key(10), 750), 0);
    fold.process_freed(&freed(key(10), 750));
    let folded = interval(&mut fold, &[]);
    assert_eq!(of(&folded, key(10)), Some((750, 50, true)));
    assert_eq!((folded.lost_ends, folded.torn_reads), (0, 0));
}

#[test]
fn in_quiet_mode_a_thread_that_is_missing_has_used_what_it_said_at_its_exit() {
    let mut fold = seeded(&[]);
    fold.go_quiet();
    fold.fork(&fork(key(10)));
    interval(&mut fold, &[leader(key(10), 100), task(key(10), 11, 7, cpu(40))]);
    fold.begin_walk();
    fold.task(&leader(key(10), 100), 0);
    let word = |tid, _start| {
        (tid == 11).then_some(LastWord {
            cpu_time_ns: 240,
            runqueue_ns: 0,
            ended: false,
        })
    };
    assert!(!fold.note_missing(word), "nothing is lost yet");
    let mut rows = Vec::new();
    fold.finish(ATTACHED + 2_000, word, |row| {
        if let Row::Anew(process) = row {
            rows.push((process.totals.cpu_time_ns, process.delta.cpu_time_ns));
        }
        Place::default()
    });
    assert_eq!(rows, [(340, 200)]);
    fold.thread_end(&end(key(10), 11, 7, 250), 0);
    let folded = interval(&mut fold, &[leader(key(10), 100)]);
    assert_eq!(of(&folded, key(10)), Some((350, 10, false)));
}

/// CPU time of the life of the one process that ended, and of its last row: in all, and in the interval.
fn life_and_last_row(folded: &Interval) -> (u64, u64, u64) {
    let process = folded.processes.first().unwrap();
    let cpu = [process.life, process.totals, process.delta].map(|totals| totals.cpu_time_ns);
    (cpu[0], cpu[1], cpu[2])
}

#[test]
fn what_lost_events_hid_is_in_the_life_and_in_no_interval() {
    let mut fold = seeded(&[]);
    fold.go_quiet();
    fold.fork(&fork(key(10)));
    let folded = interval(&mut fold, &[leader(key(10), 100)]);
    assert_eq!(of(&folded, key(10)), Some((100, 100, false)));
    // Threads ended meanwhile, and there was no room to tell it: they are in the sums of lost ends.
    fold.note_lost_events();
    fold.exit(&exit(key(10), 77));
    fold.process_freed(&freed(key(10), 4_000));
    assert_eq!(life_and_last_row(&interval(&mut fold, &[])), (4_000, 100, 0));
}

#[test]
fn what_does_not_fit_into_the_interval_was_used_before() {
    let mut fold = seeded(&[]);
    fold.go_quiet();
    fold.fork(&fork(key(10)));
    interval(&mut fold, &[leader(key(10), 100)]);
    fold.exit(&exit(key(10), 77));
    fold.process_freed(&freed(key(10), 9_000_000_000));
    assert_eq!(
        life_and_last_row(&interval(&mut fold, &[])),
        (9_000_000_000, 100, 0)
    );
}

#[test]
fn a_process_whose_end_was_lost_has_used_no_less_than_when_it_began_to_exit() {
    let mut fold = seeded(&[]);
    fold.fork(&fork(key(10)));
    fold.note_lost_events();
    let told = ExitEvent {
        cpu_time_ns: 700,
        ..exit(key(10), 77)
    };
    fold.exit(&told);
    let last = std::iter::repeat_with(|| interval(&mut fold, &[]))
        .take(10)
        .find(|folded| of(folded, key(10)).is_some_and(|(_total, _delta, ended)| ended));
    assert_eq!(last.map(|folded| life_and_last_row(&folded)), Some((700, 0, 0)));
}

#[test]
fn a_zombie_that_is_in_the_sums_of_lost_ends_is_in_no_interval() {
    let mut fold = seeded(&[]);
    let mut zombie = leader(key(10), 500);
    zombie.now.flags |= TASK_ZOMBIE | TASK_SUMMED;
    for _walk in 0..3 {
        assert_eq!(of(&interval(&mut fold, &[zombie]), key(10)), Some((0, 0, false)));
    }
    let last = std::iter::repeat_with(|| interval(&mut fold, &[]))
        .take(10)
        .find(|folded| of(folded, key(10)).is_some_and(|(_total, _delta, ended)| ended));
    assert_eq!(last.map(|folded| life_and_last_row(&folded)), Some((500, 0, 0)));
}
