//! The answer of `getblocktemplate`, and what must be true of it.

use super::*;
use crate::fit::{CoinbaseCost, empty_block};
use bitcoin::Transaction;
use bitcoin::consensus::encode::deserialize;
use bitcoin::hex::FromHex;
use ruint::aliases::U256;
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::HashSet;
use stratum::class::SizeClass;

/// The fields that are used (GB-03); unknown ones are ignored, as BIP 22 asks.
#[derive(Deserialize)]
struct Answer<'a> {
    version: u32,
    #[serde(default)]
    rules: Vec<String>,
    #[serde(default)]
    vbrequired: u32,
    previousblockhash: BlockHash,
    #[serde(borrow)]
    transactions: Vec<AnswerTx<'a>>,
    coinbasevalue: u64,
    target: String,
    bits: String,
    mintime: u32,
    curtime: u32,
    #[serde(default = "sigops_max")]
    sigoplimit: u64,
    #[serde(default = "bytes_max")]
    sizelimit: u64,
    #[serde(default = "weight_max")]
    weightlimit: u64,
    height: u32,
    longpollid: Option<String>,
    default_witness_commitment: Option<String>,
    signet_challenge: Option<String>,
}

#[derive(Deserialize)]
struct AnswerTx<'a> {
    #[serde(borrow)]
    data: Cow<'a, str>,
    txid: bitcoin::Txid,
    hash: bitcoin::Wtxid,
    #[serde(default)]
    depends: Vec<usize>,
    fee: u64,
    sigops: u64,
    weight: u64,
}

fn sigops_max() -> u64 {
    BLOCK_SIGOPS_MAX
}

fn bytes_max() -> u64 {
    BLOCK_BYTES_MAX
}

fn weight_max() -> u64 {
    BLOCK_WEIGHT_MAX
}

pub(super) fn parse(answer: &[u8], network: Network) -> Result<Template, TemplateError> {
    let answer: Answer<'_> =
        serde_json::from_slice(answer).map_err(|e| TemplateError::Json(e.to_string()))?;
    check_rules(&answer, network)?;
    let nbits = u32::from_str_radix(&answer.bits, 16).map_err(|e| field("bits", e))?;
    let target = Target::from_nbits(nbits)?;
    check_target(&answer.target, target)?;
    if answer.height == 0 {
        return Err(field("height", "a template cannot be for the genesis block"));
    }
    let (transactions, bytes) = transactions(&answer.transactions)?;
    let mut template = Template {
        network,
        height: answer.height,
        prev_hash: answer.previousblockhash,
        version: answer.version | answer.vbrequired,
        version_required: answer.vbrequired,
        nbits,
        target,
        mintime: answer.mintime,
        curtime: answer.curtime,
        value: answer.coinbasevalue,
        limits: Limits {
            weight: answer.weightlimit.min(BLOCK_WEIGHT_MAX),
            bytes: answer.sizelimit.min(BLOCK_BYTES_MAX),
            sigops: answer.sigoplimit.min(BLOCK_SIGOPS_MAX),
        },
        bytes: bytes.into(),
        transactions,
        branch: Vec::new(),
        commitment: [0; 32],
        long_poll_id: answer.longpollid,
    };
    template.seal();
    check_room(template.limits)?;
    check_sums(&template)?;
    if let Some(given) = answer.default_witness_commitment {
        check_commitment(&given, &template)?;
    }
    Ok(template)
}

fn field(field: &'static str, reason: impl ToString) -> TemplateError {
    TemplateError::Field { field, reason: reason.to_string() }
}

fn check_rules(answer: &Answer<'_>, network: Network) -> Result<(), TemplateError> {
    // Only rules with a leading `!` change what a miner has to do (BIP 9).
    let demanded = answer.rules.iter().filter_map(|rule| Some((rule, rule.strip_prefix('!')?)));
    for (rule, name) in demanded {
        if !RULES_KNOWN.contains(&name) {
            return Err(TemplateError::for_rule(rule));
        }
    }
    match (&answer.signet_challenge, network) {
        (Some(challenge), Network::Signet) if challenge != OPEN_SIGNET => Err(TemplateError::SignetSigned),
        (Some(_), Network::Signet) | (None, _) => Ok(()),
        (Some(_), _) => Err(field("signet_challenge", format!("{network} has none"))),
    }
}

