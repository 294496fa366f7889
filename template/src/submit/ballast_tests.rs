use super::*;
use crate::submit::small_disk::{fill, on_a_small_disk};

fn free(dir: &Path) -> u64 {
    let disk = statvfs(dir).unwrap();
    disk.f_bavail * disk.f_frsize
}

fn length(ballast: &Ballast) -> Option<u64> {
    fs::metadata(&ballast.path).ok().map(|file| file.len())
}

fn keep_and_give_up(dir: &Path) {
    let ballast = Ballast::of(dir);
    assert!(!ballast.give_up(), "there is none yet");
    let before = free(dir);
    ballast.keep();
    assert_eq!(length(&ballast), Some(before / FREE_DIVISOR));
    assert!(before - free(dir) >= before / FREE_DIVISOR, "the space is taken, not only promised");
    // Again: nothing changes.
    ballast.keep();
    assert_eq!(length(&ballast), Some(before / FREE_DIVISOR));
    let filler = fill(dir, "filler");
    assert_eq!(free(dir), 0);
    assert!(ballast.give_up() && !ballast.give_up());
    assert!(free(dir) >= before / FREE_DIVISOR);
    // With nothing free there is nothing to keep back, and that is no error.
    let rest = fill(dir, "rest");
    ballast.keep();
    assert!(length(&ballast).is_none_or(|bytes| bytes == 0));
    fs::remove_file(rest).unwrap();
    ballast.keep();
    let little = length(&ballast).unwrap();
    fs::remove_file(filler).unwrap();
    ballast.keep();
    assert!(0 < little && little < length(&ballast).unwrap(), "it grows when there is room again");
}

#[test]
fn d04_a_quarter_of_a_small_disk_is_kept_back_until_it_is_needed() {
    on_a_small_disk(
        "submit::ballast::tests::d04_a_quarter_of_a_small_disk_is_kept_back_until_it_is_needed",
        keep_and_give_up,
    );
}

#[test]
fn d04_on_a_large_disk_a_few_blocks_worth_is_kept_back() {
    let dir = tempfile::tempdir().unwrap();
    let ballast = Ballast::of(dir.path());
    ballast.keep();
    assert_eq!(length(&ballast), Some(BALLAST_BYTES));
    assert!(fs::metadata(&ballast.path).unwrap().blocks() * SECTOR_BYTES >= BALLAST_BYTES);
}

#[test]
fn d04_where_a_file_system_reserves_nothing_the_space_is_taken_by_writing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("noise");
    let mut file = File::create(&path).unwrap();
    append_noise(&mut file, 64 << 10).unwrap();
    let bytes = fs::read(path).unwrap();
    assert_eq!(bytes.len(), 64 << 10);
    let words: std::collections::HashSet<&[u8]> = bytes.chunks(8).collect();
    assert_eq!(words.len(), bytes.len() / 8, "nothing in it repeats");
}

#[test]
fn a_ballast_that_cannot_be_made_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let ballast = Ballast::of(&dir.path().join("missing"));
    ballast.keep();
    assert!(!ballast.give_up());
}
