use super::*;
use crate::extranonce::EXTRANONCE_BYTES;
use crate::job::{Coinbase, JobBody, MARK_BYTES};
use crate::sample::{self, HARD_NBITS};
use crate::v2::codec::{Bytes64K, Seq255};
use crate::v2::message::{Message, NewExtendedMiningJob, SetNewPrevHash};
use bitcoin::hashes::Hash;
use proptest::collection::vec;
use proptest::prelude::*;

/// The frames, each written whole from its message.
fn from_scratch(job: &JobMessage) -> Vec<Vec<u8>> {
    let (channel_id, job_id, body) = (job.channel, job.id.0, job.encoded.body());
    let min_ntime = if job.clean { None } else { Some(body.ntime) };
    let mut frames = Vec::new();
    let mut written = |message: Message| {
        let mut frame = Vec::new();
        message.write_frame(&mut frame);
        frames.push(frame);
    };
    if let Some(pot) = job.target {
        written(SetTarget { channel_id, maximum_target: pot.target().into() }.into());
    }
    let whole = Job { body: body.clone(), tag: job.tag, pot: job.pot, superseded_at: None };
    match job.kind {
        Kind::Standard => written(
            NewMiningJob {
                channel_id,
                job_id,
                min_ntime,
                version: body.version,
                merkle_root: U256(whole.merkle_root(job.prefix, Extranonce2::ZERO)),
            }
            .into(),
        ),
        Kind::Extended => {
            let mark = body.coinbase.mark(job.tag, job.pot);
            let mark = mark.as_ref().map_or(&[][..], |mark| mark);
            let prefix = [&body.coinbase.head()[..], mark].concat();
            written(
                NewExtendedMiningJob {
                    channel_id,
                    job_id,
                    min_ntime,
                    version: body.version,
                    version_rolling_allowed: job.version_rolling,
                    merkle_path: Seq255::new(body.merkle_branch.iter().copied().map(U256).collect()).unwrap(),
                    coinbase_tx_prefix: Bytes64K::new(prefix).unwrap(),
                    coinbase_tx_suffix: Bytes64K::new(body.coinbase.tail()).unwrap(),
                }
                .into(),
            );
        }
    }
    if job.clean {
        let prev_hash = U256(*body.prev_hash.as_byte_array());
        let (min_ntime, nbits) = (body.ntime, body.nbits);
        written(SetNewPrevHash { channel_id, job_id, prev_hash, min_ntime, nbits }.into());
    }
    frames
}

/// Coinbases of our own and from upstream, with room for what a standard channel does not roll.
fn any_coinbase() -> impl Strategy<Value = Coinbase> {
    (vec(any::<u8>(), 0..200), prop_oneof![0..400_usize, Just(31_000)], any::<u8>(), any::<bool>()).prop_map(
        |(before, behind, seed, own)| {
            let behind: Vec<u8> = (0..behind).map(|at| at.to_le_bytes()[0] ^ seed).collect();
            if own {
                let gap = [seed; MARK_BYTES + EXTRANONCE_BYTES];
                Coinbase::new([&before[..], &gap, &behind].concat().into(), before.len())
            } else {
                Coinbase::from_upstream(&before, EXTRANONCE_BYTES, &behind)
            }
        },
    )
}

prop_compose! {
    fn any_body()(
        coinbase in any_coinbase(),
        merkle_branch in vec(any::<[u8; 32]>(), 0..14),
        (version, nbits, ntime) in any::<(u32, u32, u32)>(),
        seed: u8,
    ) -> JobBody {
        let prev_hash = sample::prev_hash(seed);
        JobBody { coinbase, merkle_branch, version, nbits, ntime, prev_hash, ..sample::body(HARD_NBITS) }
    }
}

prop_compose! {
    fn any_pot()(pot in -32_i8..=95) -> Pot {
        Pot::try_from(pot).unwrap()
    }
}

prop_compose! {
    /// A message of any channel about this job.
    fn any_message(encoded: Arc<EncodedJob>)(
        (channel, id, tag, prefix) in any::<(u32, u32, [u8; 8], [u8; 4])>(),
        (pot, target) in (any_pot(), prop::option::of(any_pot())),
        (extended, version_rolling, clean) in any::<(bool, bool, bool)>(),
    ) -> JobMessage {
        JobMessage {
            channel,
            kind: if extended { Kind::Extended } else { Kind::Standard },
            prefix: Extranonce1(prefix),
            target,
            id: JobId(id),
            encoded: encoded.clone(),
            tag: PayeeTag(tag),
            pot,
            version_rolling,
            clean,
        }
    }
}

fn any_messages() -> impl Strategy<Value = Vec<JobMessage>> {
    any_body().prop_flat_map(|body| vec(any_message(sample::encoded(body)), 1..12))
}

proptest! {
    #[test]
    fn frames_that_channels_share_are_byte_for_byte_those_of_messages_of_their_own(messages in any_messages()) {
        // Room that another frame was in before.
        let mut space = vec![0xee; 40_000];
        for message in messages {
            let mut frames = Vec::new();
            message.frames(&mut space, |frame| frames.push(frame.to_vec()));
            prop_assert_eq!(frames, from_scratch(&message));
        }
    }
}
