//! The owner's own books: a line for each share that went upstream, once it is known what has become of it.
//!
//! In a folder for each upstream: `shares.jsonl`, and the full files before it. Nobody waits for the disk: what it cannot
//! take is counted and left out.

use crate::metrics::Metrics;
use share_accounting::publish::journal::Line;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use stratum_net::clock::unix_ms;
use tracing::{info, warn};

/// Lines that may wait for the disk; further ones are left out.
const WAITING_MAX: usize = 16_384;
/// Size beyond which a file is full: about 250,000 shares.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Full files that are kept; older ones are removed.
const FULL_FILES_MAX: usize = 16;
/// How much a power cut can cost, at most.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// The file that is written to.
const NEWEST: &str = "shares.jsonl";

/// Where lines go; a handle.
#[derive(Debug, Clone)]
pub struct Journal {
    notes: SyncSender<(usize, Line)>,
    metrics: Metrics,
}

impl Journal {
    /// Starts the thread that writes, for each upstream into its folder, and holds the lock; those that share a folder are
    /// one, the first; `written` is told each line that is in its file.
    /// The thread ends with the last handle.
    ///
    /// # Errors
    /// A folder or file cannot be written: better known at the start than in a quarrel.
    pub fn start(
        folders: Vec<PathBuf>,
        lock: File,
        metrics: Metrics,
        written: impl FnMut(usize, Line) + Send + 'static,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        let first = |folder| folders.iter().position(|other| other == folder).expect("it is there itself");
        let firsts: Vec<usize> = folders.iter().map(first).collect();
        let mut books = BTreeMap::new();
        for first in &firsts {
            if !books.contains_key(first) {
                books.insert(*first, Book::open(folders[*first].clone())?);
            }
        }
        let (notes, waiting) = sync_channel(WAITING_MAX);
        let mut writer =
            Writer { books, firsts, metrics: metrics.clone(), written, failing: false, _lock: lock };
        let thread = thread::Builder::new().name("journal".to_owned()).spawn(move || writer.run(&waiting))?;
        Ok((Self { notes, metrics }, thread))
    }

    /// Notes what has become of a share of this upstream; never blocks.
    pub fn note(&self, upstream: usize, line: Line) {
        if self.notes.try_send((upstream, line)).is_err() {
            self.metrics.journal_left_out();
        }
    }
}

struct Writer<F> {
    books: BTreeMap<usize, Book>,
    /// For each upstream the first one that has its folder.
    firsts: Vec<usize>,
    metrics: Metrics,
    written: F,
    failing: bool,
    /// Nobody else writes here.
    _lock: File,
}

impl<F: FnMut(usize, Line)> Writer<F> {
    fn run(&mut self, waiting: &Receiver<(usize, Line)>) {
        let mut sync_at = Instant::now() + SYNC_EVERY;
        loop {
            match waiting.recv_timeout(sync_at.saturating_duration_since(Instant::now())) {
                Ok((upstream, line)) => self.write(upstream, line),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.sync(),
            }
            if Instant::now() >= sync_at {
                self.sync();
                sync_at = Instant::now() + SYNC_EVERY;
            }
        }
    }

    fn write(&mut self, upstream: usize, line: Line) {
        let first = self.firsts[upstream];
        let book = self.books.get_mut(&first).expect("each first one has a book");
        let outcome = book.write(&line.text());
        match &outcome {
            Ok(()) => (self.written)(first, line),
            Err(_) => self.metrics.journal_left_out(),
        }
        tell(&mut self.failing, book, outcome);
    }

    fn sync(&mut self) {
        for book in self.books.values_mut().filter(|book| book.is_dirty) {
            let outcome = book.sync();
            tell(&mut self.failing, book, outcome);
        }
    }
}

/// Says so once.
fn tell(failing: &mut bool, book: &Book, outcome: io::Result<()>) {
    let folder = book.folder.display();
    match outcome {
        Err(error) if !*failing => {
            warn!(%folder, %error, "the journal cannot be written: shares are left out of it");
            *failing = true;
        }
        Ok(()) if *failing => {
            info!(%folder, "the journal is written again");
            *failing = false;
        }
        _ => {}
    }
}

/// The newest file of a folder.
struct Book {
    folder: PathBuf,
    file: File,
    bytes: u64,
    is_dirty: bool,
    /// The last line may not be whole.
    is_torn: bool,
}

