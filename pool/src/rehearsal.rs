//! Asks every node, while there is time, whether it would take our blocks and lets us hand them in (GB-09).
//!
//! What it asks about is the work that miners have: the payouts of now in every coinbase size. The answers go to
//! the log and to /health; work goes on, for a false alarm must not stop it.

use crate::health::Health;
use crate::work::{Current, WorkSet};
use bitcoin::Network;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;
use stratum::class::SizeClass;
use template::bitcoind::rpc::{Canceller, Node, Purpose, Rpc};
use template::propose::{self, ProposeError};
use tokio::sync::watch;
use tracing::{debug, error, info};

/// Between two rounds. The node checks six blocks in each, and holds its chain lock for that.
const EVERY: Duration = Duration::from_secs(3_600);
/// Pause after a round that found trouble, or in which a node could not be asked.
const RETRY: Duration = Duration::from_secs(60);
/// Pause before work that is not there yet is looked for again.
const SOON: Duration = Duration::from_secs(1);

/// Runs on a thread of its own until told to stop.
#[derive(Debug)]
pub struct Rehearsal {
    network: Network,
    nodes: Vec<(Arc<str>, Rpc)>,
    current: watch::Receiver<Current>,
    health: Arc<Health>,
    stop: Receiver<()>,
}

impl Rehearsal {
    /// A rehearsal, and what ends it: dropping the sender, and cancelling what is under way.
    pub fn new(
        network: Network,
        nodes: &[Node],
        current: watch::Receiver<Current>,
        health: Arc<Health>,
    ) -> (Self, SyncSender<()>, Vec<Canceller>) {
        let (stopper, stop) = sync_channel(0);
        let nodes: Vec<_> = nodes
            .iter()
            .map(|node| (node.address.as_str().into(), Rpc::new(node, Purpose::Template)))
            .collect();
        let cancellers = nodes.iter().map(|(_, rpc): &(_, Rpc)| rpc.canceller()).collect();
        (Self { network, nodes, current, health, stop }, stopper, cancellers)
    }

    /// Asks again and again.
    pub fn run(mut self) {
        let mut before = None;
        loop {
            let work = self.current.borrow().work.clone();
            let pause = work.map_or(SOON, |work| {
                let (trouble, all_asked) = self.round(&work);
                if before.as_ref() != Some(&trouble) && (trouble.is_some() || all_asked) {
                    match &trouble {
                        Some(trouble) => error!(trouble, "a block of ours would be lost"),
                        None => info!("every node would take our blocks, and lets us hand them in"),
                    }
                    self.health.rehearsed(trouble.clone());
                    before = Some(trouble.clone());
                }
                if trouble.is_none() && all_asked { EVERY } else { RETRY }
            });
            if self.stop.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    }

    /// What is wrong with a node, and whether each of them gave an answer.
    fn round(&mut self, work: &WorkSet) -> (Option<String>, bool) {
        let mut all_asked = true;
        for (address, rpc) in &mut self.nodes {
            match rehearse(rpc, self.network, work) {
                Ok(()) => {}
                Err(error @ (ProposeError::Refused(_) | ProposeError::NoSubmission(_))) => {
                    return (Some(format!("node {address}: {error}")), all_asked);
                }
                // A node that is away, or at another tip, is told of elsewhere.
                Err(error) => {
                    debug!(%address, %error, "not rehearsed");
                    all_asked = false;
                }
            }
        }
        (None, all_asked)
    }
}

fn rehearse(rpc: &mut Rpc, network: Network, work: &WorkSet) -> Result<(), ProposeError> {
    propose::may_submit(rpc)?;
    for class in SizeClass::ALL {
        propose::propose(rpc, network, work.sample(class).body())?;
    }
    Ok(())
}
