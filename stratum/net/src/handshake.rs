//! V2 listeners: the handshake comes before a connection reaches a shard.
//!
//! Its curve arithmetic takes a quarter of a millisecond, some hundred times as long as a share. So all handshakes are
//! made on one thread of their own, which gives way to the others, and only so many are begun in a second as limits
//! allow: a flood of them takes one core at most, and of that what the shares leave (faults N06).

use crate::acceptor::{Incoming, ShardEntrance, Wire, admit, enter, prepare};
use crate::limits::{Gate, Permit, Refusal};
use crate::metrics::ConnectionMetrics;
use crate::priority::give_way;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use stratum::v2::keys::{Certificate, StaticKey};
use stratum::v2::noise::{ACT1_BYTES, EPHEMERAL_BYTES, Transport, respond};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, LocalSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// From the connection to a complete handshake.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// Handshakes under way; with one more the oldest is given up. One that goes well takes a round trip.
pub const HANDSHAKES_MAX: usize = 1_024;
/// Pause after a failed accept, so that a process out of files does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who the server is, and its authority's word for it.
#[derive(Debug)]
pub struct Identity {
    /// The server's own key.
    pub key: StaticKey,
    /// What the authority says of it.
    pub certificate: Certificate,
}

/// What a V2 acceptor works with; the same for all its listeners.
#[derive(Debug, Clone)]
pub struct Reception {
    /// The newest identity: a new certificate is shown from the next handshake on.
    pub identity: watch::Receiver<Arc<Identity>>,
    /// Who may connect.
    pub gate: Gate,
    /// Where connections go.
    pub shards: Vec<ShardEntrance>,
    /// Counters.
    pub metrics: ConnectionMetrics,
}

/// Starts the thread that accepts V2 connections until `stop`, each to the least loaded shard once its handshake is
/// done.
///
/// # Errors
/// The operating system refuses a thread or a poller.
pub fn spawn(
    listeners: Vec<std::net::TcpListener>,
    reception: Reception,
    stop: CancellationToken,
) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("handshakes".to_owned()).spawn(move || {
        give_way();
        let local = LocalSet::new();
        for listener in listeners {
            let (reception, stop) = (reception.clone(), stop.clone());
            local.spawn_local(async move {
                match TcpListener::from_std(listener) {
                    Ok(listener) => accept(listener, reception, stop).await,
                    Err(error) => warn!(%error, "cannot listen"),
                }
            });
        }
        local.block_on(&runtime, stop.cancelled());
    })
}

async fn accept(listener: TcpListener, reception: Reception, stop: CancellationToken) {
    let mut under_way = VecDeque::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                let admitted = admit(address, &reception.gate, &reception.metrics).await;
                let Some(permit) = admitted else { continue };
                make_room(&mut under_way, &reception.metrics);
                let task = tokio::task::spawn_local(receive(stream, address, permit, reception.clone()));
                under_way.push_back(task.abort_handle());
            }
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Gives up the oldest handshake if there is no room for another: whoever means it is done by now.
fn make_room(under_way: &mut VecDeque<AbortHandle>, metrics: &ConnectionMetrics) {
    if under_way.len() >= HANDSHAKES_MAX {
        under_way.retain(|task| !task.is_finished());
    }
    if under_way.len() >= HANDSHAKES_MAX
        && let Some(oldest) = under_way.pop_front()
    {
        oldest.abort();
        metrics.refused(Refusal::Crowded);
    }
}

async fn receive(mut stream: TcpStream, address: SocketAddr, permit: Permit, reception: Reception) {
    let identity = reception.identity.borrow().clone();
    let shaken = tokio::time::timeout(HANDSHAKE_MAX, shake_hands(&mut stream, &identity)).await;
    let transport = match shaken {
        Ok(Ok(Some(transport))) => transport,
        // Some firmware looks whether anybody listens, and says nothing (ESP-Miner).
        Ok(Ok(None)) => return debug!(%address, "connection closed without a word"),
        Ok(Err(error)) => {
            reception.metrics.refused(Refusal::NoHandshake);
            return debug!(%address, %error, "no handshake");
        }
        Err(_) => {
            reception.metrics.refused(Refusal::NoHandshake);
            return debug!(%address, "no handshake in time");
        }
    };
    match stream.into_std() {
        Ok(stream) => {
            let wire = Wire::Sealed(Box::new(transport));
            enter(Incoming { stream, address, permit, wire }, &reception.shards).await;
        }
        Err(error) => debug!(%address, %error, "connection lost before it began"),
    }
}

/// Answers act 1 with act 2; `None` if the peer closes before it says anything.
async fn shake_hands(stream: &mut TcpStream, identity: &Identity) -> io::Result<Option<Transport>> {
    prepare(stream)?;
    let mut act1 = [0; ACT1_BYTES];
    let first = stream.read(&mut act1).await?;
    if first == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut act1[first..]).await?;
    let mut ephemeral = [0; EPHEMERAL_BYTES];
    rand::fill(&mut ephemeral);
    let (act2, transport) =
        respond(&identity.key, &identity.certificate, ephemeral, &act1).map_err(io::Error::other)?;
    stream.write_all(&act2).await?;
    Ok(Some(transport))
}

#[cfg(test)]
mod tests;
