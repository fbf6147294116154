//! Real folders: what may be in them, and who may own them.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use super::{super::disk::Folder, *};

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_life_leaves_in_a_folder_what_the_next_one_brings() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool");
    let now = Instant::now();
    let mut first = Life::begin(Folder::open(&path).unwrap(), LIMITS, 1, now);
    first.measure(20);
    first.spool.end(now);
    drop(first);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    let mut second = Life::begin(Folder::open(&path).unwrap(), LIMITS, 2, now);
    assert_eq!(second.deliver(), range(1, 1..=20));
    assert_eq!(names(&path), Vec::<String>::new());
}

#[test]
fn whatever_lies_in_the_folder_the_start_succeeds_and_strangers_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool");
    let now = Instant::now();
    Life::begin(Folder::open(&path).unwrap(), LIMITS, 1, now).measure(20);
    let name = |number: u64, epoch: u64| Segment::new(epoch, 1, now).name(number);
    let strangers = [
        "notes.txt".to_owned(),
        "-rf".to_owned(),
        "line\nbreak".to_owned(),
        "0000000000000001-0000000000000001-0000000000000001.v2".to_owned(),
        name(u64::MAX, 9),
    ];
    for stranger in &strangers {
        fs::write(path.join(stranger), "mine").unwrap();
    }
    // A terabyte of holes, a folder, a link out of here, a pipe that nobody writes into, each with a segment's name.
    fs::File::create(path.join(name(500, 5)))
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    fs::create_dir(path.join(name(501, 5))).unwrap();
    fs::write(dir.path().join("outside"), "not ours").unwrap();
    std::os::unix::fs::symlink(dir.path().join("outside"), path.join(name(502, 5))).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        path.join(name(503, 5)),
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    // Segments of which nothing is left, and one with another's name.
    fs::write(path.join(name(504, 6)), "").unwrap();
    fs::write(path.join(name(505, 7)), vec![0xb5; 100_000]).unwrap();
    let first = names(&path)
        .into_iter()
        .find(|name| name.ends_with("-0000000000000001-0000000000000001.v1"))
        .unwrap();
    fs::copy(path.join(first), path.join(name(506, 8))).unwrap();

    let mut life = Life::begin(Folder::open(&path).unwrap(), LIMITS, 2, now);
    life.measure(5);
    assert_eq!(life.deliver(), range(1, 1..=20));
    let lost = life.lost();
    assert!(lost[CORRUPT] >= 2 && lost.len() == 1, "{lost:?}");
    life.spool.stored(2, 5);
    life.spool.end(life.now);
    let left = names(&path);
    for stranger in &strangers {
        assert!(left.contains(stranger), "{stranger:?} of {left:?}");
    }
    assert_eq!(left.len(), strangers.len() + 4, "{left:?}");
    assert_eq!(
        fs::read_to_string(dir.path().join("outside")).unwrap(),
        "not ours"
    );
}

#[test]
fn what_takes_a_segments_place_after_the_start_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool");
    let now = Instant::now();
    Life::begin(Folder::open(&path).unwrap(), LIMITS, 1, now).measure(5);
    let mut life = Life::begin(Folder::open(&path).unwrap(), LIMITS, 2, now);
    let segment = path.join(&names(&path)[0]);
    fs::rename(&segment, dir.path().join("moved")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("moved"), &segment).unwrap();
    assert_eq!(life.deliver(), []);
    assert_eq!(life.lost(), BTreeMap::from([(CORRUPT, 1)]));
    assert!(dir.path().join("moved").exists());
}

#[test]
fn a_folder_that_is_not_this_users_alone_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |path: &Path, why: &str| {
        let failure = Folder::open(path).unwrap_err();
        let said = failure.to_string();
        assert!(
            failure.code() == 1 && said.contains(why) && said.contains("--spool-max-bytes 0"),
            "{said}"
        );
    };
    let open = dir.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    refused(&open, "others may write");
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(dir.path(), &link).unwrap();
    refused(&link, "spool folder");
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    refused(&file, "spool folder");
    refused(&dir.path().join("no/such"), "No such file");
    if rustix::process::geteuid().is_root() {
        let other = dir.path().join("other");
        fs::create_dir(&other).unwrap();
        std::os::unix::fs::chown(&other, Some(65_534), None).unwrap();
        refused(&other, "user 65534 owns it");
    }
}

#[test]
fn a_start_takes_the_same_however_much_waits() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool");
    let now = Instant::now();
    drop(Folder::open(&path).unwrap());
    // More than a start keeps in mind, of one life each.
    let count = u64::try_from(index::SEGMENTS_MAX).unwrap() + 50;
    for number in 1..=count {
        fs::write(path.join(Segment::new(number, 1, now).name(number)), "x").unwrap();
    }
    let mut life = Life::begin(Folder::open(&path).unwrap(), LIMITS, u64::MAX, now);
    assert_eq!(life.spool.stats().segments, count - 50);
    assert!(life.lost().contains_key(EVICTED));
}