impl Book {
    fn open(folder: PathBuf) -> io::Result<Self> {
        let context = |error: io::Error| {
            io::Error::new(error.kind(), format!("cannot write the journal in {}: {error}", folder.display()))
        };
        let (file, bytes) = fs::create_dir_all(&folder).and_then(|()| newest(&folder)).map_err(context)?;
        Ok(Self { folder, file, bytes, is_dirty: false, is_torn: false })
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        if self.bytes >= FILE_BYTES_MAX {
            self.begin_another()?;
        }
        if self.is_torn {
            (self.file, self.bytes) = newest(&self.folder)?;
            self.is_torn = false;
        }
        match self.file.write_all(line.as_bytes()) {
            Ok(()) => {
                self.bytes += line.len() as u64; // usize fits u64
                self.is_dirty = true;
                Ok(())
            }
            Err(error) => {
                // Whatever has been written of it is no line.
                self.is_torn = true;
                Err(error)
            }
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        self.is_dirty = false;
        Ok(())
    }

    fn begin_another(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        let full = self.folder.join(format!("shares-{:013}.jsonl", unix_ms()));
        match fs::rename(self.folder.join(NEWEST), full) {
            // That was done before, and then no new one could be made.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            renamed => renamed?,
        }
        (self.file, self.bytes) = newest(&self.folder)?;
        let full = full_files(&self.folder)?;
        for old in &full[..full.len().saturating_sub(FULL_FILES_MAX)] {
            fs::remove_file(old)?;
        }
        Ok(())
    }
}

/// Opens the newest file behind its last whole line, and says how long it is.
fn newest(folder: &Path) -> io::Result<(File, u64)> {
    let mut file = OpenOptions::new().create(true).read(true).append(true).open(folder.join(NEWEST))?;
    let mut bytes = file.metadata()?.len();
    if bytes > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            // What a crash has torn stays, as a line that is none.
            file.write_all(b"\n")?;
            bytes += 1;
        }
    }
    Ok((file, bytes))
}

/// Oldest first.
fn full_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| name.starts_with("shares-") && name.ends_with(".jsonl")) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Lines of a folder since a time, Unix milliseconds, as far as the two newest files go back.
///
/// # Errors
/// They cannot be read.
pub fn lines_since(folder: &Path, unix_ms: u64) -> io::Result<Vec<Line>> {
    let mut lines = Vec::new();
    let full = full_files(folder)?.pop();
    for path in full.into_iter().chain([folder.join(NEWEST)]) {
        for line in BufReader::new(File::open(path)?).split(b'\n') {
            let line = Line::parse(&String::from_utf8_lossy(&line?));
            lines.extend(line.filter(|line| line.at >= unix_ms));
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::BlockHash;
    use bitcoin::hashes::Hash;
    use prometheus::Registry;
    use share_accounting::publish::journal::Fate;
    use std::sync::mpsc::sync_channel;

    fn line(at: u64) -> Line {
        let hash = BlockHash::from_byte_array([at as u8; 32]);
        Line { at, user: "x".repeat(1_000), hash, fate: Fate::Lost }
    }

    #[test]
    fn lines_are_written_in_order_and_what_a_crash_has_torn_is_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let folders = vec![dir.path().join("a"), dir.path().join("b"), dir.path().join("a")];
        for run in 0..2 {
            let (told, heard) = sync_channel(10);
            let written = move |upstream, line: Line| told.send((upstream, line.at)).unwrap();
            let metrics = Metrics::new(Registry::new());
            let (journal, thread) =
                Journal::start(folders.clone(), tempfile::tempfile().unwrap(), metrics, written).unwrap();
            for at in 0..4 {
                journal.note([0, 2, 0, 1][at as usize], line(10 * run + at));
            }
            drop(journal);
            thread.join().unwrap();
            let heard: Vec<_> = heard.into_iter().collect();
            assert_eq!(heard, [(0, 10 * run), (0, 10 * run + 1), (0, 10 * run + 2), (1, 10 * run + 3)]);
            let mut file = OpenOptions::new().append(true).open(folders[0].join(NEWEST)).unwrap();
            file.write_all(&line(99).text().as_bytes()[..50]).unwrap();
        }
        let times = |folder, since| {
            lines_since(folder, since).unwrap().iter().map(|line| line.at).collect::<Vec<_>>()
        };
        assert_eq!(times(&folders[0], 1), [1, 2, 10, 11, 12]);
        assert_eq!(times(&folders[1], 0), [3, 13]);
    }

    #[test]
    fn full_files_are_put_aside_and_the_oldest_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let mut book = Book::open(dir.path().to_owned()).unwrap();
        for n in 0..FULL_FILES_MAX + 3 {
            fs::write(dir.path().join(format!("shares-{n:013}.jsonl")), line(n as u64).text()).unwrap();
        }
        book.write(&line(100).text()).unwrap();
        book.bytes = FILE_BYTES_MAX;
        book.write(&line(101).text()).unwrap();
        assert_eq!(full_files(dir.path()).unwrap().len(), FULL_FILES_MAX);
        let times: Vec<_> = lines_since(dir.path(), 0).unwrap().iter().map(|line| line.at).collect();
        assert_eq!(times, [100, 101]);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_known_at_the_start() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "").unwrap();
        let metrics = Metrics::new(Registry::new());
        let error =
            Journal::start(vec![dir.path().join("a")], tempfile::tempfile().unwrap(), metrics, |_, _| {})
                .unwrap_err();
        assert!(error.to_string().contains("cannot write the journal in"), "{error}");
    }
}
