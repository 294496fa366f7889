//! The questions that we ask a node, each with its answer's type.

use super::rpc::{Rpc, RpcError};
use crate::template::{Template, TemplateError, Tip};
use bitcoin::consensus::Decodable;
use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::{Amount, Block, BlockHash, Network, OutPoint, Transaction, Txid};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// Why a node gives no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// The call failed.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// The template cannot be used.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The node follows another chain than is wanted.
    #[error("the node is on chain `{found}`, wanted is {expected}: check the network and the node's address")]
    WrongChain {
        /// What the node says.
        found: String,
        /// What is wanted.
        expected: Network,
    },
    /// The template is not for the block that follows the tip.
    #[error("the node gives a template for height {template}, but its tip has height {tip}")]
    Height {
        /// Of the template.
        template: u32,
        /// Of its parent.
        tip: u32,
    },
    /// The tip has less work than the one that another node told, and that is still worked on.
    #[error(
        "the node is at height {found}, behind work at height {served} from another node: it is not mined on"
    )]
    Behind {
        /// Of the tip.
        found: u32,
        /// Of the tip that is worked on.
        served: u32,
    },
    /// The node's first block is not the network's.
    #[error("the node's genesis block is {found}, not that of {expected}")]
    WrongGenesis {
        /// What the node says.
        found: BlockHash,
        /// What is wanted.
        expected: Network,
    },
}

impl AskError {
    /// Whether the node is the wrong one to mine with, so that trying again is not enough.
    pub fn is_wrong_chain(&self) -> bool {
        match self {
            Self::Rpc(_) | Self::Height { .. } | Self::Behind { .. } => false,
            Self::Template(e) => e.is_wrong_chain(),
            Self::WrongChain { .. } | Self::WrongGenesis { .. } => true,
        }
    }
}

/// `getbestblockhash`.
///
/// # Errors
/// As [`Rpc::call`].
pub fn best_block(rpc: &mut Rpc) -> Result<BlockHash, RpcError> {
    rpc.ask("getbestblockhash", &json!([]))
}

/// A block's header as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Header {
    /// Height in its branch.
    pub height: u32,
    /// Compact target in hex.
    bits: String,
    /// Median time of it and the ten before, in Unix seconds.
    pub mediantime: u32,
    /// Its parent; none before the genesis block.
    pub previousblockhash: Option<BlockHash>,
    /// Blocks from it to the tip, itself included; −1 off the best chain.
    pub confirmations: i64,
    /// The block that follows it in the best chain, if there is one.
    pub nextblockhash: Option<BlockHash>,
    /// Work in its branch up to it, as 64 hex digits: text order is the order of work.
    #[serde(rename = "chainwork")]
    pub work: String,
}

impl Header {
    /// Its compact target; `None` if that is not hex.
    pub fn nbits(&self) -> Option<u32> {
        u32::from_str_radix(&self.bits, 16).ok()
    }

    /// The header as the tip that it was asked for; `None` if its target is not hex.
    pub fn as_tip(&self, hash: BlockHash) -> Option<Tip> {
        Some(Tip { hash, height: self.height, nbits: self.nbits()?, mediantime: self.mediantime })
    }
}

/// `getblockheader`.
///
/// # Errors
/// As [`Rpc::call`]; code −5 if the node does not know the block.
pub fn header(rpc: &mut Rpc, hash: BlockHash) -> Result<Header, RpcError> {
    rpc.ask("getblockheader", &json!([hash]))
}

/// `getblock`: a whole block.
///
/// # Errors
/// As [`Rpc::call`]; code −5 or −1 if the node does not know the block, or has pruned it.
pub fn block(rpc: &mut Rpc, hash: BlockHash) -> Result<Block, RpcError> {
    let hex: String = rpc.ask("getblock", &json!([hash, 0]))?;
    transaction_or_block("getblock", &hex)
}

fn transaction_or_block<T: Decodable>(method: &str, hex: &str) -> Result<T, RpcError> {
    deserialize_hex(hex).map_err(|error| RpcError::Answer(format!("{method}: {error}")))
}

/// `gettxout`: whether an output is there and unspent in the node's best chain, whatever waits to be in a block.
///
/// # Errors
/// As [`Rpc::call`].
pub fn is_unspent(rpc: &mut Rpc, outpoint: OutPoint) -> Result<bool, RpcError> {
    Ok(output(rpc, outpoint)?.is_some())
}

/// An output that is unspent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Output {
    /// Blocks from the one with its transaction to the tip, both included.
    pub confirmations: u32,
}

/// `gettxout`: an output that is there and unspent in the node's best chain, whatever waits to be in a block.
///
/// # Errors
/// As [`Rpc::call`].
pub fn output(rpc: &mut Rpc, outpoint: OutPoint) -> Result<Option<Output>, RpcError> {
    rpc.ask("gettxout", &json!([outpoint.txid, outpoint.vout, false]))
}

