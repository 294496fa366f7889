//! One job that our judge and a channel of the reference implementation both know, and the shares for it.
//!
//! Their channel takes no finished job but builds it from a template, so ours is built from theirs. What stands in our
//! coinbase between height and extranonce (payee's tag, difficulty, site, epoch) is a part of the extranonce prefix to
//! them: both hash the same headers.

use crate::work::{self, ADDRESS, HARD_NBITS, PREFIX, PREV_HASH, UNIX_S, VERSION};
use binary_sv2::U256Owned;
use bitcoin::hashes::{Hash, HashEngine, sha256d};
use bitcoin::{Amount, BlockHash, CompactTarget, ScriptBuf, TxMerkleNode, TxOut, block};
use channels_sv2::extranonce_manager::ExtranonceAllocator;
use channels_sv2::server::extended::ExtendedChannel;
use mining_sv2::SubmitSharesExtendedOwned;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stratum::extranonce::EXTRANONCE_BYTES;
use stratum::job::{Coinbase, Job, MARK_BYTES};
use stratum::payee::Payee;
use stratum::pot::Pot;
use stratum::share::{Judge, PendingShare};
use stratum::v2::codec::U256;
use template_distribution_sv2::{NewTemplateOwned, SetNewPrevHashOwned};

const CHANNEL: u32 = 6;
const VALUE: u64 = 312_500_000;
/// Bytes that a machine rolls.
const ROLLED: u8 = 8;
/// Bytes of an output to a witness key hash, as most payees have.
const OUTPUT_BYTES: usize = 8 + 1 + 22;
/// Most shares a minute that their channel is told to expect: the more, the more it remembers.
const SHARES_PER_MINUTE: f32 = 900.0;

/// What differs from one share to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rolls {
    /// The extranonce: each share has a coinbase of its own.
    Extranonce,
    /// The nonce alone: coinbase and merkle root stay.
    Nonce,
}

/// Both sides of a job.
pub struct Twins {
    /// Ours.
    pub judge: Judge,
    /// Theirs.
    pub channel: ExtendedChannel,
    /// Our clock, which stands still.
    pub now: Instant,
    job: Job,
    payee: Arc<Payee>,
    their_job_id: u32,
}

impl Twins {
    /// A job with a stripped coinbase of so many bytes.
    pub fn new(coinbase_bytes: usize, branch: &[[u8; 32]], pot: Pot) -> Self {
        let payee = work::payee("rig1");
        // The outputs do not change the length of anything else but their own count.
        let probe = coinbase_of(&channel(&payee, pot, outputs(OUTPUT_BYTES), &[]));
        let fixed = probe.bytes().len() - OUTPUT_BYTES - count_bytes(1);
        let outputs = filling(coinbase_bytes - fixed);
        let channel = channel(&payee, pot, outputs, branch);
        let coinbase = coinbase_of(&channel);
        assert_eq!(coinbase.bytes().len(), coinbase_bytes, "outputs fill the coinbase");
        let job = work::job(&work::body(coinbase, branch.to_vec()), &payee, pot);
        let now = Instant::now();
        let mut judge = Judge::new(Duration::ZERO);
        judge.new_tip(BlockHash::from_byte_array(PREV_HASH), now);
        let their_job_id = channel.get_active_job().expect("the channel was given a parent").get_job_id();
        Self { judge, channel, now, job, payee, their_job_id }
    }

    /// Makes shares for us.
    pub fn ours(&self, rolls: Rolls) -> impl Fn(u32) -> PendingShare + use<> {
        let (job, payee) = (self.job.clone(), self.payee.clone());
        move |nth| {
            let (extranonce2, nonce) = rolled(rolls, nth);
            work::share(&job, &payee, work::roll(extranonce2, nonce))
        }
    }

    /// Makes the same shares for them.
    pub fn theirs(&self, rolls: Rolls) -> impl Fn(u32) -> SubmitSharesExtendedOwned + use<> {
        let job_id = self.their_job_id;
        move |nth| {
            let (extranonce2, nonce) = rolled(rolls, nth);
            SubmitSharesExtendedOwned {
                channel_id: CHANNEL,
                sequence_number: nth,
                job_id,
                nonce,
                ntime: UNIX_S,
                version: VERSION,
                extranonce: extranonce2.to_be_bytes().to_vec().try_into().expect("8 bytes of at most 32"),
            }
        }
    }

    /// Header hash of a share and whether it meets the target, by the `bitcoin` crate alone: no duplicates are
    /// looked for, nothing is booked.
    pub fn plain(&self) -> impl Fn(u64, u32) -> (BlockHash, bool) + use<> {
        let job = self.job.clone();
        let target = bitcoin_target(job.pot);
        let coinbase = &job.body.coinbase;
        let mark = coinbase.mark(job.tag, job.pot).expect("the coinbase is our own");
        let head = [&coinbase.head()[..], &mark, &PREFIX.0].concat();
        let tail = coinbase.tail();
        move |extranonce2, nonce| {
            let mut engine = sha256d::Hash::engine();
            engine.input(&head);
            engine.input(&extranonce2.to_be_bytes());
            engine.input(&tail);
            let root =
                job.body.merkle_branch.iter().fold(sha256d::Hash::from_engine(engine), |node, sibling| {
                    let mut engine = sha256d::Hash::engine();
                    engine.input(node.as_byte_array());
                    engine.input(sibling);
                    sha256d::Hash::from_engine(engine)
                });
            let header = block::Header {
                version: block::Version::from_consensus(VERSION.cast_signed()),
                prev_blockhash: job.body.prev_hash,
                merkle_root: TxMerkleNode::from_raw_hash(root),
                time: UNIX_S,
                bits: CompactTarget::from_consensus(HARD_NBITS),
                nonce,
            };
            let hash = header.block_hash();
            (hash, target.is_met_by(hash))
        }
    }
}

