//! Logs to standard error, for people or as JSON.
//!
//! Lines are written by a thread of their own: whoever reads them may stop reading, and that must hold up no block.

use serde::Deserialize;
use std::error::Error;
use std::io::IsTerminal;
use std::sync::mpsc::sync_channel;
use std::time::Duration;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Lines that may wait to be written; at the bound new ones are lost.
const LINES_WAITING_MAX: usize = 16_384;
const LAST_WORDS_PATIENCE: Duration = Duration::from_secs(1);

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One readable line an event.
    #[default]
    Human,
    /// One JSON object an event.
    Json,
}

/// What is logged, and how.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// A level (`info`) or a filter (`info,pool=debug`).
    pub filter: String,
    /// Look of the lines.
    pub format: Format,
}

/// Whether the text is a level or filter that [`init`] understands. A level for everything must be in it: without one, as with
/// one that is misspelt and so names a part of the program, errors of all else would be lost.
pub fn filter_is_valid(filter: &str) -> bool {
    let mut plain = filter.split(',').filter(|part| !part.contains(['=', '['])).peekable();
    // Spaces would be taken for parts of names.
    let is_level = |text: &str| !text.is_empty() && text.parse::<LevelFilter>().is_ok();
    let is_written_well = !filter.contains(char::is_whitespace) && EnvFilter::try_new(filter).is_ok();
    is_written_well && plain.peek().is_some() && plain.all(is_level)
}

/// Writes what still waits when it is dropped, for a second at most.
#[derive(Debug)]
#[must_use = "dropping it ends the log"]
pub struct Logging(#[expect(dead_code, reason = "kept for its drop")] WorkerGuard);

/// Starts logging. Call once, after the settings are known.
pub fn init(settings: &Settings) -> Logging {
    let filter = EnvFilter::try_new(&settings.filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(LINES_WAITING_MAX)
        .thread_name("log")
        .finish(std::io::stderr());
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    match settings.format {
        Format::Human => lines.with_ansi(std::io::stderr().is_terminal()).with_target(false).init(),
        Format::Json => lines.json().init(),
    }
    // The usual one writes to standard error itself, and would wait for whoever reads there.
    std::panic::set_hook(Box::new(|panic| {
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(%panic, %backtrace, "a thread has panicked: please report this");
    }));
    Logging(guard)
}

/// What went wrong, and why, in one line: an error that names its cause in its own words does so once.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.ends_with(&words) {
            text = format!("{text}: {words}");
        }
        next = cause.source();
    }
    text
}

/// Writes a last sentence to standard error, unless nobody takes it.
pub fn last_words(text: String) {
    let (written, done) = sync_channel(1);
    // Detached: if it is stuck, the end of the process ends it.
    std::thread::spawn(move || {
        eprintln!("{text}");
        let _ = written.send(());
    });
    let _ = done.recv_timeout(LAST_WORDS_PATIENCE);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[derive(Debug, thiserror::Error)]
    enum Outer {
        #[error("cannot read a: {source}")]
        Named { source: io::Error },
        #[error("cannot start")]
        Bare(#[source] Box<Outer>),
    }

    #[test]
    fn each_cause_is_said_once() {
        let named = || Outer::Named { source: io::Error::other("no disk") };
        assert_eq!(chain(&named()), "cannot read a: no disk");
        assert_eq!(chain(&Outer::Bare(named().into())), "cannot start: cannot read a: no disk");
    }

    #[test]
    fn a_filter_says_what_is_logged_of_everything() {
        for good in ["info", "WARN", "off", "info,pool=debug", "pool=debug,error"] {
            assert!(filter_is_valid(good), "{good}");
        }
        for bad in [
            "",
            " ",
            "loud",
            " info",
            "info,",
            "pool=debug",
            "pool=debug, error",
            "info,loud",
            "info,pool=loud",
            "[span]=info",
        ] {
            assert!(!filter_is_valid(bad), "{bad}");
        }
    }
}