/// `getblockhash`: the block of the best chain at a height.
///
/// # Errors
/// As [`Rpc::call`]; code −8 above the tip.
pub fn block_hash(rpc: &mut Rpc, height: u32) -> Result<BlockHash, RpcError> {
    rpc.ask("getblockhash", &json!([height]))
}

/// `finalizepsbt`: the transaction of a signed PSBT in base64; `None` while signatures are missing.
///
/// # Errors
/// As [`Rpc::call`]; code −22 if it is no PSBT.
pub fn finalize(rpc: &mut Rpc, psbt: &str) -> Result<Option<Transaction>, RpcError> {
    #[derive(Deserialize)]
    struct Finalized {
        hex: Option<String>,
    }
    let Finalized { hex } = rpc.ask("finalizepsbt", &json!([psbt]))?;
    hex.map(|hex| transaction_or_block("finalizepsbt", &hex)).transpose()
}

/// `sendrawtransaction`, whatever its fee.
///
/// # Errors
/// As [`Rpc::call`]; the node's words say why it does not take it.
pub fn send(rpc: &mut Rpc, transaction: &Transaction) -> Result<(), RpcError> {
    rpc.ask::<Txid>("sendrawtransaction", &json!([serialize_hex(transaction), 0])).map(drop)
}

/// `estimatesmartfee`: satoshis for 1,000 virtual bytes, to be in one of the next `blocks`; `None` if the node has not
/// seen enough to say.
///
/// # Errors
/// As [`Rpc::call`].
pub fn fee_rate(rpc: &mut Rpc, blocks: u16) -> Result<Option<u64>, RpcError> {
    #[derive(Deserialize)]
    struct Estimate {
        feerate: Option<f64>,
    }
    let Estimate { feerate } = rpc.ask("estimatesmartfee", &json!([blocks]))?;
    Ok(feerate.and_then(|btc| Amount::from_btc(btc).ok()).map(Amount::to_sat))
}

/// How far a node's best chain has come.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Progress {
    /// Work in it, as 64 hex digits: text order is the order of work.
    #[serde(rename = "chainwork")]
    pub work: String,
    /// Height of its tip.
    #[serde(rename = "blocks")]
    pub height: u32,
}

/// `getblockchaininfo`, as far as it tells of progress.
///
/// # Errors
/// As [`Rpc::call`].
pub fn progress(rpc: &mut Rpc) -> Result<Progress, RpcError> {
    rpc.ask("getblockchaininfo", &json!([]))
}

/// Checks that the node follows the network's chain (CH-04). A signet's challenge is in each template
/// and checked there.
///
/// # Errors
/// The mismatch, or why the node cannot be asked.
pub fn check_chain(rpc: &mut Rpc, network: Network) -> Result<(), AskError> {
    #[derive(Deserialize)]
    struct Info {
        chain: String,
    }
    let Info { chain } = rpc.ask("getblockchaininfo", &json!([]))?;
    if chain != network.to_core_arg() {
        return Err(AskError::WrongChain { found: chain, expected: network });
    }
    let found = block_hash(rpc, 0)?;
    let genesis = bitcoin::constants::genesis_block(network).block_hash();
    if found != genesis {
        return Err(AskError::WrongGenesis { found, expected: network });
    }
    Ok(())
}

/// `getblocktemplate`; with a long-poll id the node answers when it has something newer.
///
/// # Errors
/// A failed call, or a template that does not hold ([`Template::parse`]).
pub fn template(rpc: &mut Rpc, network: Network, long_poll_id: Option<&str>) -> Result<Template, AskError> {
    let mut request = request(network);
    if let Some(id) = long_poll_id {
        request["longpollid"] = id.into();
    }
    match rpc.ask::<Box<RawValue>>("getblocktemplate", &json!([request])) {
        Ok(answer) => Ok(Template::parse(answer.get().as_bytes(), network)?),
        Err(e) => Err(explain(e)),
    }
}

/// The request object of GB-01.
pub(crate) fn request(network: Network) -> Value {
    let rules: &[&str] = if network == Network::Signet { &["segwit", "signet"] } else { &["segwit"] };
    json!({ "rules": rules, "capabilities": ["coinbasevalue", "longpoll", "proposal", "workid"] })
}

/// A node refuses to give templates to those who do not name a rule that it demands.
pub(crate) fn explain(e: RpcError) -> AskError {
    match &e {
        RpcError::InvalidParameter(words) if words.contains("rule") => match words.split('\'').nth(1) {
            Some(rule) => TemplateError::for_rule(rule).into(),
            None => e.into(),
        },
        _ => e.into(),
    }
}

#[cfg(test)]
#[path = "ask_tests.rs"]
mod tests;
