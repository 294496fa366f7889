use super::*;
use crate::testing::{cases, params, script};
use bitcoin::hashes::Hash;
use proptest::prelude::*;

fn reserve(n: u32, sats: u64) -> Reserve {
    let mut txid = [7; 32];
    txid[..4].copy_from_slice(&n.to_le_bytes());
    Reserve { outpoint: OutPoint { txid: Txid::from_byte_array(txid), vout: 3 }, sats }
}

fn credits(credits: &[(u8, u64)]) -> Credits {
    credits.iter().map(|(n, sats)| (script(*n), *sats)).collect()
}

fn settlement(proposal: Proposal, fee: u64) -> Settlement {
    let Proposal { credits, reserve, .. } = proposal;
    let block = BlockHash::all_zeros();
    Settlement { matured: block, ledger_block: block, fee, credits, reserve }
}

/// Of what is owed at one block alone.
fn proposed(owed: &Credits, reserves: &[Reserve], before: &Settlements) -> Option<Proposal> {
    propose(owed, owed, reserves.iter().copied(), before, &Moves::default(), &params())
}

#[test]
fn the_credits_bear_the_fee_in_proportion_and_the_rest_goes_back() {
    let owed = credits(&[(1, 10_000), (2, 20_000), (3, 4_999)]);
    let proposal =
        proposed(&owed, &[reserve(1, 30_000), reserve(2, 4_999)], &Settlements::default()).unwrap();
    assert_eq!(proposal.credits, [(script(1), 10_000), (script(2), 20_000)]);
    assert_eq!(proposal.reserve, [reserve(1, 30_000)]);
    let settlement = Settlement { reserve: vec![reserve(1, 35_000)], ..settlement(proposal, 301) };
    let transaction = settlement.transaction(&script(251));
    let outputs: Vec<_> = transaction
        .output
        .iter()
        .map(|output| (output.script_pubkey.clone(), output.value.to_sat()))
        .collect();
    assert_eq!(outputs, [(script(1), 9_900), (script(2), 19_799), (script(251), 5_000)]);
    assert!(settlement.is_paid_by(&transaction, &script(251)));
    let mut other = transaction.clone();
    other.output[0].value -= Amount::from_sat(1);
    assert!(!settlement.is_paid_by(&other, &script(251)));
    let rest = settlement.rest(transaction.compute_txid()).unwrap();
    assert_eq!((rest.outpoint.vout, rest.sats), (2, 5_000));
}

#[test]
fn what_has_been_paid_since_or_is_locked_is_not_settled() {
    let (matured, newest) =
        (credits(&[(1, 10_000), (2, 20_000), (4, 9_000)]), credits(&[(1, 9_000), (2, 90_000)]));
    let before = Settlements { locked: Arc::new(credits(&[(2, 14_000)])), ..Settlements::default() };
    let proposal =
        propose(&matured, &newest, [reserve(1, 100_000)], &before, &Moves::default(), &params()).unwrap();
    assert_eq!(proposal.credits, [(script(1), 9_000), (script(2), 6_000)]);
}

#[test]
fn who_is_owed_more_than_the_outputs_hold_waits_for_the_next_one_and_no_rest_is_dust() {
    let owed = credits(&[(1, 10_000), (2, 20_000), (3, 6_000)]);
    let pay = |reserves: &[Reserve]| {
        let proposal = proposed(&owed, reserves, &Settlements::default())?;
        assert_eq!(proposal.owed, 36_000);
        Some(proposal.credits.iter().map(|(_, sats)| *sats).collect::<Vec<_>>())
    };
    assert_eq!(pay(&[reserve(1, 36_000)]).unwrap(), [10_000, 20_000, 6_000]);
    assert_eq!(pay(&[reserve(1, 35_999)]).unwrap(), [10_000, 20_000]);
    assert_eq!(pay(&[reserve(1, 20_000)]).unwrap(), [10_000, 6_000]);
    // 100 satoshis would be left over, and nodes drop such outputs.
    assert_eq!(pay(&[reserve(1, 30_100)]).unwrap(), [10_000]);
    assert_eq!(pay(&[reserve(1, 6_100)]), None);
    assert_eq!(pay(&[reserve(1, 5_999)]), None);
    assert_eq!(pay(&[]), None);
    // The largest are enough, however many small ones there are.
    let mut many: Vec<_> = (0..2_000).map(|n| reserve(n, 3_000)).collect();
    many.push(reserve(5_000, 30_000));
    let proposal = proposed(&owed, &many, &Settlements::default()).unwrap();
    assert_eq!(proposal.reserve, [reserve(5_000, 30_000), reserve(0, 3_000), reserve(1, 3_000)]);
}

