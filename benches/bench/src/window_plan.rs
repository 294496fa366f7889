//! `window_plan`: the PPLNS window of a busy pool and the payout plans that are made from it.
//!
//! 5 million shares of 10,000 payees, a hundred of them hundreds of times as large as the others. Measured: a share into the window,
//! while it fills and when for each new share an old one leaves; the weights by script, as they are taken for every
//! template; and a plan of each size class with credits of half of the payees. Beside the weights stands what they would
//! cost without the running sums: all shares counted again, from the newest back until the window is full.

use crate::measure::{Figures, Side, in_turns, thread_cpu};
use crate::report::{Report, Row, count, figure, times};
use anyhow::ensure;
use bitcoin::{Amount, ScriptBuf};
use share_accounting::payout::{self, Params, Room};
use share_accounting::window::Window;
use std::collections::{BTreeMap, HashMap};
use std::hint::black_box;
use stratum::class::SizeClass;
use stratum::pot::Pot;
use stratum::target::Work;
use template::coinbase::CoinbaseStyle;

/// The benchmark's name.
pub const NAME: &str = "window_plan";
const PEER: &str = "full rescan of 5,000,000 shares";
const PAYEES: u32 = 10_000;
const SHARES: usize = 5_000_000;
const VALUE: Amount = Amount::from_sat(312_500_000);
const HEIGHT: u32 = 900_000;

type Weights = BTreeMap<ScriptBuf, Work>;

/// Measures all of it.
///
/// # Errors
/// A sum is wrong, or a size class has no room.
pub fn run() -> anyhow::Result<Report> {
    let (scripts, shares) = (scripts(), shares(2 * SHARES));
    let size = work_of(&shares[SHARES..]);
    let mut window = Window::new(size);
    let filling = append(&mut window, &shares[..SHARES]);
    let sliding = append(&mut window, &shares[SHARES..]);
    let mut rows = vec![
        Row::new("a share into the window while it fills", "ns per share", filling),
        Row::new("a share into a full window", "ns per share", sliding),
    ];

    let weights = by_script(&scripts, window.weights());
    ensure!(weights == by_script(&scripts, rescan(&shares, size)), "a rescan finds the same weights");
    ensure!(weights.len() == PAYEES as usize, "{} payees have work in the window", weights.len());
    ensure!(weights.values().map(|work| work.0).sum::<u128>() == size.0, "the window is full");
    let figures = in_turns(vec![
        Side::new(drop_items, |items| {
            (0..*items).for_each(|_| drop(black_box(by_script(&scripts, window.weights()))));
        }),
        Side::new(drop_items, |items| {
            (0..*items).for_each(|_| drop(black_box(by_script(&scripts, rescan(&shares, size)))));
        }),
    ]);
    let ms = |figures: &Figures, side| figures.ns(side) / 1e6;
    let ratio = figures.ratio(1);
    let taken = Row::new("weights of 10,000 payees by script", "ms", ms(&figures, 0));
    rows.push(taken.beside(PEER, ms(&figures, 1), ratio).headline());

    let credits = credits(&scripts);
    let mut slowest: f64 = 0.0;
    for class in SizeClass::ALL {
        let plan = || plan(class, &weights, &credits);
        let miners = plan()?.miners;
        let figures = in_turns(vec![Side::new(drop_items, |items| {
            (0..*items).for_each(|_| drop(black_box(plan())));
        })]);
        slowest = slowest.max(ms(&figures, 0));
        let what =
            format!("plan for a coinbase of {} B, {miners} payees paid", count(class.coinbase_bytes_max()));
        let row = Row::new(what, "ms", ms(&figures, 0));
        rows.push(if class == SizeClass::B16000 { row.headline() } else { row });
    }
    let summary = format!(
        "{} ns per share, {} ms for the weights ({} a rescan), {} ms at most for a plan",
        figure(sliding),
        figure(rows[2].ours),
        times(ratio),
        figure(slowest)
    );
    Ok(Report::new(NAME, rows, summary))
}

/// Nothing is prepared but the number.
fn drop_items(items: usize) -> usize {
    items
}

/// Scripts to witness key hashes in no order, as addresses come.
fn scripts() -> Vec<ScriptBuf> {
    let script = |n: u32| {
        let hash = sha256d::sha256d(&n.to_le_bytes());
        ScriptBuf::from_bytes([&[0, 20], &hash[..20]].concat())
    };
    (0..PAYEES).map(script).collect()
}

/// Shares as they arrive: the payee drawn by a fixed rule, small numbers more often, each at its own difficulty.
fn shares(count: usize) -> Vec<(u32, Pot)> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        // A linear congruence is random enough to mix payees.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    let share = |_| {
        let range = if next() % 4 == 0 { 100 } else { PAYEES };
        let payee = u32::try_from(next() % u64::from(range)).expect("below 10,000");
        let pot = Pot::try_from(10 + i8::from(payee < 100) * 4).expect("a pot");
        (payee, pot)
    };
    (0..count).map(share).collect()
}

fn work_of(shares: &[(u32, Pot)]) -> Work {
    Work(shares.iter().map(|(_, pot)| pot.work().0).sum())
}

/// Appends shares one by one; nanoseconds for each.
fn append(window: &mut Window, shares: &[(u32, Pot)]) -> f64 {
    let before = thread_cpu();
    for &(payee, pot) in black_box(shares) {
        window.append(payee, pot);
    }
    (thread_cpu() - before).as_secs_f64() * 1e9 / shares.len() as f64
}

/// The definition of the window: back from the newest share until it is full.
fn rescan(shares: &[(u32, Pot)], size: Work) -> Vec<(u32, Work)> {
    let (mut weights, mut left) = (HashMap::<u32, u128>::new(), size.0);
    for (payee, pot) in shares.iter().rev() {
        let part = pot.work().0.min(left);
        if part == 0 {
            break;
        }
        *weights.entry(*payee).or_default() += part;
        left -= part;
    }
    weights.into_iter().map(|(payee, work)| (payee, Work(work))).collect()
}

fn by_script(scripts: &[ScriptBuf], weights: Vec<(u32, Work)>) -> Weights {
    weights.into_iter().map(|(payee, work)| (scripts[payee as usize].clone(), work)).collect()
}

/// What every second payee is owed from before, in satoshis.
fn credits(scripts: &[ScriptBuf]) -> BTreeMap<ScriptBuf, u64> {
    scripts.iter().step_by(2).zip(100..).map(|(script, sats)| (script.clone(), sats)).collect()
}

fn plan(
    class: SizeClass,
    weights: &Weights,
    credits: &BTreeMap<ScriptBuf, u64>,
) -> anyhow::Result<payout::Plan> {
    let own = |n: u8| ScriptBuf::from_bytes([&[0, 20][..], &[n; 20]].concat());
    let params = Params {
        fee_bp: 100,
        fee_script: own(250),
        donations: Vec::new(),
        min_payout: 5_000,
        reserve_script: own(251),
    };
    let style = CoinbaseStyle::new(1, 1, "/sluice/")?;
    let output = |script: &ScriptBuf| bitcoin::TxOut { value: VALUE, script_pubkey: script.clone() };
    let mut fixed = vec![output(&params.reserve_script)];
    if class.fee_inline() {
        fixed.push(output(&params.fee_script));
    }
    let room = Room::of(class, style.out_bytes(HEIGHT, class, &fixed)?);
    let plan = payout::plan(VALUE, weights, credits, &params, room);
    plan.ok_or_else(|| anyhow::anyhow!("a full window gives a plan"))
}
