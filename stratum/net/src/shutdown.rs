//! Stopping: the first signal drains, the second ends the process at once.

use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How often it is checked that no part has died.
const PULSE: Duration = Duration::from_millis(500);

/// Exit status of a process that was told twice to stop.
const EXIT_IMPATIENT: i32 = 130;

/// Cancels `stop` at the first SIGTERM or SIGINT; exits the process at the second.
///
/// # Errors
/// The handlers cannot be installed.
pub async fn watch(stop: CancellationToken) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut wait = async || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    wait().await;
    info!("stopping: no new connections, finishing what was acknowledged");
    stop.cancel();
    wait().await;
    warn!("stopping at once");
    std::process::exit(EXIT_IMPATIENT);
}

/// Waits until told to stop, or until a part has died, as `dead` names it.
pub async fn or_dead_part(
    stop: &CancellationToken,
    dead: impl Fn() -> Option<&'static str>,
) -> Option<&'static str> {
    let mut pulse = tokio::time::interval(PULSE);
    loop {
        tokio::select! {
            () = stop.cancelled() => return None,
            _ = pulse.tick() => {
                if let Some(part) = dead() {
                    // Parts that are told to stop end, and may do so before this is woken.
                    return (!stop.is_cancelled()).then_some(part);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_ends_because_it_was_told_to_has_not_died() {
        let stop = CancellationToken::new();
        assert_eq!(or_dead_part(&stop, || Some("shard")).await, Some("shard"));
        // Told to, and ended, between the pulse and the look.
        let ended = || {
            stop.cancel();
            Some("shard")
        };
        assert_eq!(or_dead_part(&stop, ended).await, None);
    }
}
