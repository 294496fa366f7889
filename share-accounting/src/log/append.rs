//! The writer of the log: one directory, one process, one commit at a time.

use super::reader::{Reader, Segment, Tail, list, segment_path};
use super::segment::{
    BLOCK_BODY_BYTES_MAX, BLOCK_HEADER_BYTES, BlockHeader, Origin, Position, SEGMENT_HEADER_BYTES,
    SegmentHeader, digest,
};
use super::{Corruption, LogError};
use crate::entry::{Encoded, Entry};
use crate::tree::{Tree, TreeHash};
use bitcoin::Network;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};
use tracing::{error, info, warn};

/// Size beyond which a segment is closed and the next one begun.
pub const SEGMENT_BYTES_DEFAULT: u64 = 64 << 20;
/// After a failed attempt to open a segment, commits fail without trying again for this long.
pub const RETRY_AFTER: Duration = Duration::from_millis(250);

/// How long another owner of the directory is waited for.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Why a commit failed. Nothing of it is in the log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The operating system refused; the next commit goes to a new segment.
    #[error("cannot {action} the share log: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// What came back.
        source: io::Error,
    },
    /// An earlier failure, less than [`RETRY_AFTER`] ago.
    #[error("the share log has failed and is retried soon")]
    Waiting,
    /// More than one block holds.
    #[error("a commit of {0} bytes is too large")]
    TooLarge(usize),
}

/// What a log is opened with.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// Its directory; created if missing.
    pub dir: PathBuf,
    /// The chain.
    pub network: Network,
    /// This server's site.
    pub site: u16,
    /// See [`SEGMENT_BYTES_DEFAULT`].
    pub segment_bytes: u64,
}

/// Where a segment begins, and all that the log's writer has to know of what is before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The segment's header.
    pub header: SegmentHeader,
    /// Over all entries before.
    pub tree: Tree,
    /// Of the last block before, if there is one.
    pub origin: Option<Origin>,
}

/// A log whose directory is locked and whose segments are there, but that has not been read.
#[derive(Debug)]
pub struct Opening {
    settings: LogSettings,
    segments: Vec<Segment>,
    lock: File,
}

/// The open log.
#[derive(Debug)]
pub struct Log {
    settings: LogSettings,
    log_id: [u8; 16],
    state: State,
    /// Of the newest segment.
    start: Start,
    /// Behind the last committed block.
    position: Position,
    /// Over all committed entries.
    tree: Tree,
    /// Origin of the next block.
    origin: Origin,
    /// Origin of the last block.
    last: Option<Origin>,
    /// Held for as long as the log is open.
    _lock: File,
}

#[derive(Debug)]
enum State {
    /// `length` counts the committed bytes of the file.
    Appending { file: File, length: u64 },
    /// A write failed: the file is closed for good. `since` is the last failed attempt to go on.
    Failed { since: Option<Instant> },
}

/// Waits a moment: a process that is just ending, or a child that has not let go of its parent's files yet, is no
/// other owner.
fn lock(dir: &Path) -> Result<File, LogError> {
    let path = dir.join("lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|source| LogError::io("open", &path, source))?;
    let until = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < until => thread::sleep(LOCK_PAUSE),
            Err(TryLockError::WouldBlock) => return Err(LogError::Locked(dir.to_owned())),
            Err(TryLockError::Error(source)) => return Err(LogError::io("lock", &path, source)),
        }
    }
}

pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Creates a segment that holds its header only, durably.
fn create_segment(dir: &Path, header: &SegmentHeader) -> io::Result<File> {
    let path = segment_path(dir, header.number);
    // What an earlier failed attempt left was never committed to.
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().create_new(true).append(true).open(&path)?;
    file.write_all(&header.encode())?;
    file.sync_all()?;
    sync_dir(dir)?;
    Ok(file)
}

impl Opening {
    /// Locks the directory, creating it if need be, and lists the segments.
    ///
    /// # Errors
    /// Another process has the directory, a segment is missing or has a bad header, the log is of another network, or
    /// the system refuses.
    pub fn new(settings: LogSettings) -> Result<Self, LogError> {
        let dir = settings.dir.as_path();
        fs::create_dir_all(dir).map_err(|source| LogError::io("create", dir, source))?;
        let lock = lock(dir)?;
        let listing = list(dir)?;
        if let Some(path) = listing.unfinished {
            warn!(segment = %path.display(), "removed a segment that a crash left unfinished");
            fs::remove_file(&path).map_err(|source| LogError::io("remove", &path, source))?;
        }
        let segments = listing.segments;
        if let Some(Segment { header, .. }) = segments.first()
            && header.network != settings.network
        {
            return Err(LogError::WrongNetwork { found: header.network, wanted: settings.network });
        }
        Ok(Self { settings, segments, lock })
    }