/// Extranonce and nonce of the `nth` share.
pub fn rolled(rolls: Rolls, nth: u32) -> (u64, u32) {
    match rolls {
        Rolls::Extranonce => (u64::from(nth), 0x1234_5678),
        Rolls::Nonce => (0x0102_0304_0506_0708, nth),
    }
}

fn bitcoin_target(pot: Pot) -> bitcoin::Target {
    bitcoin::Target::from_le_bytes(U256::from(pot.target()).0)
}

/// Bytes of the count of outputs.
fn count_bytes(outputs: usize) -> usize {
    if outputs < 0xfd { 1 } else { 3 }
}

/// One output of so many bytes, which takes the whole value.
fn outputs(bytes: usize) -> Vec<TxOut> {
    let script_pubkey = ScriptBuf::from_bytes(vec![0x6a; bytes - 8 - 1]);
    vec![TxOut { value: Amount::from_sat(VALUE), script_pubkey }]
}

/// Outputs that take so many bytes with their count: as many usual ones as fit, and one that takes the rest.
fn filling(bytes: usize) -> Vec<TxOut> {
    let usual = bytes / OUTPUT_BYTES - 1;
    let rest = bytes - count_bytes(usual + 1) - usual * OUTPUT_BYTES;
    let mut all = outputs(rest);
    let script_pubkey = work::payee("x").script.clone();
    all.extend((0..usual).map(|_| TxOut { value: Amount::ZERO, script_pubkey: script_pubkey.clone() }));
    all
}

/// Their channel with one job on [`PREV_HASH`].
fn channel(payee: &Payee, pot: Pot, outputs: Vec<TxOut>, branch: &[[u8; 32]]) -> ExtendedChannel {
    let mark = [&payee.tag.0[..], &[pot.get().cast_unsigned()], &[0; 4]].concat();
    let local = [&mark[..], &PREFIX.0[..3]].concat();
    let total = u8::try_from(MARK_BYTES + EXTRANONCE_BYTES).expect("25");
    let mut allocator = ExtranonceAllocator::new(local, total, 2).expect("32 bytes at most");
    let mut channel = ExtendedChannel::new_for_pool(
        CHANNEL,
        ADDRESS.to_owned(),
        allocator.allocate_extended(ROLLED.into()).expect("the first prefix"),
        bitcoin::Target::from_le_bytes([0xff; 32]),
        1.0,
        true,
        ROLLED.into(),
        1,
        SHARES_PER_MINUTE,
        "p".to_owned(),
        None,
    )
    .expect("a channel that their own tests could have opened");
    channel.set_target(bitcoin_target(pot)).expect("a target between theirs");
    let template = NewTemplateOwned {
        template_id: 1,
        future_template: true,
        version: VERSION,
        coinbase_tx_version: 2,
        coinbase_prefix: vec![3, 0xa0, 0xbb, 0x0d].try_into().expect("4 bytes"),
        coinbase_tx_input_sequence: 0xffff_fffe,
        coinbase_tx_value_remaining: VALUE,
        coinbase_tx_outputs_count: 0,
        coinbase_tx_outputs: Vec::new().try_into().expect("none"),
        coinbase_tx_locktime: 899_999,
        merkle_path: branch.iter().map(U256Owned::from).collect::<Vec<_>>().try_into().expect("a short path"),
    };
    channel.on_new_template(template, outputs).expect("outputs that take the template's value");
    let parent = SetNewPrevHashOwned {
        template_id: 1,
        prev_hash: U256Owned::from(PREV_HASH),
        header_timestamp: UNIX_S,
        n_bits: HARD_NBITS,
        target: U256Owned::from([0xff; 32]),
    };
    channel.on_set_new_prev_hash(parent).expect("the template is known");
    channel
}

/// The coinbase of their job as one of ours.
fn coinbase_of(channel: &ExtendedChannel) -> Coinbase {
    let theirs = channel.get_active_job().expect("the channel was given a parent");
    let head = theirs.get_coinbase_tx_prefix_without_bip141();
    let tail = theirs.get_coinbase_tx_suffix_without_bip141();
    let gap = [0; MARK_BYTES + EXTRANONCE_BYTES];
    Coinbase::new([&head[..], &gap, &tail].concat().into(), head.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_fill_any_number_of_bytes() {
        for bytes in [OUTPUT_BYTES + 1, 100, 7_843, 7_844, 7_845, 31_000] {
            let outputs = filling(bytes);
            let all: usize = outputs.iter().map(TxOut::size).sum();
            assert_eq!(all + count_bytes(outputs.len()), bytes);
        }
    }
}
