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
