//! Processes that end with this one, however it ends: a signal to it alone would leave them running.
//!
//! Between this program and the one to run stands this program once more: it asks the kernel to be killed with its
//! parent and becomes the other one, which cannot be asked for that, by `exec`.

use anyhow::Context;
use rustix::process::{Signal, set_parent_process_death_signal};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// The first argument of this program when it is to become another.
pub const CHILD: &str = "bound-child";

/// A command for a program that is killed when the thread that spawns it ends.
///
/// # Errors
/// This program does not know where it is.
pub fn bound(program: &Path) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(CHILD).arg(program);
    Ok(command)
}

/// Becomes the program that is named by the first word. What it gives is the reason why it did not.
pub fn become_child(mut words: impl Iterator<Item = OsString>) -> anyhow::Error {
    let Some(program) = words.next() else { return anyhow::anyhow!("{CHILD} wants a program") };
    match set_parent_process_death_signal(Some(Signal::KILL)).context("cannot be bound to the parent") {
        Ok(()) => anyhow::Error::from(Command::new(&program).args(words).exec())
            .context(format!("cannot run {}", program.display())),
        Err(error) => error,
    }
}