#[test]
fn i15_the_log_takes_one_settlement_at_a_time_and_no_output_twice() {
    let owed = credits(&[(1, 10_000)]);
    let mut settlements = Settlements::default();
    let params = params();
    let first = settlement(proposed(&owed, &[reserve(1, 10_000)], &settlements).unwrap(), 200);
    settlements.begin(5, &first, Some(&params)).unwrap();
    assert_eq!(settlements.open().map(|(index, _)| index), Some(5));
    assert_eq!(payable(&owed, settlements.locked()), Credits::new());
    assert_eq!(settlements.begin(6, &first, Some(&params)), Err("a settlement while another one is open"));
    let (block, txid) = (BlockHash::all_zeros(), Txid::all_zeros());
    let paid = ChainEvent::SettlementPaid { settlement: 5, block, txid };
    settlements.note(&paid).unwrap();
    // Again, in another block.
    settlements.note(&paid).unwrap();
    assert_eq!(
        settlements.begin(6, &first, Some(&params)),
        Err("a settlement spends what another one has spent")
    );
    assert!(settlements.note(&ChainEvent::SettlementWithdrawn { settlement: 5 }).is_err());
    assert!(settlements.note(&ChainEvent::SettlementFailed { settlement: 6, spent: 1 }).is_err());
    // It has one output, and that must be spent.
    for spent in [0, 0b10, 0b11, 1 << 127] {
        assert!(settlements.note(&ChainEvent::SettlementFailed { settlement: 5, spent }).is_err());
    }
    settlements.note(&ChainEvent::SettlementFailed { settlement: 5, spent: 1 }).unwrap();
    // Owed again, but that output is gone.
    assert_eq!(payable(&owed, settlements.locked()), owed);
    assert_eq!(proposed(&owed, &[reserve(1, 10_000)], &settlements), None);
    // Of two that the next one spends, the second is there yet when it fails.
    let owed = credits(&[(1, 10_000), (2, 9_000)]);
    let both = [reserve(2, 10_000), reserve(3, 9_000)];
    let second = settlement(proposed(&owed, &both, &settlements).unwrap(), 0);
    settlements.begin(9, &second, Some(&params)).unwrap();
    settlements.note(&ChainEvent::SettlementFailed { settlement: 9, spent: 0b01 }).unwrap();
    assert_eq!(proposed(&owed, &both, &settlements).unwrap().reserve, [reserve(3, 9_000)]);
}

type Bent = &'static dyn Fn(&mut Settlement);

#[test]
fn what_is_wrong_in_itself_is_not_taken() {
    let owed = credits(&[(1, 10_000), (2, 20_000)]);
    let good = settlement(proposed(&owed, &[reserve(1, 31_000)], &Settlements::default()).unwrap(), 600);
    let taken = |bend: &dyn Fn(&mut Settlement)| {
        let mut settlement = good.clone();
        bend(&mut settlement);
        Settlements::default().check_next(&settlement, Some(&params()))
    };
    assert_eq!(taken(&|_| {}), Ok(()));
    let wrong: [(Bent, &str); 9] = [
        (&|one| one.fee += 1, "a settlement's fee is more than the rules allow"),
        (&|one| one.credits.reverse(), "the credits of a settlement are not in script order"),
        (&|one| one.credits[0].1 = 4_999, "a settlement pays a credit that is too small"),
        (&|one| one.credits[0].1 = 11_001, "a settlement pays more than it spends"),
        (&|one| one.credits[0].1 = 10_999, "a settlement leaves an output that is too small"),
        (&|one| one.credits[0].1 = u64::MAX, "more is settled than there is"),
        (&|one| one.reserve[0].sats = u64::MAX, "more is spent than there is"),
        (&|one| one.reserve.push(one.reserve[0]), "a settlement spends an output twice"),
        (&|one| one.credits.clear(), "a settlement of nothing, or of more than one transaction holds"),
    ];
    for (bend, words) in wrong {
        assert_eq!(taken(bend), Err(words));
    }
    assert!(Settlements::default().check_next(&good, None).is_err());
}

