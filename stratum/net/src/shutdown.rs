//! Stopping: the first signal drains, the second ends the process at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

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
