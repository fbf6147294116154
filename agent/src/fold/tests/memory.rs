//! Resident sets and their peaks.

use super::*;

#[test]
fn memory_that_came_and_went_between_two_walks_shows_as_peak() {
    let mut fold = seeded(&[]);
    interval(&mut fold, &[with_memory(leader(key(10), 1), 100, 0)]);
    fold.begin_walk();
    fold.task(&with_memory(leader(key(10), 1), 110, 0), 900);
    let now = later(&fold);
    let process = finish(&mut fold, now, |_, _| None).processes.remove(0);
    assert_eq!(
        (process.memory.map(Memory::rss_pages), process.peak_rss_pages),
        (Some(110), Some(900))
    );
    let process = interval(&mut fold, &[with_memory(leader(key(10), 1), 105, 0)])
        .processes
        .remove(0);
    assert_eq!(
        (process.peak_rss_pages, process.lifetime_peak_rss_pages),
        (Some(110), Some(900))
    );
}

#[test]
fn the_kernels_mark_counts_in_the_interval_in_which_it_rose() {
    let old = ProcessKey::new(10, 5);
    let mut fold = seeded(&[with_memory(leader(old, 1), 100, 5_000)]);
    let process = interval(&mut fold, &[with_memory(leader(old, 1), 100, 5_000)])
        .processes
        .remove(0);
    assert_eq!(
        (process.peak_rss_pages, process.lifetime_peak_rss_pages),
        (Some(100), Some(5_000))
    );
    let process = interval(&mut fold, &[with_memory(leader(old, 1), 100, 6_000)])
        .processes
        .remove(0);
    assert_eq!(process.peak_rss_pages, Some(6_000));
}

#[test]
fn an_exec_begins_a_new_peak_for_the_life() {
    let mut fold = seeded(&[]);
    interval(&mut fold, &[with_memory(leader(key(10), 1), 8_405, 8_405)]);
    fold.exec(&exec(key(10), 10));
    let process = interval(&mut fold, &[with_memory(leader(key(10), 1), 366, 366)])
        .processes
        .remove(0);
    assert_eq!(
        (process.peak_rss_pages, process.lifetime_peak_rss_pages),
        (Some(8_405), Some(366))
    );
}
