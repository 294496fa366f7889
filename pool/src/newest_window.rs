//! The newest PPLNS window that plans can be made from, also while the share log is slow.

use share_accounting::{Accounting, Snapshot, WindowAnswer, WindowError};
use std::time::{Duration, Instant};
use stratum::target::Work;

/// How long a plan waits for the newest shares before it is made from those known.
const PATIENCE: Duration = Duration::from_millis(50);
/// An answer that comes later counts as new for this long after it was asked for.
const NEW_FOR: Duration = Duration::from_secs(5);

/// A window that is older is no plan's: with a log that has hung for so long there is no new work. `sluice-verify` takes
/// one half as old again for a lie.
const KNOWN_FOR: Duration = Duration::from_secs(600);

/// Asks the accounting, and keeps what it has said.
#[derive(Debug)]
pub struct NewestWindow {
    accounting: Accounting,
    known: Option<Known>,
    asked: Option<Asked>,
}

/// A window, and what it was asked for.
#[derive(Debug)]
struct Known {
    network: Work,
    asked_at: Instant,
    snapshot: Snapshot,
}

/// A question whose answer is still to come: it is never thrown away, or a log that is always slow would leave
/// all plans on the window of its last fast moment.
#[derive(Debug)]
struct Asked {
    network: Work,
    at: Instant,
    answer: WindowAnswer,
}

impl NewestWindow {
    /// Nothing is known yet.
    pub fn new(accounting: Accounting) -> Self {
        Self { accounting, known: None, asked: None }
    }

    /// The window at a network difficulty, and whether it is the newest: if not, ask again in a moment.
    ///
    /// # Errors
    /// None is known at this difficulty yet, or it cannot be had: see [`WindowError`].
    pub fn get(&mut self, network: Work, now: Instant) -> Result<(Snapshot, bool), WindowError> {
        let failed = self.ask(network, now).err();
        let is_usable = |known: &&Known| {
            known.network == network && now.saturating_duration_since(known.asked_at) <= KNOWN_FOR
        };
        let Some(known) = self.known.as_ref().filter(is_usable) else {
            return Err(failed.unwrap_or(WindowError::Busy));
        };
        let is_new = now.saturating_duration_since(known.asked_at) <= NEW_FOR && failed.is_none();
        Ok((known.snapshot.clone(), is_new))
    }

    /// What was asked for before does not count any more.
    pub fn ask_anew(&mut self) {
        self.asked = None;
    }

    /// Brings in an answer that has come late, or asks for a new one.
    fn ask(&mut self, network: Work, now: Instant) -> Result<(), WindowError> {
        if self.asked.as_ref().is_some_and(|asked| asked.network != network) {
            self.asked = None;
        }
        let asked = match self.asked.take() {
            Some(asked) => asked,
            None => Asked { network, at: now, answer: self.accounting.ask_window(network)? },
        };
        match asked.answer.wait(PATIENCE) {
            Ok(snapshot) => {
                self.known = Some(Known { network, asked_at: asked.at, snapshot });
                Ok(())
            }
            Err(WindowError::Busy) => {
                self.asked = Some(asked);
                Err(WindowError::Busy)
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    /// Asks until there is an answer, however long it takes.
    fn insist(windows: &mut NewestWindow, network: Work, now: Instant) -> (Snapshot, bool) {
        loop {
            match windows.get(network, now) {
                Err(WindowError::Busy) => {}
                answer => return answer.unwrap(),
            }
        }
    }

    #[test]
    fn an_answer_that_comes_late_is_kept_and_counts() {
        let (accounting, thread, _dir) = testing::accounting();
        let mut windows = NewestWindow::new(accounting.clone());
        let (now, network) = (Instant::now(), Work(1_000));
        let release = testing::stall(&accounting);
        assert_eq!(windows.get(network, now), Err(WindowError::Busy));
        drop(release);
        let (late, is_new) = insist(&mut windows, network, now);
        assert!(is_new);

        let release = testing::stall(&accounting);
        let later = now + NEW_FOR + Duration::from_millis(1);
        assert_eq!(windows.get(network, later), Ok((late, false)), "better than none");
        assert_eq!(
            windows.get(Work(2_000), later),
            Err(WindowError::Busy),
            "another difficulty, another window"
        );
        drop(release);
        let (snapshot, is_new) = insist(&mut windows, Work(2_000), later);
        assert!(is_new);
        assert_eq!(snapshot.window, Work(16_000));
        drop((windows, accounting));
        thread.stop().unwrap();
    }
}
