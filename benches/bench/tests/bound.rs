//! Servers do not outlive the program that measures them.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{fs, thread};

#[test]
fn a_child_is_killed_when_the_thread_that_began_it_ends() {
    let begun = Instant::now();
    let spawn = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
        let child = command.args(["bound-child", "sleep", "60"]).spawn().unwrap();
        let name = || fs::read_to_string(format!("/proc/{}/comm", child.id())).unwrap();
        while name().trim() != "sleep" {
            assert!(begun.elapsed() < Duration::from_secs(30), "it is still {}", name());
            thread::sleep(Duration::from_millis(5));
        }
        child
    };
    let mut child = thread::scope(|scope| scope.spawn(spawn).join().unwrap());
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    assert!(begun.elapsed() < Duration::from_secs(60), "it has slept to its end");
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    let output = command.args(["bound-child", "no-such-program", "--option"]).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot run no-such-program"));
}
