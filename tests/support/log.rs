//! The share log as a test reads it: the entries as they are, everything else computed again.

use bitcoin::block::{Header, Version};
use bitcoin::hashes::{Hash, sha256d};
use bitcoin::{CompactTarget, Network, ScriptBuf, TxMerkleNode};
use share_accounting::entry::{Encoded, Entry, JobEntry, Share};
use share_accounting::log::append::{Log as Writer, LogSettings};
use share_accounting::log::segment::{Blocks, End, SegmentHeader};
use share_accounting::log::{LogError, Reader};
use share_accounting::publish::Head;
use share_accounting::tree::Tree;
use share_accounting::verify::audit;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use stratum::payee::PayeeTag;

/// What the test reads back from the share log, without the pool's own accounting.
pub struct Log {
    entries: Vec<Entry>,
    scripts: Vec<ScriptBuf>,
    /// Jobs that go by a pool block whose share is not in the log.
    pub jobs_left_out: u64,
}

impl Log {
    /// Reads the log below a pool's data folder, and has it audited: a pool of ours does not lie.
    pub fn read(dir: &Path) -> Self {
        let dir = dir.join("log");
        let mut reader = Reader::open(&dir).unwrap();
        let network = reader.headers().next().expect("the log has a segment").network;
        let entries: Vec<_> = reader.by_ref().map(|entry| entry.unwrap().1).collect();
        let size = entries.len();
        let audit = audit(network, None, || Ok(Reader::open(&dir)?.take(size)))
            .unwrap_or_else(|error: LogError| panic!("{error}"));
        assert!(audit.is_honest(), "{:#?}", audit.findings);
        assert_eq!((audit.entries, audit.not_hashed), (size as u64, 0));
        let payees = entries.iter().filter_map(|entry| match entry {
            Entry::Payee(payee) => Some(payee.script.clone()),
            _ => None,
        });
        Self { scripts: payees.collect(), entries, jobs_left_out: audit.jobs_left_out }
    }

    /// All shares, oldest first.
    pub fn shares(&self) -> impl DoubleEndedIterator<Item = &Share> {
        shares(&self.entries)
    }

    /// Scripts of the payees, in the order of their registration.
    pub fn scripts(&self) -> &[ScriptBuf] {
        &self.scripts
    }

    /// Header hashes of all shares in internal order.
    ///
    /// # Panics
    /// If a share stands in the log twice.
    pub fn header_hashes(&self) -> HashSet<[u8; 32]> {
        let mut hashes = HashSet::new();
        for share in self.shares() {
            assert!(hashes.insert(self.header_hash(share)), "a share stands in the log twice");
        }
        hashes
    }

    /// The job whose coinbase a block holds: equal but for tag, pot and extranonce.
    pub fn job_of(&self, coinbase: &[u8]) -> &JobEntry {
        let masked = |job: &JobEntry, extranonce_bytes: usize| {
            let mut masked = coinbase.to_vec();
            let (tag, extranonce) = (job.coinbase.tag_offset(), job.coinbase.extranonce_offset());
            masked.get_mut(tag..tag + 9)?.fill(0);
            masked.get_mut(extranonce..extranonce + extranonce_bytes)?.fill(0);
            Some(masked)
        };
        // V2 clients may roll up to four bytes more than others.
        let fits = |job: &&JobEntry| {
            (12..=16).any(|bytes| masked(job, bytes).is_some_and(|masked| masked == *job.coinbase.bytes()))
        };
        let mut jobs = self.entries.iter().filter_map(|entry| match entry {
            Entry::Job(job) => Some(&**job),
            _ => None,
        });
        jobs.rfind(fits).expect("the block's job is in the log")
    }

