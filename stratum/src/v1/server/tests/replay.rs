//! One share in many spellings (faults M01): the same numbers are the same header, whatever they look like.

use super::*;
use crate::share::{Judge, Outcome};

/// Ids of the jobs that the connection holds, all of one body.
const JOBS: std::ops::Range<u64> = 0x70..0x7c;
const VERSION: u32 = 0x2000_0000;

/// What was agreed on version bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rolling {
    No,
    Yes,
    /// Missing bits are zero.
    Lenient,
}

/// The numbers of a share.
#[derive(Debug, Clone)]
struct Numbers {
    rolling: Rolling,
    job: u64,
    extranonce2: u64,
    ntime: u32,
    nonce: u32,
    /// Inside of the mask; 0 if nothing was agreed.
    bits: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum JobText {
    Exact,
    Upper,
    Zeros(usize),
    Prefixed,
    /// Another job of the same body.
    Other(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BitsText {
    Exact,
    /// With the version's own bits outside of the mask.
    WholeVersion,
    Missing,
}

/// How they are written.
#[derive(Debug, Clone)]
struct Spelling {
    /// Digits in upper case, and characters as escapes; a bit for each place.
    upper: u64,
    escaped: u64,
    user_upper: bool,
    job: JobText,
    bits: BitsText,
    extra: Vec<&'static str>,
    id: Option<&'static str>,
    space: &'static str,
    /// Order of the members id, method and params.
    order: Vec<usize>,
    /// A member that is there twice.
    twice: Option<usize>,
    /// A member that no message has.
    foreign: bool,
}

impl Spelling {
    /// A JSON text.
    fn text(&self, raw: &str) -> String {
        let is = |mask: u64, at: usize| mask >> (at % 64) & 1 == 1;
        let chars = raw.chars().enumerate().map(|(at, char)| {
            if is(self.escaped, at) { format!("\\u{:04X}", u32::from(char)) } else { char.to_string() }
        });
        format!("\"{}\"", chars.collect::<String>())
    }

    fn hex(&self, digits: &str) -> String {
        let upper = digits.chars().enumerate().map(|(at, digit)| {
            if self.upper >> (at % 64) & 1 == 1 { digit.to_ascii_uppercase() } else { digit }
        });
        self.text(&upper.collect::<String>())
    }

    fn params(&self, numbers: &Numbers) -> String {
        let user = if self.user_upper { user().to_uppercase() } else { user() };
        let job = match self.job {
            JobText::Exact => format!("{:x}", numbers.job),
            JobText::Upper => format!("{:X}", numbers.job),
            JobText::Zeros(zeros) => format!("{}{:x}", "0".repeat(zeros), numbers.job),
            JobText::Prefixed => format!("{:#x}", numbers.job),
            JobText::Other(job) => format!("{job:x}"),
        };
        let mut all =
            vec![self.text(&user), self.text(&job), self.hex(&format!("{:016x}", numbers.extranonce2))];
        all.extend([numbers.ntime, numbers.nonce].map(|number| self.hex(&format!("{number:08x}"))));
        match self.bits {
            BitsText::Missing => {}
            BitsText::Exact => all.push(self.hex(&format!("{:08x}", numbers.bits))),
            BitsText::WholeVersion => all.push(self.hex(&format!("{:08x}", VERSION | numbers.bits))),
        }
        if self.bits != BitsText::Missing {
            all.extend(self.extra.iter().map(|extra| (*extra).to_owned()));
        }
        let space = self.space;
        format!("[{space}{}{space}]", all.join(&format!("{space},{space}")))
    }

    fn line(&self, numbers: &Numbers) -> String {
        let space = self.space;
        let member = |name: &str, value: &str| format!("{}{space}:{space}{value}", self.text(name));
        let members = [
            self.id.map(|id| member("id", id)),
            Some(member("method", &self.text("mining.submit"))),
            Some(member("params", &self.params(numbers))),
        ];
        let order = self.order.iter().chain(&self.twice);
        let mut all: Vec<_> = order.filter_map(|at| members[*at].clone()).collect();
        if self.foreign {
            all.insert(1, member("jsonrpc", "{\"params\":[\"id\"]}"));
        }
        format!("{space}{{{space}{}{space}}}{space}\r\n", all.join(&format!("{space},{space}")))
    }

    /// Whether it is a share that only its repetition speaks against.
    fn is_fine(&self, numbers: &Numbers) -> bool {
        let job = match &self.job {
            JobText::Exact | JobText::Other(_) | JobText::Zeros(0) => true,
            JobText::Upper => format!("{:X}", numbers.job) == format!("{:x}", numbers.job),
            JobText::Zeros(_) | JobText::Prefixed => false,
        };
        let bits = match self.bits {
            BitsText::Exact => true,
            BitsText::WholeVersion => numbers.bits == 0,
            BitsText::Missing => numbers.rolling != Rolling::Yes,
        };
        let twice = self.twice.is_none_or(|member| member == 0 && self.id.is_none());
        job && bits && twice && !self.user_upper && self.id.is_none_or(|id| !id.contains(['[', 't']))
    }
}

fn numbers() -> impl Strategy<Value = Numbers> {
    let rolling = prop_oneof![Just(Rolling::No), Just(Rolling::Yes), Just(Rolling::Lenient)];
    let bits = prop_oneof![Just(0_u32), any::<u32>()];
    (rolling, JOBS, any::<u64>(), 0_u32..7_000, any::<u32>(), bits).prop_map(
        |(rolling, job, extranonce2, later, nonce, bits)| Numbers {
            rolling,
            job,
            extranonce2,
            ntime: sample::UNIX_S + later,
            nonce,
            bits: if rolling == Rolling::No { 0 } else { bits & VERSION_MASK },
        },
    )
}

fn spelling() -> impl Strategy<Value = Spelling> {
    let mask = || prop_oneof![Just(0), any::<u64>()];
    let job = prop_oneof![
        4 => Just(JobText::Exact),
        1 => Just(JobText::Upper),
        1 => (0..20_usize).prop_map(JobText::Zeros),
        1 => Just(JobText::Prefixed),
        2 => JOBS.prop_map(JobText::Other),
    ];
    let bits = prop_oneof![Just(BitsText::Exact), Just(BitsText::WholeVersion), Just(BitsText::Missing)];
    let extra = prop_oneof![Just("\"x\""), Just("5"), Just("null"), Just("[[]]"), Just("\"00002000\"")];
    let id = prop_oneof![
        Just("4"),
        Just("null"),
        Just("\"4\""),
        Just("-1"),
        Just("1e3"),
        Just("0.5"),
        Just("[4]"),
        Just("true")
    ];
    let space = prop_oneof![Just(""), Just(" "), Just("\t"), Just(" \r ")];
    let order = Just(vec![0, 1, 2]).prop_shuffle();
    let twice = prop::option::weighted(0.2, 0..3_usize);
    let words = (mask(), mask(), prop::bool::weighted(0.1), job, bits, prop::collection::vec(extra, 0..3));
    let frame = (prop::option::of(id), space, order, twice, any::<bool>());
    (words, frame).prop_map(
        |((upper, escaped, user_upper, job, bits, extra), (id, space, order, twice, foreign))| Spelling {
            upper,
            escaped,
            user_upper,
            job,
            bits,
            extra,
            id,
            space,
            order,
            twice,
            foreign,
        },
    )
}

/// A connection that agreed on this and holds [`JOBS`], easy enough for any hash.
fn connection(rolling: Rolling) -> Peer {
    let mut peer =
        Peer::new(Settings { zero_bits_when_missing: rolling == Rolling::Lenient, ..sample::settings() });
    if rolling != Rolling::No {
        peer.configure(json!(["version-rolling"]), json!({}));
    }
    peer.ask("mining.subscribe", json!([]));
    peer.ask("mining.authorize", json!([user()]));
    let mut body = sample::body(sample::REGTEST_NBITS);
    body.version = VERSION;
    let encoded = sample::encoded(body);
    JOBS.for_each(|_| peer.work(&encoded));
    peer.actions.clear();
    peer
}

proptest! {
    #[test]
    fn m01_an_accepted_share_in_any_other_spelling_is_the_same_header_and_never_paid_again(
        numbers in numbers(),
        spellings in prop::collection::vec(spelling(), 1..16),
    ) {
        let mut peer = connection(numbers.rolling);
        let mut judge = Judge::new(Duration::ZERO);
        judge.new_tip(sample::prev_hash(1), peer.now);
        let mut judged = |share, now| judge.check(share, now, u64::from(sample::UNIX_S) * 1_000).outcome;
        let (_, first) = peer.submit(json!([
            user(),
            format!("{:x}", numbers.job),
            format!("{:016x}", numbers.extranonce2),
            format!("{:08x}", numbers.ntime),
            format!("{:08x}", numbers.nonce),
            format!("{:08x}", numbers.bits),
        ]));
        let (roll, header) = (first.roll, first.job.header(&first.roll));
        // One hash in 65,536 misses even the easiest target.
        prop_assume!(matches!(judged(first, peer.now), Outcome::Accepted(_)));
        for mut spelling in spellings {
            // Missing bits are another number unless they are zero.
            if spelling.bits == BitsText::Missing && numbers.bits != 0 {
                spelling.bits = BitsText::Exact;
            }
            let line = spelling.line(&numbers);
            peer.raw(&line).unwrap();
            let outcome = peer.actions.drain(..).find_map(|action| match action {
                Action::Share { share, .. } => Some(share),
                _ => None,
            }).map(|share| {
                (share.roll == roll && share.job.header(&share.roll) == header, judged(share, peer.now))
            });
            match outcome {
                Some((same, Outcome::Rejected(reject))) => {
                    prop_assert!(same, "another header: {line}");
                    prop_assert_eq!(reject == Reject::Duplicate, spelling.is_fine(&numbers), "{} {}", reject, line);
                }
                Some((_, outcome)) => prop_assert!(false, "paid again, {outcome:?}: {line}"),
                None => prop_assert!(!spelling.is_fine(&numbers), "not even judged: {line}"),
            }
        }
    }
}
