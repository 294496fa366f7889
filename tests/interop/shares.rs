//! The verdicts on shares: `channels_sv2`, as a pool uses it, and our session with its judge get the same jobs and
//! the same shares.
//!
//! Their channels take no finished job but build each from a template, so ours are built from theirs: what stands in
//! our coinbase between height and extranonce (payee's tag, difficulty, site, epoch) is a part of the extranonce
//! prefix to them. Both then hash the same headers, on standard and on extended channels; for standard ones the
//! merkle roots are compared.
//!
//! Where the verdicts differ, [`Pair::explained`] says why. Not compared: acknowledgements (theirs come every so many
//! shares, ours when they are durable), and superseded jobs of the same parent (theirs are good until 16 others came,
//! ours for two minutes).

mod pair;

use pair::Pair;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use stratum::extranonce::Extranonce1;
use stratum::v2::server::{Kind, VERSION_MASK};

const ADDRESS: &str = "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx";
const UNIX_S: u32 = 1_790_000_000;
/// How far a header's time may be ahead, on both sides.
const AHEAD_S: u32 = 7_200;
/// The first prefix of their allocator behind the bytes that it is told.
const PREFIX: Extranonce1 = Extranonce1([7, 0, 0, 0]);
const ROLLED: usize = 8;
/// What our session calls its first channel, behind its groups; theirs is given the same id.
const CHANNEL: u32 = 6;
const VALUE: u64 = 312_500_000;
/// Every eighth hash is a block.
const EASY_NBITS: u32 = 0x201f_ffff;
const HARD_NBITS: u32 = 0x1702_1369;

/// A job that both know.
#[derive(Clone, Copy)]
struct Job {
    ours: u32,
    theirs: u32,
    /// Which tip it is on, counted from 1.
    tip: u8,
    version: u32,
}

/// What a client rolls; the job is named by each side's own id.
#[derive(Debug, Clone)]
struct Roll {
    extranonce: Vec<u8>,
    ntime: u32,
    nonce: u32,
    version: u32,
}

/// Error code, or `accepted`.
#[derive(Debug, Clone, PartialEq)]
struct Verdict {
    code: String,
    /// The coinbase of a block, as its transaction id.
    block: Option<[u8; 32]>,
}

impl Pair {
    /// The code that ours is to have where theirs is this, and why it may be another.
    fn explained(&self, job: Option<Job>, ours: &Verdict, theirs: &Verdict) -> bool {
        let age = job.map_or(0, |job| self.tip - job.tip);
        let their_code = match age {
            0 => return ours.code == theirs.code,
            // They remember the jobs of one older parent; ours are known for two minutes after they were superseded,
            // so that a miner hears the true reason.
            1 => "stale-share",
            _ => "invalid-job-id",
        };
        // They look at the age first. We hash first, for an old job may still be a block: what cannot be hashed, and
        // what policy refuses whatever its age, is said as such.
        let code = &ours.code[..];
        theirs.code == their_code
            && match code {
                "stale-share" | "bad-extranonce-size" => true,
                "version-rolling-not-allowed" => self.version_mask == 0,
                "invalid-non-rollable-version-bit" => self.version_mask != 0,
                _ => false,
            }
    }

    /// A share, mostly with one thing wrong.
    fn draw(&self, rng: &mut StdRng) -> (Option<Job>, Roll) {
        // Mostly the newest, else any, else none that was ever sent.
        let job = match rng.random_range(0..10) {
            0..6 => self.jobs.last().copied(),
            6..9 => Some(self.jobs[rng.random_range(0..self.jobs.len())]),
            _ => None,
        };
        let mut roll = Roll {
            extranonce: if self.kind == Kind::Extended {
                rng.random::<[u8; ROLLED]>().to_vec()
            } else {
                Vec::new()
            },
            ntime: UNIX_S + rng.random_range(0..100),
            nonce: rng.random(),
            version: job.map_or(0x2000_0000, |job| job.version),
        };
        match rng.random_range(0..8) {
            0 => roll.version ^= 1 << rng.random_range(0..32),
            1 => roll.version ^= rng.random::<u32>() & self.version_mask,
            2 => {
                let edges = [0, UNIX_S - 1, UNIX_S, UNIX_S + AHEAD_S, UNIX_S + AHEAD_S + 1, u32::MAX];
                roll.ntime = edges[rng.random_range(0..edges.len())];
            }
            3 if self.kind == Kind::Extended => roll.extranonce.resize(rng.random_range(0..=32), 1),
            _ => {}
        }
        (job, roll)
    }

    /// Both verdicts, compared.
    fn submit(&mut self, job: Option<Job>, roll: &Roll) -> Verdict {
        let (ours, theirs) = job.map_or((77, 77_777), |job| (job.ours, job.theirs));
        let (ours, theirs) = (self.ours(ours, roll), self.theirs(theirs, roll));
        assert!(self.explained(job, &ours, &theirs), "ours {ours:?}, theirs {theirs:?}: {roll:?}");
        if theirs.block.is_some() {
            assert_eq!(ours.block, theirs.block, "the same coinbase");
        } else if ours.block.is_some() {
            // Ours finds blocks in whatever else is refused: a block is lost to no policy.
            assert_ne!(ours.code, "accepted");
        }
        ours
    }
}

/// Some tips with some jobs each, and shares on all of them; the codes that came up.
fn compare(kind: Kind, nbits: u32, version_mask: u32, seed: u64) -> Vec<Verdict> {
    let rng = &mut StdRng::seed_from_u64(seed);
    let mut pair = Pair::new(kind, nbits, version_mask, rng);
    assert!(pair.pot.get() <= -30);
    let mut verdicts = Vec::new();
    let mut accepted: Vec<(Option<Job>, Roll)> = Vec::new();
    for step in 0..60 {
        if step % 12 == 11 {
            pair.new_job(rng.random(), rng);
        }
        let (job, roll) = match rng.random_range(0..6) {
            0 if !accepted.is_empty() => accepted[rng.random_range(0..accepted.len())].clone(),
            _ => pair.draw(rng),
        };
        let verdict = pair.submit(job, &roll);
        if verdict.code == "accepted" {
            accepted.push((job, roll));
        }
        verdicts.push(verdict);
    }
    verdicts
}

proptest! {
    #[test]
    fn m01_m10_m11_m12_m14_m15_mn_36_both_judge_a_share_alike(
        seed: u64,
        kind in prop_oneof![Just(Kind::Standard), Just(Kind::Extended)],
        nbits in prop_oneof![Just(EASY_NBITS), Just(HARD_NBITS)],
    ) {
        compare(kind, nbits, VERSION_MASK, seed);
    }

    #[test]
    fn mn_22_both_refuse_another_version_where_none_may_be_rolled(seed: u64) {
        // Their standard channels always allow it.
        compare(Kind::Extended, HARD_NBITS, 0, seed);
    }
}

#[test]
fn every_verdict_comes_up() {
    for kind in [Kind::Standard, Kind::Extended] {
        let verdicts: Vec<_> =
            (0..20).flat_map(|seed| compare(kind, EASY_NBITS, VERSION_MASK, seed)).collect();
        let mut wanted = vec![
            "accepted",
            "difficulty-too-low",
            "duplicate-share",
            "invalid-job-id",
            "invalid-non-rollable-version-bit",
            "invalid-share",
            "stale-share",
        ];
        if kind == Kind::Extended {
            wanted.push("bad-extranonce-size");
        }
        for code in wanted {
            assert!(verdicts.iter().any(|verdict| verdict.code == code), "{kind:?} {code}");
        }
        assert!(verdicts.iter().any(|verdict| verdict.block.is_some()));
    }
}
