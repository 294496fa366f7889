//! Where miners come in: the listeners of V1 and V2, and the threads behind those of V2.

use crate::identity::Keeper;
use crate::settings::Settings;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use stratum_net::acceptor::{ShardEntrance, accept, listen};
use stratum_net::handshake::{self, Identity, Reception};
use stratum_net::limits::{Gate, Limits};
use stratum_net::metrics::ConnectionMetrics;
use stratum_net::priority::give_way;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;

/// Bound, and not yet served.
pub struct Doors {
    v1: Vec<TcpListener>,
    v2: Option<V2Door>,
}

struct V2Door {
    listeners: Vec<std::net::TcpListener>,
    keeper: Keeper,
    identity: watch::Receiver<Arc<Identity>>,
}

/// Threads that receive miners.
pub struct Receiving(Option<V2Threads>);

struct V2Threads {
    handshakes: JoinHandle<()>,
    certificate: JoinHandle<()>,
    /// Ends the certificate's thread when dropped.
    _looking: SyncSender<()>,
}

impl Doors {
    /// Binds all listeners, so that nothing is begun where one of them cannot be had.
    ///
    /// # Errors
    /// An address that is in use, or a certificate that is no good.
    pub async fn open(settings: &Settings) -> anyhow::Result<Self> {
        let v1 = listen(&settings.v1_listen, "v1.listen")?;
        if settings.v2.listen.is_empty() {
            return Ok(Self { v1, v2: None });
        }
        let (keeper, identity) = Keeper::new(&settings.v2)?;
        let listeners = listen(&settings.v2.listen, "v2.listen")?;
        // The runtime of the handshakes takes them.
        let listeners = listeners.into_iter().map(TcpListener::into_std).collect::<Result<_, _>>()?;
        Ok(Self { v1, v2: Some(V2Door { listeners, keeper, identity }) })
    }

    /// Receives miners until `stop`, each to the least loaded shard. The calling thread gives way to those of the
    /// shards.
    ///
    /// # Errors
    /// The operating system refuses a thread.
    pub fn receive(
        self,
        limits: &Limits,
        shards: Vec<ShardEntrance>,
        metrics: &ConnectionMetrics,
        stop: &CancellationToken,
    ) -> anyhow::Result<Receiving> {
        let gate = Gate::new(limits.clone());
        for listener in self.v1 {
            info!(address = %listener.local_addr()?, "serving V1 miners");
            tokio::spawn(accept(listener, gate.clone(), shards.clone(), metrics.clone(), stop.clone()));
        }
        let Some(V2Door { listeners, keeper, identity }) = self.v2 else {
            give_way();
            return Ok(Receiving(None));
        };
        for listener in &listeners {
            info!(address = %listener.local_addr()?, authority = %keeper.authority(), "serving V2 miners");
        }
        let (looking, stopped) = sync_channel(1);
        let reception = Reception { identity, gate, shards, metrics: metrics.clone() };
        let threads = V2Threads {
            handshakes: handshake::spawn(listeners, reception, stop.clone())?,
            certificate: std::thread::Builder::new()
                .name("certificate".to_owned())
                .spawn(move || keeper.run(&stopped))?,
            _looking: looking,
        };
        // From here on this thread takes connections and shows pages; all others have been started.
        give_way();
        Ok(Receiving(Some(threads)))
    }
}

impl Receiving {
    /// A thread that has ended without being told to.
    pub fn dead_part(&self) -> Option<&'static str> {
        let threads = self.0.as_ref()?;
        if threads.handshakes.is_finished() {
            Some("thread for handshakes")
        } else if threads.certificate.is_finished() {
            Some("keeper of the certificate")
        } else {
            None
        }
    }
}
