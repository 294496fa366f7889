//! Whatever happens to an honest pool is no lie, and no bytes end an audit.

use super::settlements::owing;
use super::*;

/// A step of a pool's life.
#[derive(Debug, Clone)]
pub enum Step {
    /// With a time in the header that is so many seconds ahead.
    Mine {
        to: u8,
        harder: i8,
        ahead_s: u32,
    },
    Stale {
        to: u8,
    },
    Plan {
        class: SizeClass,
    },
    /// Another block wins at the height of the pool's newest.
    Orphan,
    /// Somebody else's block.
    Tip,
    /// What is owed is paid from the reserve, or what is being paid has been, or never will be.
    Settle {
        fee_bp: u16,
        withdrawn: bool,
    },
    Wait {
        seconds: u64,
    },
    /// A payee is paid to another address from now on, if it can be.
    Move {
        from: u8,
        to: u8,
    },
}

fn payee_number() -> impl Strategy<Value = u8> {
    prop_oneof![1_u8..6, SIGNERS.start..SIGNERS.start + 3]
}

pub fn step() -> impl Strategy<Value = Step> {
    let classes = prop::sample::select(&SizeClass::ALL[..]);
    prop_oneof![
        2 => (SIGNERS.start..SIGNERS.start + 3, payee_number()).prop_map(|(from, to)| Step::Move { from, to }),
        12 => (payee_number(), -4_i8..1, 0..=NTIME_AHEAD_MAX_S)
            .prop_map(|(to, harder, ahead_s)| Step::Mine { to, harder, ahead_s }),
        1 => payee_number().prop_map(|to| Step::Stale { to }),
        4 => classes.prop_map(|class| Step::Plan { class }),
        1 => Just(Step::Orphan),
        1 => Just(Step::Tip),
        3 => (0_u16..=200, any::<bool>()).prop_map(|(fee_bp, withdrawn)| Step::Settle { fee_bp, withdrawn }),
        1 => (1_u64..100).prop_map(|seconds| Step::Wait { seconds }),
    ]
}

/// The log of such a life, and the chain in the end.
pub fn live(window: u64, steps: Vec<Step>) -> (Vec<Entry>, InChain) {
    let mut history = History::new(params(window));
    let mut before_block = None;
    let mut knows_settlement = true;
    let mut job: Planned = history.plan(1, &honest());
    // Blocks of others, each another one: work on a tip that comes back late is not taken.
    let mut others = (2_u8..).map(|n| BlockHash::from_byte_array([n; 32]));
    for step in steps {
        match step {
            Step::Mine { to, harder, ahead_s } => {
                history.ntime = (history.unix_ms() / 1_000) as u32 + ahead_s;
                let place = history.place();
                if history.mine(&job, to, POT + harder) {
                    before_block = Some(place);
                    job = history.next(&job, to);
                    knows_settlement = true;
                }
            }
            Step::Stale { to } => history.mine_stale(&job, to),
            Step::Wait { seconds } => history.pass(seconds),
            Step::Move { from, to } => {
                history.move_payee(from, to);
            }
            Step::Plan { class } => {
                history.class = class;
                job = history.next(&job, 1);
                knows_settlement = true;
            }
            Step::Orphan => {
                let goes_back = |place: &(BlockHash, BlockHash)| history.can_go_back_to(place.0);
                if let Some((ledger_block, _)) = before_block.take().filter(goes_back) {
                    history.orphan((ledger_block, others.next().unwrap()));
                    history.settle_again();
                    job = history.next(&job, 1);
                    knows_settlement = true;
                }
            }
            Step::Settle { fee_bp, withdrawn } => match history.open_settlement() {
                None => {
                    knows_settlement &= !history.settle(history.place().0, fee_bp, |_| {});
                }
                Some(settlement) if withdrawn || !history.is_owed_at(history.place().0) => {
                    history.event(ChainEvent::SettlementWithdrawn { settlement });
                }
                Some(_) => {
                    // Blocks pass in which no work from before is left.
                    if !std::mem::replace(&mut knows_settlement, true) {
                        job = history.next(&job, 1);
                    }
                    history.settled();
                }
            },
            Step::Tip => {
                history.new_tip(others.next().unwrap());
                before_block = None;
                job = history.next(&job, 1);
                knows_settlement = true;
            }
        }
    }
    let chain = history.in_chain();
    (history.entries(), chain)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if std::env::var_os("SLUICE_LONG").is_some() { 1_000 } else { 64 }))]
    #[test]
    fn no_honest_history_is_called_a_lie(window in 1_u64..80, steps in prop::collection::vec(step(), 1..60)) {
        let (entries, chain) = live(window, steps);
        let report = audited(&entries);
        prop_assert!(report.is_honest(), "{:#?}", report.findings);
        prop_assert_eq!(report.paid_twice(&chain), []);
        prop_assert_eq!((report.entries, report.jobs_left_out, report.not_hashed), (entries.len() as u64, 0, 0));
        prop_assert_eq!(report.shares, shares(&entries).len() as u64);
        // Headers that look alike are compared.
        prop_assert!(audited_with(Seen::of_bits(3), &entries) == report);
    }

    #[test]
    fn no_entry_makes_an_audit_panic(seed in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut entries = base_log();
        for (which, byte, value) in seed {
            let at = which.index(entries.len());
            let mut bytes = Vec::new();
            entries[at].encode(&mut bytes);
            let place = byte.index(bytes.len());
            bytes[place] ^= value;
            if let Ok((altered, _)) = Entry::decode(&bytes) {
                entries[at] = altered;
            }
        }
        audited(&entries);
    }
}

/// One log for all cases, with a settlement that is paid.
fn base_log() -> Vec<Entry> {
    static LOG: std::sync::OnceLock<Vec<Entry>> = std::sync::OnceLock::new();
    let live = || {
        let mut history = owing(|_| {});
        history.settled();
        history.entries()
    };
    LOG.get_or_init(live).clone()
}