    /// Hash of a share's header in internal order, rebuilt from the log alone.
    pub fn header_hash(&self, share: &Share) -> [u8; 32] {
        let Entry::Job(job) = &self.entries[usize::try_from(share.job).unwrap()] else {
            panic!("share names entry {} as its job, which is none", share.job);
        };
        let mut coinbase = job.coinbase.bytes().to_vec();
        let tag = PayeeTag::of(&self.scripts()[share.payee as usize]);
        coinbase[job.coinbase.tag_offset()..][..8].copy_from_slice(&tag.0);
        coinbase[job.coinbase.pot_offset()] = share.pot.get() as u8;
        let extranonce = share.extranonce.as_bytes();
        coinbase[job.coinbase.extranonce_offset()..][..extranonce.len()].copy_from_slice(extranonce);
        let root = job.merkle_branch.iter().fold(sha256d::Hash::hash(&coinbase), |node, next| {
            sha256d::Hash::hash(&[node.to_byte_array(), *next].concat())
        });
        let header = Header {
            version: Version::from_consensus(share.version as i32),
            prev_blockhash: job.prev_hash,
            merkle_root: TxMerkleNode::from_raw_hash(root),
            time: share.ntime,
            bits: CompactTarget::from_consensus(job.nbits),
            nonce: share.nonce,
        };
        header.block_hash().to_byte_array()
    }

    /// PPLNS by brute force: walks back from an entry until the window is full.
    pub fn weights(&self, log_size: u64, window: u128) -> BTreeMap<ScriptBuf, u128> {
        let scripts = self.scripts();
        let mut left = window;
        let mut weights = BTreeMap::new();
        for share in shares(&self.entries[..usize::try_from(log_size).unwrap()]).rev() {
            let counted = share_work(share).min(left);
            left -= counted;
            if counted > 0 {
                *weights.entry(scripts[share.payee as usize].clone()).or_default() += counted;
            }
        }
        weights
    }
}

/// Writes entries as one commit into a log that no pool has open: into a new segment, if the newest has `segment_bytes`.
pub fn append(dir: &Path, network: Network, segment_bytes: u64, entries: &[Entry]) {
    let settings = LogSettings { dir: dir.to_owned(), network, site: 0, segment_bytes };
    let mut work = 0;
    let note_work = |_, entry| {
        if let Entry::Share(share) = entry {
            work = share.total_work.0;
        }
    };
    let mut log = Writer::open(settings, note_work).unwrap();
    let mut encoded = Encoded::default();
    entries.iter().for_each(|entry| encoded.push(entry));
    log.commit(&encoded, work).unwrap();
}

/// What heads stand for is what the log begins with.
pub fn assert_begins_with(dir: &Path, heads: &[Head]) {
    let mut encoded = Encoded::default();
    Reader::open(dir).unwrap().for_each(|entry| encoded.push(&entry.unwrap().1));
    let leaves = encoded.leaves();
    for Head { size, root } in heads {
        let count = usize::try_from(*size).unwrap();
        assert!(count <= leaves.len(), "a head of {size} entries was signed, and {} are there", leaves.len());
        let tree: Tree = leaves[..count].iter().copied().collect();
        assert!(tree.root() == *root, "the head of {size} entries stands for others");
    }
}

/// Where the blocks begin in the bytes of the newest segment.
pub fn block_offsets(segment: &[u8]) -> Vec<usize> {
    let mut blocks = Blocks::new(&SegmentHeader::decode(segment).unwrap(), End::Open, None);
    std::iter::from_fn(|| blocks.next_block(segment).unwrap()).map(|block| block.offset).collect()
}

fn shares(entries: &[Entry]) -> impl DoubleEndedIterator<Item = &Share> {
    entries.iter().filter_map(|entry| match entry {
        Entry::Share(share) => Some(share),
        _ => None,
    })
}

/// ⌊2^256 / (T + 1)⌋ for T = 0xffff · 2^(208 − pot), by rust-bitcoin.
fn share_work(share: &Share) -> u128 {
    if !share.credited {
        return 0;
    }
    let lowest = usize::try_from(208 - i32::from(share.pot.get())).unwrap();
    let mut target = [0_u8; 32];
    (lowest..lowest + 16).for_each(|bit| target[bit / 8] |= 1 << (bit % 8));
    u128::from_le_bytes(
        bitcoin::Target::from_le_bytes(target).to_work().to_le_bytes()[..16].try_into().unwrap(),
    )
}