fn check_target(given: &str, expected: Target) -> Result<(), TemplateError> {
    let bytes = <[u8; 32]>::from_hex(given).map_err(|e| field("target", e))?;
    if U256::from_be_bytes(bytes) != expected.value() {
        return Err(field("target", format!("{given} is not the expansion of bits, {expected}")));
    }
    Ok(())
}

/// The largest coinbase must fit once all transactions are left out.
fn check_room(limits: Limits) -> Result<(), TemplateError> {
    let largest = SizeClass::ALL[SizeClass::ALL.len() - 1];
    let needed = empty_block(CoinbaseCost::largest(largest));
    for (what, needed, limit) in [
        ("weight", needed.weight, limits.weight),
        ("size", needed.bytes, limits.bytes),
        ("sigops", needed.sigops, limits.sigops),
    ] {
        if needed > limit {
            return Err(TemplateError::NoRoom { what, needed, limit });
        }
    }
    Ok(())
}

fn check_sums(template: &Template) -> Result<(), TemplateError> {
    let sum = |of: fn(&TemplateTx) -> u64| {
        template.transactions.iter().try_fold(0_u64, |sum, tx| sum.checked_add(of(tx)))
    };
    let overflow = |what| field(what, "the sum over all transactions overflows");
    let fees = sum(|tx| tx.fee).ok_or_else(|| overflow("fee"))?;
    let allowed =
        subsidy(template.height, template.network).checked_add(fees).ok_or_else(|| overflow("fee"))?;
    if template.value > allowed {
        return Err(TemplateError::Value { value: template.value, allowed });
    }
    if template.value < fees {
        return Err(TemplateError::ValueBelowFees { value: template.value, fees });
    }
    let Limits { weight, bytes, sigops } = template.limits;
    let weight_sum = sum(|tx| tx.weight).ok_or_else(|| overflow("weight"))?;
    let sigops_sum = sum(|tx| tx.sigops).ok_or_else(|| overflow("sigops"))?;
    let bytes_sum = template.bytes.len() as u64; // usize is at most 64 bits
    for (what, sum, limit) in
        [("weight", weight_sum, weight), ("size", bytes_sum, bytes), ("sigops", sigops_sum, sigops)]
    {
        if sum > limit {
            return Err(TemplateError::TooLarge { what, sum, limit });
        }
    }
    Ok(())
}

fn check_commitment(given: &str, template: &Template) -> Result<(), TemplateError> {
    let given = Vec::from_hex(given).map_err(|e| field("default_witness_commitment", e))?;
    if given != commitment_script(template.commitment).as_bytes() {
        return Err(field("default_witness_commitment", "it is not the one of these transactions"));
    }
    Ok(())
}

/// Decodes the transactions and lays their bytes one behind the other.
fn transactions(given: &[AnswerTx<'_>]) -> Result<(Vec<TemplateTx>, Vec<u8>), TemplateError> {
    let mut all = Vec::with_capacity(given.len());
    let mut seen = HashSet::with_capacity(given.len());
    let mut bytes = Vec::new();
    for (index, tx) in given.iter().enumerate() {
        let wrong = |reason| TemplateError::Transaction { index, reason };
        let data = Vec::from_hex(&tx.data).map_err(|_| wrong("data is not hex"))?;
        let decoded: Transaction = deserialize(&data).map_err(|_| wrong("data is not a transaction"))?;
        if decoded.is_coinbase() {
            return Err(wrong("it is a coinbase"));
        }
        if decoded.compute_txid() != tx.txid {
            return Err(wrong("txid is not the one of its data"));
        }
        if decoded.compute_wtxid() != tx.hash {
            return Err(wrong("hash is not the one of its data"));
        }
        if !seen.insert(tx.txid) {
            return Err(wrong("it comes twice"));
        }
        if decoded.weight().to_wu() != tx.weight {
            return Err(wrong("weight is not the one of its data"));
        }
        // BIP 22 counts from 1; only earlier transactions may be named.
        let depends = tx.depends.iter().map(|&place| place.checked_sub(1).filter(|&place| place < index));
        all.push(TemplateTx {
            range: bytes.len()..bytes.len() + data.len(),
            txid: tx.txid.to_byte_array(),
            wtxid: tx.hash.to_byte_array(),
            fee: tx.fee,
            sigops: tx.sigops,
            weight: tx.weight,
            depends: depends
                .collect::<Option<_>>()
                .ok_or_else(|| wrong("it depends on one that does not come before it"))?,
        });
        bytes.extend_from_slice(&data);
    }
    Ok((all, bytes))
}
