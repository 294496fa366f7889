//! Who goes first where there is not enough of the processor for all: those who mine.

use tracing::warn;

/// Beside a thread that has not given way it gets a tenth. A quarter was not little enough: garbage without end still
/// delayed honest shares fourfold.
const LOWER_BY: i32 = 10;

/// From here on this thread gets little of the processor while others of the process want it, and so do threads that
/// it starts.
///
/// For threads that strangers can keep busy: without it, connections and handshakes without end delayed honest shares
/// five- to eightfold on a machine that had no core to spare (N05, N06).
pub fn give_way() {
    // Elsewhere this would be said of the whole process.
    if cfg!(target_os = "linux")
        && let Err(error) = rustix::process::nice(LOWER_BY)
    {
        warn!(%error, "a thread cannot give way to those that serve miners");
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use rustix::process::getpriority_process;

    #[test]
    fn one_thread_gives_way_and_those_that_it_starts_but_no_other() {
        let priority = || getpriority_process(None).unwrap();
        let before = priority();
        let gave_way = std::thread::spawn(move || {
            give_way();
            [priority(), std::thread::spawn(priority).join().unwrap()]
        });
        // 19 is as low as it gets.
        assert_eq!(gave_way.join().unwrap(), [(before + LOWER_BY).min(19); 2]);
        assert_eq!(priority(), before);
    }
}
