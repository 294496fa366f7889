//! A V2 client that asks for it is told where in the log its shares are, and there they are.

use share_accounting::entry::{Entry, Share};
use share_accounting::publish::key::LogVerifier;
use share_accounting::publish::receipt::Receipts;
use sluice_tests::support::node::Node;
use sluice_tests::support::pool::{Pool, PoolBuilder, address};
use sluice_tests::support::v2_frames::V2Frames;
use sluice_tests::support::{rounds, wait_for};
use std::collections::BTreeMap;
use stratum::v2::codec::{Bytes32, Seq64K, Str255, U256};
use stratum::v2::extension::{self, NEGOTIATION, RECEIPTS};
use stratum::v2::flag;
use stratum::v2::message::negotiation::{RequestExtensions, RequestExtensionsSuccess};
use stratum::v2::message::{
    Message, OpenExtendedMiningChannel, OpenStandardMiningChannel, SetupConnection, SubmitSharesExtended,
    SubmitSharesStandard, SubmitSharesSuccess, Wire,
};

/// What makes a share of a job.
#[derive(Debug, Clone, PartialEq)]
struct Rolled {
    ntime: u32,
    nonce: u32,
    version: u32,
    /// The channel's own part first.
    extranonce: Vec<u8>,
}

impl From<Share> for Rolled {
    fn from(share: Share) -> Self {
        let Share { ntime, nonce, version, .. } = share;
        Self { ntime, nonce, version, extranonce: share.extranonce.as_bytes().to_vec() }
    }
}

/// A channel and its shares that are not answered.
struct Channel {
    id: u32,
    prefix: Vec<u8>,
    /// Bytes that it rolls; none on a standard channel.
    rolls: usize,
    /// Versions of its jobs.
    versions: BTreeMap<u32, u32>,
    /// The job to work on, and its time.
    job: Option<(u32, u32)>,
    sequence: u32,
    open: BTreeMap<u32, Rolled>,
}

impl Channel {
    fn new(id: u32, prefix: &Bytes32, rolls: usize) -> Self {
        let (versions, open) = (BTreeMap::new(), BTreeMap::new());
        Self { id, prefix: prefix.as_bytes().to_vec(), rolls, versions, job: None, sequence: 0, open }
    }

    fn job(&mut self, id: u32, version: u32, ntime: Option<u32>) {
        self.versions.insert(id, version);
        self.job = ntime.map(|ntime| (id, ntime)).or(self.job);
    }
}

/// A client, and what the server has said of its shares.
struct Client {
    link: V2Frames,
    channels: Vec<Channel>,
    /// Accepted shares, by the entries that they are said to be among, where something was said of them.
    accepted: Vec<(Vec<Rolled>, Option<extension::Receipts>)>,
    /// Whether it may use our extension.
    agreed: Option<bool>,
}

fn text(text: &str) -> Str255 {
    Str255::new(text.as_bytes().to_vec()).unwrap()
}

impl Client {
    /// A client with a standard and an extended channel that has asked for extensions, or not.
    fn connect(pool: &Pool, user: &str, asks: bool) -> Self {
        let link = V2Frames::connect(pool.builder.v2(), pool.builder.authority());
        let mut client = Self { link, channels: Vec::new(), accepted: Vec::new(), agreed: None };
        client.link.say(&SetupConnection {
            protocol: flag::PROTOCOL_MINING,
            min_version: 2,
            max_version: 2,
            flags: 0,
            endpoint_host: text("127.0.0.1"),
            endpoint_port: pool.builder.v2().port(),
            vendor: text(""),
            hardware_version: text(""),
            firmware: text(""),
            device_id: text(""),
        });
        client.hear();
        if asks {
            let requested_extensions = Seq64K::new(vec![0x0002, RECEIPTS]).unwrap();
            client.link.say(&RequestExtensions { request_id: 9, requested_extensions });
        }
        let (user_identity, nominal_hash_rate, max_target) = (text(user), 0.0, U256([0xff; 32]));
        let standard =
            OpenStandardMiningChannel { request_id: 1, user_identity, nominal_hash_rate, max_target };
        client.link.say(&standard);
        let OpenStandardMiningChannel { user_identity, .. } = standard;
        let (request_id, min_extranonce_size) = (2, 8);
        client.link.say(&OpenExtendedMiningChannel {
            request_id,
            user_identity,
            nominal_hash_rate,
            max_target,
            min_extranonce_size,
        });
        while client.channels.len() < 2 || client.channels.iter().any(|channel| channel.job.is_none()) {
            client.hear();
        }
        client
    }

    /// Takes one frame in.
    fn hear(&mut self) {
        let (header, payload) = self.link.hear();
        if header.extension_type == NEGOTIATION {
            let success = RequestExtensionsSuccess::decode(&payload).unwrap();
            assert_eq!((header.msg_type, success.request_id), (RequestExtensionsSuccess::TYPE, 9));
            assert_eq!(success.supported_extensions.as_slice(), [RECEIPTS]);
            assert_eq!(
                (self.agreed.replace(true), self.channels.len()),
                (None, 0),
                "one answer, in its turn"
            );
            return;
        }
        match Message::decode(header.msg_type, &payload).unwrap() {
            Message::SetupConnectionSuccess(_) => {}
            Message::OpenStandardMiningChannelSuccess(open) => {
                self.channels.push(Channel::new(open.channel_id, &open.extranonce_prefix, 0));
            }
            Message::OpenExtendedMiningChannelSuccess(open) => {
                let rolls = open.extranonce_size.into();
                self.channels.push(Channel::new(open.channel_id, &open.extranonce_prefix, rolls));
            }
            Message::NewMiningJob(job) => {
                self.channel(job.channel_id).job(job.job_id, job.version, job.min_ntime)
            }
            Message::NewExtendedMiningJob(job) => {
                self.channel(job.channel_id).job(job.job_id, job.version, job.min_ntime);
            }
            Message::SetNewPrevHash(parent) => {
                self.channel(parent.channel_id).job = Some((parent.job_id, parent.min_ntime));
            }
            // The pool's first share ends work that pays one alone.
            Message::SubmitSharesError(error) => {
                assert_eq!(error.error_code.to_string(), "stale-share");
                self.channel(error.channel_id).open.remove(&error.sequence_number).unwrap();
            }
            Message::SubmitSharesSuccess(success) => self.acknowledged(&success, &payload),
            other => panic!("{other:?}"),
        }
    }

