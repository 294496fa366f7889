//! Opens the log and brings the books up to it: from the newest checkpoint on, or from the first entry.

use crate::accounting::OpenError;
use crate::books::{Books, replay, window_hint};
use crate::checkpoint::{self, Checkpoint};
use crate::log::append::LogSettings;
use crate::log::{Log, Opening};
use crate::window::Span;
use stratum::target::Work;

/// A log and what it adds up to.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub log: Log,
    pub books: Books,
    /// Of the newest segment's start, if that has none that can be used.
    pub missing: Option<Checkpoint>,
    /// Number of the segment that was read first.
    pub read_from: u32,
}

/// Replays the log for a window of this span.
///
/// # Errors
/// The log is refused, or does not add up.
pub(crate) fn recover(settings: LogSettings, span: Span) -> Result<Recovered, OpenError> {
    let (dir, network) = (settings.dir.clone(), settings.network);
    let opening = Opening::new(settings)?;
    let newest = opening.headers().next_back().cloned();
    let (mut books, start) = match checkpoint::newest(&dir, &opening, span) {
        Some((books, start)) => (books, Some(start)),
        None => (Books::new(network, Work(u128::MAX)), None),
    };
    let read_from = start.as_ref().map_or(0, |start| start.header.number);
    // The log knows its newest segment's start once it is read; the books are copied as they pass it.
    let due = newest.filter(|newest| newest.number > read_from).map(|newest| newest.start.index);
    let (mut wrong, mut passing) = (None, None);
    let log = opening.replay(start, |index, entry| {
        if wrong.is_none() {
            if due == Some(index) {
                passing = Some(books.copy());
            }
            if let Some(window) = window_hint(&entry, span) {
                let _ = books.window.resize(window); // asked once at the end
            }
            wrong = books.apply(index, &entry).err();
        }
    })?;
    if let Some(wrong) = wrong {
        return Err(wrong.into());
    }
    if due == Some(books.size) {
        passing = Some(books.copy());
    }
    // Of a header that tells another sum of work than its log no checkpoint is made: it would not be used.
    let passing = passing.filter(|books| books.total_work == Work(log.start().header.work));
    let missing = passing.map(|books| Checkpoint::new(log.start().clone(), span, books));
    if !books.window.is_complete() {
        let (size, window) = (books.size, books.window.size());
        // Two long windows at once are more than there may be room for.
        drop(books);
        books = replay(&dir, size, window)?;
    }
    Ok(Recovered { log, books, missing, read_from })
}
