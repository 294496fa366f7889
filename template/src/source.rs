//! Which template is current: the node's announcements, its long poll and a poll each second, in one
//! stream of events.
//!
//! Calls block, so they have threads of their own; one of them, the keeper, decides. A template is
//! served while its tip is the tip and it is younger than [`TEMPLATE_AGE_MAX`] (GB-07).

mod keeper;
mod long_poll;
mod rivals;

use crate::bitcoind::rpc::{Canceller, Node};
use crate::template::Template;
use bitcoin::{BlockHash, Network};
use keeper::Keeper;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use stratum::job::TemplateId;
use tokio::sync::mpsc;

/// Events that may wait for the receiver; the source waits at the bound, and drops none.
pub const EVENTS_WAITING_MAX: usize = 64;
/// Messages that may wait for the keeper. Announcements are dropped at the bound: it is awake already.
const WAKES_WAITING_MAX: usize = 64;
/// A template older than this is served no more.
pub const TEMPLATE_AGE_MAX: Duration = Duration::from_secs(120);
/// A node without a new block for this long may be cut off from the network (CH-03).
pub const TIP_AGE_MAX: Duration = Duration::from_secs(60 * 60);
/// A template is renewed after this long, whatever the mempool does.
pub const REFRESH: Duration = Duration::from_secs(30);

/// Where templates come from.
#[derive(Debug, Clone)]
pub struct SourceSettings {
    /// Nodes, the preferred one first.
    pub nodes: Vec<SourceNode>,
    /// The network that all of them must follow.
    pub network: Network,
    /// Number of this process's start, for [`TemplateId`].
    pub epoch: u16,
}

/// A node that gives templates.
#[derive(Debug, Clone)]
pub struct SourceNode {
    /// Its RPC server.
    pub rpc: Node,
    /// Endpoint of its `zmqpubhashblock`, if it has one.
    pub hash_block: Option<String>,
}

/// What has changed.
#[derive(Debug, Clone)]
pub enum SourceEvent {
    /// The best chain has another tip: work on the old one is stale.
    NewTip {
        /// Its hash.
        hash: BlockHash,
        /// Its height.
        height: u32,
    },
    /// Newer work.
    Template {
        /// Its name.
        id: TemplateId,
        /// The template.
        template: Arc<Template>,
        /// A stand-in without transactions until the node has a full one.
        stand_in: bool,
    },
    /// The node cannot be used at the moment; the last template stays.
    Degraded(String),
    /// It can be used again.
    Recovered,
    /// The last template is too old to be worked on: send miners to their backup.
    Expired,
    /// The node is the wrong one. Nothing is served until it is another.
    Refused(String),
    /// Something that a person should look at (CH-03). Work goes on.
    Alarm(String),
}

/// Stops the source when told to or dropped.
#[derive(Debug)]
pub struct Source {
    wake: SyncSender<Wake>,
    cancellers: Vec<Canceller>,
    stop: Canceller,
    thread: Option<JoinHandle<()>>,
}

/// What wakes the keeper.
enum Wake {
    /// A node says that there is a new block.
    Block,
    /// The long poll of a node (by its generation) has brought something.
    LongPoll(u64, Result<Box<Template>, crate::bitcoind::ask::AskError>),
    /// A node, by its place, has more work than the current one.
    Rival(usize),
    /// A node, by its place, is so many blocks behind another one.
    Behind(usize, u32),
    /// Time to end.
    Stop,
}

/// No node is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no node is configured to take templates from")]
pub struct NoNode;

impl Source {
    /// Starts; the events begin with a template or the reason why there is none.
    ///
    /// # Errors
    /// [`NoNode`] if the settings name none.
    pub fn start(settings: SourceSettings) -> Result<(mpsc::Receiver<SourceEvent>, Self), NoNode> {
        if settings.nodes.is_empty() {
            return Err(NoNode);
        }
        let (wake, woken) = sync_channel(WAKES_WAITING_MAX);
        let (events, receiver) = mpsc::channel(EVENTS_WAITING_MAX);
        let stop = Canceller::default();
        let keeper = Keeper::new(settings, wake.clone(), events, stop.clone());
        let cancellers = keeper.cancellers();
        let thread = thread::Builder::new().name("template".into()).spawn(move || keeper.run(&woken));
        let thread = Some(thread.expect("the system can start a thread"));
        Ok((receiver, Self { wake, cancellers, stop, thread }))
    }

    /// Stops within two seconds: calls under way are broken off.
    pub fn stop(self) {}
}

impl Drop for Source {
    fn drop(&mut self) {
        self.stop.cancel();
        for canceller in &self.cancellers {
            canceller.cancel();
        }
        // A full queue wakes the keeper as well.
        let _ = self.wake.try_send(Wake::Stop);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the template thread has panicked");
        }
    }
}