    /// Headers of all segments, oldest first.
    pub fn headers(&self) -> impl DoubleEndedIterator<Item = &SegmentHeader> {
        self.segments.iter().map(|segment| &segment.header)
    }

    /// Replays the log from the start of a segment on, the first one if none is named: `visit` sees every entry from
    /// there on, in order. Creates a log where there is none.
    ///
    /// A torn tail is cut off. Blocks written from now on carry the next epoch. Of the segments before, the headers
    /// are checked alone.
    ///
    /// # Errors
    /// The log is corrupt, or the system refuses.
    ///
    /// # Panics
    /// If it is named a start that is none of this log.
    pub fn replay(self, from: Option<Start>, visit: impl FnMut(u64, Entry)) -> Result<Log, LogError> {
        let Self { settings, segments, lock } = self;
        let Some(Segment { header: first, .. }) = segments.first().cloned() else {
            return Log::create(settings, lock);
        };
        let from = from.unwrap_or(Start { header: first, tree: Tree::default(), origin: None });
        let number = from.header.number as usize; // u32 fits usize
        assert_eq!(segments.get(number).map(|segment| &segment.header), Some(&from.header));
        check_order(&segments[..=number])?;
        let newest = segments.last().cloned().expect("there is a first one");
        let reader = Reader::over(segments, number).with_tree(from.tree, from.origin);
        let (tail, tree, start) = read(reader, newest.header, visit)?;
        let length = tail.intact_bytes;
        let state = State::Appending { file: open_tail(&newest.path, &tail)?, length };
        let next = |last: Origin| Origin {
            site: settings.site,
            epoch: last.epoch,
            sequence: last.sequence.saturating_add(1),
        };
        let origin = tail.origin.map_or(Origin { site: settings.site, ..Origin::default() }, next);
        let (log_id, position, last) = (start.header.log_id, tail.position, tail.origin);
        Ok(Log { settings, log_id, state, start, position, tree, origin, last, _lock: lock })
    }
}

/// What can be said of segments that are not read: the first one begins with nothing, and none before the one that it
/// follows.
fn check_order(segments: &[Segment]) -> Result<(), LogError> {
    let (mut index, mut work) = (0, 0);
    for Segment { header, .. } in segments {
        let begins = header.number > 0 || header.start == Position { index: 0, last: [0; 32] };
        if !begins || header.start.index < index || header.work < work {
            let (segment, what) = (header.number, Corruption::Unchained);
            return Err(LogError::Corrupt { segment, offset: 0, what });
        }
        (index, work) = (header.start.index, header.work);
    }
    Ok(())
}

/// Reads to the end: where that is, the tree over all entries, and the start of the newest segment.
fn read(
    mut reader: Reader,
    newest: SegmentHeader,
    mut visit: impl FnMut(u64, Entry),
) -> Result<(Tail, Tree, Start), LogError> {
    for entry in reader.by_ref() {
        let (index, entry) = entry?;
        visit(index, entry);
    }
    let tail = reader.tail().expect("a reader that ended without an error has reached the tail");
    let (tree, before, origin) = reader.into_trees().expect("the reader was asked for them");
    Ok((tail, tree, Start { header: newest, tree: before, origin }))
}

/// Opens the newest segment, without what a crash has torn.
fn open_tail(path: &Path, tail: &Tail) -> Result<File, LogError> {
    let file = OpenOptions::new().append(true).open(path).map_err(|e| LogError::io("open", path, e))?;
    if tail.torn_bytes > 0 {
        warn!(
            segment = tail.segment,
            offset = tail.intact_bytes,
            bytes = tail.torn_bytes,
            "cut a torn tail off the share log"
        );
        let cut = file.set_len(tail.intact_bytes).and_then(|()| file.sync_all());
        cut.map_err(|e| LogError::io("cut", path, e))?;
    }
    Ok(file)
}

impl Log {
    /// Opens or creates the log and replays all of it: `visit` sees every entry in order. See [`Opening::replay`].
    ///
    /// # Errors
    /// Another process has the directory, the log is corrupt or of another network, or the system refuses.
    pub fn open(settings: LogSettings, visit: impl FnMut(u64, Entry)) -> Result<Self, LogError> {
        Opening::new(settings)?.replay(None, visit)
    }

    fn create(settings: LogSettings, lock: File) -> Result<Self, LogError> {
        let header = SegmentHeader {
            network: settings.network,
            number: 0,
            log_id: rand::random(),
            start: Position { index: 0, last: [0; 32] },
            work: 0,
        };
        let file = create_segment(&settings.dir, &header)
            .map_err(|source| LogError::io("create a segment in", &settings.dir, source))?;
        info!(dir = %settings.dir.display(), "created a new share log");
        let origin = Origin { site: settings.site, epoch: 0, sequence: 0 };
        let state = State::Appending { file, length: SEGMENT_HEADER_BYTES as u64 };
        let (position, log_id, tree) = (header.start, header.log_id, Tree::default());
        let start = Start { header, tree: tree.clone(), origin: None };
        Ok(Self { settings, log_id, state, start, position, tree, origin, last: None, _lock: lock })
    }

