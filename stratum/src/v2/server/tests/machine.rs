//! A client of one channel, which knows nothing but the messages: it builds headers with rust-bitcoin.

use super::*;
use bitcoin::block::{Header as BlockHeader, Version};
use bitcoin::consensus::deserialize;
use bitcoin::hashes::{Hash, sha256d};
use bitcoin::{BlockHash, CompactTarget, Transaction, TxMerkleNode};

/// What its work is for.
pub struct Machine {
    pub channel: u32,
    pub group: u32,
    pub kind: Kind,
    pub prefix: Vec<u8>,
    pub extranonce_size: usize,
    /// What later jobs will have.
    pub target: Number,
    /// All jobs that ever came, the last one last.
    pub jobs: Vec<Work>,
    parent: Option<SetNewPrevHash>,
    /// Of the next share.
    pub sequence: u32,
    nonce: u32,
}

/// A job.
#[derive(Clone)]
pub struct Work {
    pub id: u32,
    pub version: u32,
    pub version_rolling: bool,
    pub target: Number,
    parts: Parts,
    /// Where header times start; `None` while it waits for its parent.
    pub ntime: Option<u32>,
    parent: Option<SetNewPrevHash>,
}

#[derive(Clone)]
enum Parts {
    Root([u8; 32]),
    Coinbase { head: Vec<u8>, tail: Vec<u8>, path: Vec<U256> },
}

/// What it submits.
#[derive(Debug, Clone, PartialEq)]
pub struct Rolled {
    pub job: u32,
    pub extranonce: Vec<u8>,
    pub ntime: u32,
    pub nonce: u32,
    pub version: u32,
}

impl Machine {
    pub fn new(success: &Message) -> Self {
        let (kind, channel, group, target, prefix, extranonce_size) = match success {
            Message::OpenStandardMiningChannelSuccess(open) => {
                let group = open.group_channel_id;
                (Kind::Standard, open.channel_id, group, open.target, &open.extranonce_prefix, 0)
            }
            Message::OpenExtendedMiningChannelSuccess(open) => {
                let (group, size) = (open.group_channel_id, usize::from(open.extranonce_size));
                (Kind::Extended, open.channel_id, group, open.target, &open.extranonce_prefix, size)
            }
            other => panic!("{other:?}"),
        };
        Self {
            channel,
            group,
            kind,
            prefix: prefix.as_bytes().to_vec(),
            extranonce_size,
            target: target.value(),
            jobs: Vec::new(),
            parent: None,
            sequence: 1,
            nonce: 0,
        }
    }

    /// Follows what is for its channel.
    pub fn hear(&mut self, message: &Message) {
        match message {
            Message::NewMiningJob(job) if job.channel_id == self.channel => {
                assert_eq!(self.kind, Kind::Standard);
                self.take(job.job_id, job.version, false, job.min_ntime, Parts::Root(job.merkle_root.0));
            }
            Message::NewExtendedMiningJob(job) if job.channel_id == self.channel => {
                assert_eq!(self.kind, Kind::Extended);
                let parts = Parts::Coinbase {
                    head: job.coinbase_tx_prefix.as_bytes().to_vec(),
                    tail: job.coinbase_tx_suffix.as_bytes().to_vec(),
                    path: job.merkle_path.as_slice().to_vec(),
                };
                self.take(job.job_id, job.version, job.version_rolling_allowed, job.min_ntime, parts);
            }
            Message::SetNewPrevHash(parent) if parent.channel_id == self.channel => {
                let named = self.jobs.iter_mut().find(|job| job.id == parent.job_id);
                let named = named.expect("MN-33: it names a job that was sent");
                assert_eq!(named.ntime.replace(parent.min_ntime), None, "MN-33: as a future job");
                named.parent = Some(parent.clone());
                self.parent = Some(parent.clone());
            }
            Message::SetTarget(set) if set.channel_id == self.channel => {
                self.target = set.maximum_target.value();
                let waiting = self.jobs.iter_mut().filter(|job| job.ntime.is_none());
                waiting.for_each(|job| job.target = self.target);
            }
            _ => {}
        }
    }

