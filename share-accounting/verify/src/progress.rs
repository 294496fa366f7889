//! How far a long work is, as a bar on a terminal; nothing where nobody looks.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Between two looks of the bar.
const EACH: Duration = Duration::from_millis(200);
/// Entries between two looks at the clock.
const LOOK_EACH: u64 = 4_096;
/// Width of the bar itself, in characters.
const WIDTH: u64 = 30;

/// A bar that grows.
pub struct Bar {
    what: &'static str,
    unit: &'static str,
    total: u64,
    started: Instant,
    /// When it was shown last; none if nobody looks.
    shown: Option<Instant>,
}

impl Bar {
    /// Of about `total` units.
    pub fn new(what: &'static str, unit: &'static str, total: u64) -> Self {
        let started = Instant::now();
        let shown = std::io::stderr().is_terminal().then_some(started);
        Self { what, unit, total, started, shown }
    }

    /// So many units are done.
    pub fn is_at(&mut self, done: u64) {
        if self.shown.is_none_or(|shown| shown.elapsed() < EACH) {
            return;
        }
        self.shown = Some(Instant::now());
        let mut terminal = std::io::stderr().lock();
        let _ = write!(terminal, "\r{}\x1b[K", self.line(done, self.started.elapsed()));
        let _ = terminal.flush();
    }

    fn line(&self, done: u64, elapsed: Duration) -> String {
        let Self { what, unit, .. } = self;
        // What is about known may turn out to be more.
        let total = self.total.max(done).max(1);
        let part = |of: u64| (u128::from(done) * u128::from(of) / u128::from(total)) as usize; // at most `of`
        let (full, rest) = ("#".repeat(part(WIDTH)), "-".repeat(WIDTH as usize - part(WIDTH)));
        let per_second = done as f64 / elapsed.as_secs_f64().max(1e-3);
        format!("{what} [{full}{rest}] {} %, {done} of {total} {unit}, {per_second:.0} per second", part(100))
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        // Whoever writes next has a line of his own.
        if self.shown.is_some_and(|shown| shown != self.started) {
            eprintln!();
        }
    }
}

/// Entries, and a bar of how many have passed.
pub struct Shown<I> {
    entries: I,
    count: u64,
    bar: Bar,
}

impl<I> Shown<I> {
    /// About `total` entries.
    pub fn new(what: &'static str, total: u64, entries: I) -> Self {
        Self { entries, count: 0, bar: Bar::new(what, "entries", total) }
    }
}

impl<I: Iterator> Iterator for Shown<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        self.count += 1;
        if self.count.is_multiple_of(LOOK_EACH) {
            self.bar.is_at(self.count);
        }
        self.entries.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_says_how_much_of_the_whole_is_done_and_never_more() {
        let line = |total, done| Bar::new("checking", "entries", total).line(done, Duration::from_secs(2));
        let empty = "-".repeat(30);
        assert_eq!(line(100, 0), format!("checking [{empty}] 0 %, 0 of 100 entries, 0 per second"));
        let (half, rest) = ("#".repeat(15), "-".repeat(15));
        assert_eq!(
            line(5_000, 2_501),
            format!("checking [{half}{rest}] 50 %, 2501 of 5000 entries, 1250 per second")
        );
        let full = "#".repeat(30);
        assert_eq!(line(10, 12), format!("checking [{full}] 100 %, 12 of 12 entries, 6 per second"));
        assert!(line(u64::MAX, u64::MAX).starts_with(&format!("checking [{full}] 100 %")));
        assert!(line(0, 0).starts_with(&format!("checking [{empty}] 0 %")));
    }
}
