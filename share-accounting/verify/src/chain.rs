//! What a node of the verifier's own says of the pool's blocks.

use crate::cli::NodeArgs;
use anyhow::anyhow;
use bitcoin::{BlockHash, Network};
use share_accounting::verify::Report;
use template::bitcoind::ask;
use template::bitcoind::rpc::{Node, Purpose, Rpc, RpcError, Timeouts};

/// RPC error of a node that does not know a block.
const UNKNOWN_BLOCK: i32 = -5;

/// What has become of a block that a share solves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fate {
    /// The share's entry.
    pub entry: u64,
    /// The block.
    pub hash: BlockHash,
    /// In the best chain, at this height; else the node has it beside the chain, or not at all.
    pub state: State,
}

/// Where a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// In the node's best chain.
    InChain { height: u32 },
    /// The node knows it, and another one is in its place.
    Orphaned,
    /// The node does not know it.
    Unknown,
}

/// Asks a node for every block that the log's shares solve.
///
/// # Errors
/// The node does not answer, or follows another chain.
pub fn fates(node: &NodeArgs, network: Network, report: &Report) -> anyhow::Result<Vec<Fate>> {
    let node = Node {
        address: node.rpc.clone(),
        credentials: node.cookie_file.clone(),
        timeouts: Timeouts::default(),
    };
    let failed = |error: &dyn std::fmt::Display| anyhow!("node {}: {error}", node.address);
    let mut rpc = Rpc::new(&node, Purpose::Other);
    ask::check_chain(&mut rpc, network).map_err(|error| failed(&error))?;
    let fate = |(&entry, &hash): (&u64, &BlockHash)| {
        let state = match ask::header(&mut rpc, hash) {
            Ok(header) if header.confirmations > 0 => State::InChain { height: header.height },
            Ok(_) => State::Orphaned,
            Err(RpcError::Node { code: UNKNOWN_BLOCK, .. }) => State::Unknown,
            Err(error) => return Err(failed(&error)),
        };
        Ok(Fate { entry, hash, state })
    };
    report.blocks.iter().map(fate).collect()
}
