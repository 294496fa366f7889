//! The head that was signed last, kept on disk: a log that does not go on from there is another one, as after a backup
//! was restored, and who has seen the first would rightly call the second a lie. It is not signed with the same key.

use super::head::Head;
use super::key::{CheckpointError, LogVerifier};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Between two writes while heads come all the time: what was signed since is not remembered if the power fails.
const EVERY: Duration = Duration::from_secs(1);

/// The file, and what stood in it at the start.
#[derive(Debug)]
pub(super) struct LastSigned {
    path: PathBuf,
    /// Of an earlier run; nothing once a head has been seen to go on from there.
    before: Option<Head>,
    /// Signed, and not on disk yet.
    unwritten: Option<String>,
    written: Option<Instant>,
}

impl LastSigned {
    /// Reads the file, if there is one of this key.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub fn open(path: PathBuf, verifier: &LogVerifier) -> io::Result<Self> {
        let before = match fs::read(&path) {
            Ok(note) => match verifier.head(&note) {
                Ok((head, _)) => Some(head),
                // A new key begins a new log for everybody.
                Err(CheckpointError::NotSigned | CheckpointError::OtherLog(_)) => None,
                Err(error @ CheckpointError::Malformed) => {
                    let text = format!(
                        "{}: {error}; if the log is the one that was signed, remove it",
                        path.display()
                    );
                    return Err(io::Error::new(ErrorKind::InvalidData, text));
                }
            },
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Self { path, before, unwritten: None, written: None })
    }

    /// What the next head must go on from.
    pub fn before(&self) -> Option<Head> {
        self.before
    }

    /// A head has been signed that goes on from all before.
    ///
    /// # Errors
    /// The file cannot be written; it is tried again with the next head.
    pub fn signed(&mut self, note: &str) -> io::Result<()> {
        self.before = None;
        self.unwritten = Some(note.to_owned());
        if self.written.is_some_and(|at| at.elapsed() < EVERY) {
            return Ok(());
        }
        self.write()
    }

    /// Writes what is not on disk yet.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&mut self) -> io::Result<()> {
        let Some(note) = self.unwritten.take() else { return Ok(()) };
        self.written = Some(Instant::now());
        let unfinished = self.path.with_extension("new");
        let mut file = File::create(&unfinished)?;
        file.write_all(note.as_bytes())?;
        file.sync_data()?;
        fs::rename(unfinished, &self.path)
    }
}