/// What can happen to the books.
#[derive(Debug, Clone)]
enum Step {
    /// A block leaves credits.
    Block(Vec<(u8, u64)>),
    /// One pays an old credit, out of what it has not placed.
    Pays(u8, u64),
    /// A settlement of what was owed so many steps ago.
    Settle { ago: usize, fee_part: u64 },
    /// Its transaction is in a block, or it is withdrawn.
    Ends { paid: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let credit = (1_u8..20, 1_u64..2_000_000);
    prop_oneof![
        proptest::collection::vec(credit, 1..8).prop_map(Step::Block),
        (1_u8..20, 0_u64..100_000).prop_map(|(n, more)| Step::Pays(n, more)),
        (0_usize..5, 0_u64..=100).prop_map(|(ago, fee_part)| Step::Settle { ago, fee_part }),
        any::<bool>().prop_map(|paid| Step::Ends { paid }),
    ]
}

/// The ledger as it grows: what is owed, and the reserve outputs, after each step.
struct Life {
    owed: Vec<Credits>,
    reserves: Vec<Reserve>,
    counts: Vec<usize>,
    settlements: Settlements,
}

impl Life {
    fn newest(&self) -> &Credits {
        self.owed.last().unwrap()
    }

    fn grow(&mut self, owed: Credits, put_aside: u64) {
        if put_aside > 0 {
            self.reserves.push(reserve(self.owed.len() as u32, put_aside));
        }
        self.owed.push(owed);
        self.counts.push(self.reserves.len());
    }

    fn take(&mut self, index: u64, step: Step) {
        match step {
            Step::Block(given) => {
                let mut owed = self.newest().clone();
                given.iter().for_each(|(n, sats)| *owed.entry(script(*n)).or_default() += sats);
                self.grow(owed, given.iter().map(|(_, sats)| sats).sum());
            }
            Step::Pays(n, more) => {
                let can = payable(self.newest(), self.settlements.locked());
                let sats = can.get(&script(n)).copied().unwrap_or(0);
                let mut owed = self.newest().clone();
                *owed.entry(script(n)).or_default() -= sats;
                *owed.entry(script(20)).or_default() += sats + more;
                self.grow(owed, more);
            }
            Step::Settle { ago, fee_part } => {
                let at = self.owed.len().saturating_sub(1 + ago);
                let reserves = self.reserves[..self.counts[at]].iter().copied();
                let params = params();
                let proposal = propose(
                    &self.owed[at],
                    self.newest(),
                    reserves,
                    &self.settlements,
                    &Moves::default(),
                    &params,
                );
                let Some(proposal) = proposal else { return };
                if self.settlements.open().is_some() {
                    return;
                }
                let made = settlement(proposal, 0);
                let fee = fee_max(made.total(), params.settlement_fee_bp) * fee_part / 100;
                let made = Settlement { fee, ..made };
                self.settlements.begin(index, &made, Some(&params)).unwrap();
                let transaction = made.transaction(&script(251));
                assert!(transaction.output.iter().all(|output| output.value.to_sat() >= MIN_PAYOUT_MIN));
            }
            Step::Ends { paid } => {
                let Some((settlement, made)) = self.settlements.open() else { return };
                let txid = made.settlement.transaction(&made.reserve_script).compute_txid();
                let block = BlockHash::all_zeros();
                let event = match paid {
                    true => ChainEvent::SettlementPaid { settlement, block, txid },
                    false => ChainEvent::SettlementWithdrawn { settlement },
                };
                self.settlements.note(&event).unwrap();
            }
        }
    }

    /// What can be paid and what is unspent, the open settlement taken for paid.
    fn balance(&self) -> (u64, u64) {
        let mut settlements = self.settlements.clone();
        if let Some((settlement, made)) = self.settlements.open() {
            let txid = made.settlement.transaction(&made.reserve_script).compute_txid();
            let block = BlockHash::all_zeros();
            settlements.note(&ChainEvent::SettlementPaid { settlement, block, txid }).unwrap();
        }
        let free = settlements.free(self.reserves.iter().copied()).iter().map(|reserve| reserve.sats).sum();
        (payable(self.newest(), self.settlements.locked()).values().sum(), free)
    }
}

proptest! {
    #![proptest_config(cases())]

    /// I3, I15.
    #[test]
    fn i03_i15_what_can_be_paid_is_what_is_unspent_through_any_history(steps in proptest::collection::vec(step(), 1..40)) {
        let mut life = Life {
            owed: vec![Credits::new()],
            reserves: Vec::new(),
            counts: vec![0],
            settlements: Settlements::default(),
        };
        for (index, step) in steps.into_iter().enumerate() {
            life.take(index as u64, step);
            let (owed, free) = life.balance();
            prop_assert_eq!(owed, free);
            let mut spent = BTreeSet::new();
            for made in life.settlements.all().values().filter(|made| made.state != State::Withdrawn) {
                for reserve in &made.settlement.reserve {
                    prop_assert!(spent.insert(reserve.outpoint), "spent twice");
                }
            }
        }
    }
}
