//! Asks the node what it thinks of a block before anybody mines it (BIP 23 proposals, GB-09).

use crate::bitcoind::ask::{self, AskError};
use crate::bitcoind::rpc::{Rpc, RpcError};
use crate::block;
use bitcoin::hashes::{Hash, sha256d};
use bitcoin::hex::DisplayHex;
use bitcoin::{BlockHash, Network};
use serde_json::json;
use std::sync::Arc;
use stratum::extranonce::{EXTRANONCE1_BYTES, Extranonce1, Extranonce2};
use stratum::job::{Job, JobBody, Roll, Solution};
use stratum::payee::PayeeTag;
use stratum::pot::Pot;

/// Why a proposal failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProposeError {
    /// The node would refuse such a block; its own words.
    #[error("the node would refuse a block of this shape: {0}")]
    Refused(String),
    /// The tip has moved on since the block's template was made: take a fresh one.
    #[error("the block builds on a tip that is no more the tip")]
    Outlived,
    /// The first block found would be lost.
    #[error(
        "the node does not let us hand in blocks: allow `submitblock`, for instance in its rpcwhitelist ({0})"
    )]
    NoSubmission(RpcError),
    /// The node cannot be asked.
    #[error(transparent)]
    Ask(#[from] AskError),
}

/// Proposes the block of a job with a dummy mark, extranonce and nonce; its hash meets no target, and
/// need not.
///
/// # Errors
/// The node's reason, or why it cannot be asked.
pub fn propose(rpc: &mut Rpc, network: Network, body: &Arc<JobBody>) -> Result<(), ProposeError> {
    let job = Job { body: Arc::clone(body), tag: PayeeTag([0xac; 8]), pot: Pot::MIN, superseded_at: None };
    // Bytes that read as OP_CHECKMULTISIG: the worst that a machine can roll.
    let rolled = vec![0xae; body.coinbase.extranonce_bytes()];
    let roll = Roll {
        extranonce1: Extranonce1([0xae; 4]),
        extranonce2: Extranonce2::new(&rolled[EXTRANONCE1_BYTES..]).expect("no coinbase has room for more"),
        ntime: body.ntime,
        nonce: 0,
        version: body.version,
    };
    let header = job.header(&roll);
    let solution = Solution {
        body: Arc::clone(body),
        coinbase: job.coinbase(&roll),
        roll,
        header,
        hash: BlockHash::from_raw_hash(sha256d::Hash::hash(&header)),
    };
    let mut request = ask::request(network);
    request["mode"] = "proposal".into();
    request["data"] = block::bytes(&solution).to_lower_hex_string().into();
    match rpc.ask::<Option<String>>("getblocktemplate", &json!([request])) {
        Ok(None) => Ok(()),
        Ok(Some(reason)) if reason == "inconclusive-not-best-prevblk" => Err(ProposeError::Outlived),
        Ok(Some(reason)) => Err(ProposeError::Refused(reason)),
        Err(e) => Err(ask::explain(e).into()),
    }
}

/// Whether the node lets us hand in blocks: offers it one that cannot be decoded, which it says.
///
/// # Errors
/// [`ProposeError::NoSubmission`], or why the node cannot be asked.
pub fn may_submit(rpc: &mut Rpc) -> Result<(), ProposeError> {
    match rpc.ask::<Option<String>>("submitblock", &json!(["00"])) {
        Ok(_) | Err(RpcError::Undecodable(_)) => Ok(()),
        Err(e @ (RpcError::Forbidden | RpcError::Node { .. })) => Err(ProposeError::NoSubmission(e)),
        Err(e) => Err(ask::explain(e).into()),
    }
}