    fn take(&mut self, id: u32, version: u32, version_rolling: bool, ntime: Option<u32>, parts: Parts) {
        assert!(self.jobs.iter().all(|job| job.id != id), "MN-27: job {id} came twice");
        let parent = ntime.and(self.parent.clone());
        assert_eq!(parent.is_some(), ntime.is_some(), "MN-28: work without a parent");
        self.jobs.push(Work { id, version, version_rolling, target: self.target, parts, ntime, parent });
    }

    /// The newest job.
    pub fn newest(&self) -> &Work {
        self.jobs.last().unwrap()
    }

    pub fn job(&self, id: u32) -> &Work {
        self.jobs.iter().find(|job| job.id == id).unwrap()
    }

    /// A roll of the newest job whose hash meets its target.
    pub fn hit(&mut self) -> Rolled {
        self.mine(self.newest().id, |machine, roll| machine.meets(roll))
    }

    /// A roll whose hash does not.
    pub fn miss(&mut self) -> Rolled {
        self.mine(self.newest().id, |machine, roll| !machine.meets(roll))
    }

    /// The next roll of a job that is wanted.
    pub fn mine(&mut self, job: u32, wanted: impl Fn(&Self, &Rolled) -> bool) -> Rolled {
        loop {
            let roll = self.roll(job);
            if wanted(self, &roll) {
                return roll;
            }
        }
    }

    /// The next roll of a job.
    pub fn roll(&mut self, job: u32) -> Rolled {
        self.nonce += 1;
        let work = self.job(job);
        Rolled {
            job,
            extranonce: vec![0x5a; self.extranonce_size],
            ntime: work.ntime.unwrap(),
            nonce: self.nonce,
            version: work.version,
        }
    }

    /// Takes the next sequence number.
    pub fn submit(&mut self, roll: &Rolled) -> Message {
        let sequence = self.sequence;
        self.sequence += 1;
        self.submit_as(self.kind, sequence, roll)
    }

    pub fn submit_as(&self, kind: Kind, sequence_number: u32, roll: &Rolled) -> Message {
        let channel_id = self.channel;
        let Rolled { job: job_id, ntime, nonce, version, .. } = *roll;
        match kind {
            Kind::Standard => {
                SubmitSharesStandard { channel_id, sequence_number, job_id, nonce, ntime, version }.into()
            }
            Kind::Extended => {
                let extranonce = Bytes32::new(&roll.extranonce).unwrap();
                SubmitSharesExtended {
                    channel_id,
                    sequence_number,
                    job_id,
                    nonce,
                    ntime,
                    version,
                    extranonce,
                }
                .into()
            }
        }
    }

    pub fn meets(&self, roll: &Rolled) -> bool {
        Number::from_le_bytes(self.hash(roll).to_byte_array()) <= self.job(roll.job).target
    }

    pub fn is_block(&self, roll: &Rolled) -> bool {
        let target = Target::from_nbits(self.job(roll.job).parent.as_ref().unwrap().nbits).unwrap();
        target.is_met_by(self.hash(roll).as_byte_array())
    }

    /// The coinbase that an extended channel's client assembles.
    pub fn coinbase(&self, roll: &Rolled) -> Transaction {
        let Parts::Coinbase { head, tail, .. } = &self.job(roll.job).parts else { panic!("no coinbase") };
        deserialize(&[&head[..], &self.prefix, &roll.extranonce, tail].concat()).unwrap()
    }

    pub fn hash(&self, roll: &Rolled) -> BlockHash {
        let work = self.job(roll.job);
        let root = match &work.parts {
            Parts::Root(root) => *root,
            Parts::Coinbase { path, .. } => {
                path.iter().fold(self.coinbase(roll).compute_txid().to_byte_array(), |node, sibling| {
                    sha256d::Hash::hash(&[node, sibling.0].concat()).to_byte_array()
                })
            }
        };
        let parent = work.parent.as_ref().expect("work is on a parent");
        let header = BlockHeader {
            version: Version::from_consensus(roll.version as i32), // the same bits
            prev_blockhash: BlockHash::from_byte_array(parent.prev_hash.0),
            merkle_root: TxMerkleNode::from_byte_array(root),
            time: roll.ntime,
            bits: CompactTarget::from_consensus(parent.nbits),
            nonce: roll.nonce,
        };
        header.block_hash()
    }
}
