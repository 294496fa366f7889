//! Checkpoints as files beside the segments: which one a start uses, and who writes the next.

use super::{Checkpoint, Head, Unusable};
use crate::books::Books;
use crate::log::segment::SegmentHeader;
use crate::log::{Opening, Start, sync_dir};
use crate::window::Span;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::Instant;
use tracing::{debug, error, info, warn};

/// Ends of the names of a checkpoint's file, and of one that is being written.
const EXTENSION: &str = "books";
const UNFINISHED: &str = "new";
/// Bytes that are made durable together.
const PIECE_BYTES: usize = 1 << 20;

fn path_of(dir: &Path, segment: u32) -> PathBuf {
    dir.join(format!("{segment:08}.{EXTENSION}"))
}

/// Segment numbers of all checkpoints, the newest first, and what was never finished.
fn list(dir: &Path) -> io::Result<(Vec<u32>, Vec<PathBuf>)> {
    let (mut numbers, mut unfinished) = (Vec::new(), Vec::new());
    for file in fs::read_dir(dir)? {
        let path = file?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let Some(number) = stem.and_then(|stem| stem.parse::<u32>().ok()) else { continue };
        if path == path_of(dir, number) {
            numbers.push(number);
        } else if path.extension().is_some_and(|extension| extension == UNFINISHED) {
            unfinished.push(path);
        }
    }
    numbers.sort_unstable_by_key(|number| std::cmp::Reverse(*number));
    Ok((numbers, unfinished))
}

/// The newest checkpoint of a log that can be used, with a window of this span. Removes those that cannot.
pub(crate) fn newest(dir: &Path, opening: &Opening, span: Span) -> Option<(Books, Start)> {
    let (numbers, unfinished) = match list(dir) {
        Ok(found) => found,
        Err(error) => {
            warn!(%error, "cannot look for checkpoints of the share log: all of it is read");
            return None;
        }
    };
    // Only one process has the directory, so nobody is writing them.
    unfinished.iter().for_each(|path| remove(path));
    for number in numbers {
        let path = path_of(dir, number);
        let header = opening.headers().rev().find(|header| header.number == number);
        match header.map(|header| load(&path, header, span)) {
            Some(Ok(Some(found))) => return Some(found),
            Some(Ok(None)) => {
                info!(checkpoint = %path.display(), "the settings want a window of another span: the share log is read anew");
                remove(&path);
            }
            Some(Err(error)) => {
                warn!(checkpoint = %path.display(), %error, "ignored a checkpoint of the share log");
                remove(&path);
            }
            None => {
                warn!(checkpoint = %path.display(), "ignored a checkpoint of a segment that is not there");
                remove(&path);
            }
        }
    }
    None
}

/// `None` if its window has another span.
fn load(path: &Path, header: &SegmentHeader, span: Span) -> Result<Option<(Books, Start)>, LoadError> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let (head, rest) = Head::read(io::BufReader::new(file), length)?;
    if head.header != *header {
        return Err(LoadError::OtherLog);
    }
    if head.span != span { Ok(None) } else { Ok(Some(head.books(rest)?)) }
}

#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Unusable(#[from] Unusable),
    #[error("it is not of its segment, or of another log")]
    OtherLog,
}

/// Best effort: what cannot be used is ignored again.
fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        warn!(path = %path.display(), %error, "cannot remove");
    }
}

/// Writes checkpoints, one at a time, each on a thread of its own.
#[derive(Debug)]
pub(crate) struct Keeper {
    dir: PathBuf,
    writing: Option<JoinHandle<()>>,
}

impl Keeper {
    pub fn new(dir: PathBuf) -> Self {
        Self { dir, writing: None }
    }

    /// Has a checkpoint written, unless the one before still is: then its segment has none. Never waits.
    pub fn keep(&mut self, checkpoint: impl FnOnce() -> Checkpoint) {
        if self.writing.as_ref().is_some_and(|thread| !thread.is_finished()) {
            debug!("a checkpoint of the share log is left out: the one before is being written");
            return;
        }
        self.finish();
        let (dir, checkpoint) = (self.dir.clone(), checkpoint());
        let write = move || {
            let segment = checkpoint.segment();
            match write(&dir, &checkpoint) {
                Ok(()) => debug!(segment, "wrote a checkpoint of the share log"),
                Err(error) => {
                    warn!(segment, %error, "cannot write a checkpoint of the share log: a start takes longer");
                }
            }
        };
        match thread::Builder::new().name("checkpoint".to_owned()).spawn(write) {
            Ok(thread) => self.writing = Some(thread),
            Err(error) => warn!(%error, "cannot start a thread that writes a checkpoint of the share log"),
        }
    }

    /// Waits until the last one is written.
    pub fn finish(&mut self) {
        if self.writing.take().is_some_and(|thread| thread.join().is_err()) {
            error!("the thread that writes checkpoints of the share log has panicked");
        }
    }
}

/// Durably, and whole or not at all. Of the earlier ones the newest stays: there are never more than two.
pub(super) fn write(dir: &Path, checkpoint: &Checkpoint) -> io::Result<()> {
    let path = path_of(dir, checkpoint.segment());
    let (numbers, _) = list(dir)?;
    numbers.into_iter().skip(1).for_each(|number| remove(&path_of(dir, number)));
    let unfinished = path.with_extension(UNFINISHED);
    let written = write_file(&unfinished, checkpoint)
        .and_then(|()| fs::rename(&unfinished, &path))
        .and_then(|()| sync_dir(dir));
    if written.is_err() {
        // On a full disk its room is wanted for shares.
        let _ = fs::remove_file(&unfinished);
    }
    written
}

fn write_file(path: &Path, checkpoint: &Checkpoint) -> io::Result<()> {
    let mut out = Durable { file: File::create(path)?, pending: 0 };
    checkpoint.write_to(&mut out)?;
    out.file.sync_all()
}

/// Makes what is written durable piece by piece: a sync of the log may have to wait for what other files have pending,
/// but not for hundreds of megabytes. And it leaves the disk to the log half of the time.
struct Durable {
    file: File,
    pending: usize,
}

impl Write for Durable {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(&bytes[..bytes.len().min(PIECE_BYTES)])?;
        self.pending += written;
        if self.pending >= PIECE_BYTES {
            let started = Instant::now();
            self.file.sync_data()?;
            thread::sleep(started.elapsed());
            self.pending = 0;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