    /// Blocks from now on belong to this epoch, another than that of the blocks before. Without
    /// this call the last epoch goes on.
    pub fn begin_epoch(&mut self, epoch: u16) {
        self.origin = Origin { epoch, sequence: 0, ..self.origin };
    }

    /// Where the newest segment begins.
    pub fn start(&self) -> &Start {
        &self.start
    }

    /// Number of the newest segment.
    fn number(&self) -> u32 {
        self.start.header.number
    }

    /// Drawn at random when the log was created.
    pub fn log_id(&self) -> [u8; 16] {
        self.log_id
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.settings.dir
    }

    /// This server's site.
    pub fn site(&self) -> u16 {
        self.settings.site
    }

    /// Number of committed entries: the index of the next one.
    pub fn size(&self) -> u64 {
        self.position.index
    }

    /// Root of the tree over the committed entries.
    pub fn root(&self) -> TreeHash {
        self.tree.root()
    }

    /// Appends one block and waits until it is durable. `work_before` is the credited work of all
    /// entries committed so far, for the header of a new segment.
    ///
    /// # Errors
    /// Then nothing of the commit is in the log, now or after a restart, except if the process dies
    /// before the log could be written again; a later commit may succeed.
    pub fn commit(&mut self, entries: &Encoded, work_before: u128) -> Result<(), AppendError> {
        let body = entries.bytes();
        if body.is_empty() {
            return Ok(());
        }
        if body.len() > BLOCK_BODY_BYTES_MAX {
            return Err(AppendError::TooLarge(body.len()));
        }
        self.make_ready(work_before)?;
        let header = BlockHeader::new(self.origin, self.position, entries.count(), body);
        let front = header.encode();
        let State::Appending { file, length } = &mut self.state else {
            return Err(AppendError::Waiting);
        };
        let written = file.write_all(&front).and_then(|()| file.write_all(body));
        let durable =
            written.map_err(|e| ("write", e)).and_then(|()| file.sync_data().map_err(|e| ("sync", e)));
        if let Err((action, source)) = durable {
            error!(action, error = %source, segment = self.start.header.number, "share log failed: shares are refused until a new segment can be written");
            let committed = *length;
            self.state = State::Failed { since: None };
            self.discard_behind(committed);
            return Err(AppendError::Io { action, source });
        }
        *length += (BLOCK_HEADER_BYTES + body.len()) as u64; // usize fits u64
        self.position =
            Position { index: self.position.index + u64::from(entries.count()), last: digest(&front, body) };
        self.tree.extend(entries.leaves());
        self.last = Some(self.origin);
        self.origin.sequence += 1;
        Ok(())
    }

    /// Sees to it that there is a segment with room: rolls a full one, replaces a failed one.
    fn make_ready(&mut self, work: u128) -> Result<(), AppendError> {
        match &self.state {
            State::Appending { length, .. } if *length < self.settings.segment_bytes => return Ok(()),
            State::Failed { since: Some(since) } if since.elapsed() < RETRY_AFTER => {
                return Err(AppendError::Waiting);
            }
            _ => {}
        }
        let number = self.number().checked_add(1).expect("2^32 segments are 256 PiB");
        let header = SegmentHeader {
            network: self.settings.network,
            number,
            log_id: self.log_id,
            start: self.position,
            work,
        };
        match create_segment(&self.settings.dir, &header) {
            Ok(file) => {
                if matches!(self.state, State::Failed { .. }) {
                    info!(segment = number, "share log is writable again");
                }
                self.start = Start { header, tree: self.tree.clone(), origin: self.last };
                self.state = State::Appending { file, length: SEGMENT_HEADER_BYTES as u64 };
                Ok(())
            }
            Err(source) => {
                if matches!(self.state, State::Appending { .. }) {
                    error!(error = %source, segment = number, "share log cannot open its next segment");
                }
                self.state = State::Failed { since: Some(Instant::now()) };
                // A header without blocks would be taken for the newest segment: harmless, it names
                // the last committed block. But what is incomplete should not stay.
                let _ = fs::remove_file(segment_path(&self.settings.dir, number));
                Err(AppendError::Io { action: "open the next segment of", source })
            }
        }
    }

    /// Cuts what a failed commit may have left, so that a crash before the next segment exists does
    /// not bring it back. Best effort through a fresh descriptor; the next segment's header is what
    /// makes it final.
    fn discard_behind(&self, length: u64) {
        let path = segment_path(&self.settings.dir, self.number());
        let cut = OpenOptions::new().write(true).open(&path).and_then(|file| {
            file.set_len(length)?;
            file.sync_all()
        });
        if let Err(source) = cut {
            warn!(error = %source, segment = self.number(), "could not cut a failed commit off the share log");
        }
    }
}