    fn acknowledged(&mut self, success: &SubmitSharesSuccess, payload: &[u8]) {
        let open = &mut self.channel(success.channel_id).open;
        let later = open.split_off(&(success.last_sequence_number + 1));
        let accepted: Vec<_> = std::mem::replace(open, later).into_values().collect();
        assert_eq!(accepted.len(), success.new_submits_accepted_count as usize);
        let behind = &payload[SubmitSharesSuccess::PAYLOAD_BYTES_MAX..];
        self.accepted.push((accepted, extension::Receipts::find(behind).unwrap()));
    }

    fn channel(&mut self, id: u32) -> &mut Channel {
        self.channels.iter_mut().find(|channel| channel.id == id).unwrap()
    }

    /// Submits shares on both channels by turns, and waits for all answers. Every header is one.
    fn mine(&mut self, shares: usize) {
        for _ in 0..shares {
            for channel in &mut self.channels {
                let (job_id, ntime) = channel.job.unwrap();
                channel.sequence += 1;
                let (channel_id, sequence_number, nonce) = (channel.id, channel.sequence, channel.sequence);
                let (version, rolled) = (channel.versions[&job_id], vec![0x5a; channel.rolls]);
                let extranonce = [&channel.prefix[..], &rolled].concat();
                channel.open.insert(sequence_number, Rolled { ntime, nonce, version, extranonce });
                if channel.rolls == 0 {
                    self.link.say(&SubmitSharesStandard {
                        channel_id,
                        sequence_number,
                        job_id,
                        nonce,
                        ntime,
                        version,
                    });
                } else {
                    let extranonce = Bytes32::new(&rolled).unwrap();
                    self.link.say(&SubmitSharesExtended {
                        channel_id,
                        sequence_number,
                        job_id,
                        nonce,
                        ntime,
                        version,
                        extranonce,
                    });
                }
            }
        }
        while self.channels.iter().any(|channel| !channel.open.is_empty()) {
            self.hear();
        }
    }
}

/// The entry of this index, as soon as it is published, under a head that is signed.
fn entry(pool: &Pool, index: u64) -> Entry {
    let key = pool.http("/log/key").unwrap();
    let verifier = LogVerifier::parse(key.trim()).unwrap();
    let receipts = wait_for("a receipt", || {
        serde_json::from_str::<Receipts>(&pool.http(&format!("/log/receipt/{index}"))?).ok()
    });
    receipts.head(&verifier).unwrap();
    assert_eq!(receipts.receipts[0].index, index);
    Entry::decode(&receipts.receipts[0].entry).unwrap().0
}

#[test]
fn an_acknowledgement_says_where_its_shares_are_and_the_published_log_has_them_there() {
    let node = Node::signet();
    let pool = PoolBuilder::new(&node).easiest().with_v2().set("v2.experimental_receipts", "true").start();
    let [told, other] = [1, 2].map(|number| address(number, node.network));
    let mut client = Client::connect(&pool, &told, true);
    assert_eq!(client.agreed, Some(true));
    let mut bystander = Client::connect(&pool, &other, false);
    for _ in 0..rounds(5, 50) {
        client.mine(10);
        bystander.mine(3);
    }
    // Who has not asked hears nothing of it.
    assert!(bystander.accepted.iter().all(|(_, at)| at.is_none()) && bystander.agreed.is_none());

    let mut seen = 0;
    for (shares, at) in &client.accepted {
        let extension::Receipts { first, count } = at.expect("all of them were told");
        let entries: Vec<_> = (first..first + u64::from(count)).map(|index| entry(&pool, index)).collect();
        let logged = entries.into_iter().map(|entry| match entry {
            // Stale ones are in the log, too.
            Entry::Share(share) if share.credited => Some(Rolled::from(share)),
            _ => None,
        });
        let logged: Vec<_> = logged.collect();
        let prefix = &shares[0].extranonce[..4];
        let ours = |share: &&Rolled| share.extranonce.starts_with(prefix);
        assert_eq!(
            logged.iter().flatten().filter(ours).collect::<Vec<_>>(),
            shares.iter().collect::<Vec<_>>()
        );
        assert_eq!(
            (logged.first(), logged.last()),
            (Some(&shares.first().cloned()), Some(&shares.last().cloned()))
        );
        seen += shares.len();
    }
    assert!(seen > 0 && client.accepted.iter().any(|(shares, _)| shares.len() > 1), "{seen}");

    // Without the setting the question is passed over.
    let (status, builder) = pool.stop();
    assert!(status.success());
    let pool = builder.set("v2.experimental_receipts", "false").start();
    let mut client = Client::connect(&pool, &told, true);
    client.mine(3);
    assert!(client.accepted.iter().all(|(_, at)| at.is_none()) && client.agreed.is_none());
}
