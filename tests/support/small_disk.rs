//! A small file system of a test's own.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Names the folder to the process that runs the test inside.
const DIR: &str = "SLUICE_TEST_SMALL_DISK";

/// Runs `test` with the path of an empty file system of eight megabytes that no other process sees.
///
/// `name` is the whole name of the calling test: its program runs itself again, where it may mount.
pub fn on_a_small_disk(name: &str, test: fn(&Path)) {
    if let Some(dir) = std::env::var_os(DIR) {
        return test(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let script =
        format!("mount -t tmpfs -o size=8m tmpfs \"${DIR}\" && exec \"$0\" --exact --nocapture \"$1\"");
    let status = Command::new("unshare")
        .args(["-rm", "sh", "-c", &script])
        .arg(std::env::current_exe().unwrap())
        .arg(name)
        .env(DIR, dir.path())
        .status()
        .expect("unshare (package util-linux) starts");
    assert!(status.success(), "the test inside has failed, or the kernel does not let `unshare -rm` mount");
}

/// Fills the small file system to its last byte with a file.
pub fn fill(dir: &Path, name: &str) -> PathBuf {
    let filler = dir.join(name);
    assert!(std::fs::write(&filler, vec![1; 64 << 20]).is_err(), "the file system is small");
    filler
}
