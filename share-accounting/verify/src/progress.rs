//! How far a long reading is, on a terminal.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Between two lines that are shown.
const EACH: Duration = Duration::from_millis(500);
/// Entries between two looks at the clock.
const LOOK_EACH: u64 = 4_096;

/// Shows how many items have passed.
pub struct Shown<I> {
    items: I,
    what: &'static str,
    count: u64,
    started: Instant,
    shown: Option<Instant>,
}

impl<I> Shown<I> {
    pub fn new(what: &'static str, items: I) -> Self {
        let started = Instant::now();
        let shown = std::io::stderr().is_terminal().then_some(started);
        Self { items, what, count: 0, started, shown }
    }

    fn look(&mut self) {
        if self.shown.is_none_or(|shown| shown.elapsed() < EACH) {
            return;
        }
        self.shown = Some(Instant::now());
        let per_second = self.count as f64 / self.started.elapsed().as_secs_f64();
        let mut terminal = std::io::stderr().lock();
        let _ = write!(terminal, "\r{}: {} entries, {per_second:.0} per second   ", self.what, self.count);
        let _ = terminal.flush();
    }
}

impl<I: Iterator> Iterator for Shown<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        self.count += 1;
        if self.count.is_multiple_of(LOOK_EACH) {
            self.look();
        }
        self.items.next()
    }
}

impl<I> Drop for Shown<I> {
    fn drop(&mut self) {
        if self.shown.is_some_and(|shown| shown != self.started) {
            eprintln!();
        }
    }
}
