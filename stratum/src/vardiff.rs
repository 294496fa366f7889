//! Which share difficulty gives a machine the wanted number of shares per minute.
//!
//! A pot is a factor of two, so the rate ends up within a factor of two of the wanted one. Arrivals
//! of shares are a Poisson process: a run of them says with what confidence the rate is too high,
//! and a silence that it is too low. Too low a pot is found out and mended within a few shares, too
//! high a one only by waiting: so we go up by what is certain and down by what is likely.
//!
//! Two measures say that the rate is too high. The window sees everything since the last change of
//! the pot, so it tells twice the rate from the wanted one; but it takes a flood 15 to 20 shares to
//! show in a full window. The last gaps see a flood at once ([`Vardiff::retarget`]).

use crate::pot::Pot;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

/// Standard deviations of certainty before the pot is raised.
const RAISE_SIGMA: f64 = 2.6;
/// Standard deviations of certainty before the pot is lowered while shares still come.
const LOWER_SIGMA: f64 = 1.8;
/// Fewest shares that can raise the pot.
const RAISE_SHARES_MIN: f64 = 3.0;
/// A silence lowers the pot once this many shares should have come.
const SILENCE: f64 = 5.5;
/// The same before the first share: a start is only a guess.
const FIRST_SILENCE: f64 = 3.0;
/// Silences in a row that lower the pot of a machine that has sent shares before: when it comes back
/// it is what it was, and must not find a pot made for a toy.
const SILENCES_MAX: u8 = 2;
/// The window is halved when this many shares should have come in it: what is older fades.
const WINDOW: f64 = 24.0;
/// Longest step down per silence, in pots.
const STEP_DOWN_MAX: i8 = 12;

/// Gaps between the last shares that are judged by themselves.
const GAPS: usize = 8;
/// Highest chance that gaps so short are luck, for a machine at [`BURST_RATE`] times the wanted rate.
const BURST_CHANCE: f64 = 1e-5;
/// What a settled machine may have for hours: a burst has to be improbable even for it.
const BURST_RATE: f64 = 2.0;
/// Pots up after a burst: as far as the first silence goes down. A network that stalled for some
/// seconds hands over its shares in one read, and nothing tells that from a flood's first shares.
const BURST_STEP: i8 = 3;

/// Measures one connection's share rate.
#[derive(Debug, Clone)]
pub struct Vardiff {
    per_second: f64,
    /// Start of the window.
    since: Instant,
    last_share: Instant,
    /// Shares in the window, as shares of the current pot.
    shares: f64,
    /// Seconds from share to share, newest first; shares of easier jobs have no place in it.
    gaps: [f32; GAPS],
    /// Where the next gap starts.
    gap_since: Instant,
    /// Silences in a row.
    silences: u8,
    seen_shares: bool,
}

impl Vardiff {
    /// Aims at a number of shares per minute; at least one in ten minutes.
    pub fn new(shares_per_minute: f64, now: Instant) -> Self {
        let per_second = per_second(shares_per_minute);
        Self {
            per_second,
            since: now,
            last_share: now,
            shares: 0.0,
            gaps: [f32::INFINITY; GAPS],
            gap_since: now,
            silences: 0,
            seen_shares: false,
        }
    }

    /// Aims at another number of shares per minute. What was measured is measured against the new aim.
    pub fn aim(&mut self, shares_per_minute: f64) {
        self.per_second = per_second(shares_per_minute);
    }

    /// Counts a share of a job with pot `of` while `current` is the connection's pot.
    ///
    /// Every share counts, the rejected ones too: a flood of them is a flood (faults M08).
    pub fn observe(&mut self, of: Pot, current: Pot, now: Instant) {
        // A late share of a harder job counts once: its luck says little about the rate.
        let harder = i32::from(of.get()) - i32::from(current.get());
        if self.silences > 0 {
            // Back after a silence that says nothing about the rate: measure from here.
            self.restart(now);
        } else {
            self.shares += f64::from(harder.min(0)).exp2();
            // One of an easier job may have been under way when the pot was raised.
            if harder >= 0 {
                self.gaps.rotate_right(1);
                self.gaps[0] = now.saturating_duration_since(self.gap_since).as_secs_f32();
                self.gap_since = now;
            }
        }
        self.last_share = now;
        self.silences = 0;
        self.seen_shares = true;
    }

    /// Whether any share was counted: then measuring knows more than any hint.
    pub fn has_seen_shares(&self) -> bool {
        self.seen_shares
    }

    /// The wanted number of shares per minute.
    pub fn shares_per_minute(&self) -> f64 {
        self.per_second * 60.0
    }

    /// What a machine does that sends the wanted number of shares of this pot.
    pub fn hashes_per_s(&self, pot: Pot) -> f64 {
        // A share of pot 0 takes 2^32 hashes.
        f64::from(i32::from(pot.get()) + 32).exp2() * self.per_second
    }

    /// Starts a new window: the pot has changed.
    pub fn restart(&mut self, now: Instant) {
        (self.since, self.last_share, self.shares) = (now, now, 0.0);
        (self.gaps, self.gap_since) = ([f32::INFINITY; GAPS], now);
    }

    /// The pot to go to, if it is not the current one.
    ///
    /// To be called after every share. A flood is met within three shares if they come 900 times as
    /// fast as wanted (180 per second where 12 per minute are wanted), within four at 150 times, five
    /// at 65 times and nine at 18 times; what is slower is left to the window. Fewer shares, or as few
    /// at a lower rate, say too little: as it is, luck raises a machine at the wanted rate less than
    /// once in a hundred hours, and one at 1.35 times that rate less than once in thirty. One share
    /// more is needed after a silence, whose end says nothing about the rate.
    pub fn retarget(&mut self, now: Instant, current: Pot, bounds: RangeInclusive<Pot>) -> Option<Pot> {
        let silent = self.deadline().is_some_and(|deadline| now >= deadline);
        let step = if silent { -self.silent_step() } else { self.step(now) };
        if step == 0 {
            return None;
        }
        self.restart(now);
        let (low, high) = bounds.into_inner();
        // The upper bound wins: it keeps shares easier than blocks.
        let next = current.saturating_add(step).max(low).min(high);
        (next != current).then_some(next)
    }

    /// When to ask [`Vardiff::retarget`] if no share comes before; `None` if that would change nothing.
    pub fn deadline(&self) -> Option<Instant> {
        let shares = if self.seen_shares { SILENCE } else { FIRST_SILENCE };
        let listening = !self.seen_shares || self.silences < SILENCES_MAX;
        listening.then(|| self.last_share + Duration::from_secs_f64(shares / self.per_second))
    }

    /// Pots down after a silence: 3, then 6, then 12, so that a start far too hard is left quickly.
    fn silent_step(&mut self) -> i8 {
        let step = (3 << self.silences.min(3)).min(STEP_DOWN_MAX);
        self.silences = self.silences.saturating_add(1);
        step
    }

    /// Pots up or down; 0 while there is no certainty.
    fn step(&mut self, now: Instant) -> i8 {
        // A millisecond at least: several shares may come in one read.
        let expected = (now.saturating_duration_since(self.since).as_secs_f64()).max(0.001) * self.per_second;
        let surely_above = count_bound(self.shares, -RAISE_SIGMA) / expected;
        if self.shares >= RAISE_SHARES_MIN && surely_above > std::f64::consts::SQRT_2 {
            return pots((self.shares - 1.0) / expected).max(1);
        }
        if self.shares >= RAISE_SHARES_MIN && self.is_burst(now) {
            return BURST_STEP;
        }
        let surely_below = count_bound(self.shares + 1.0, LOWER_SIGMA) / expected;
        // Without any share it is a silence, which has a rule of its own.
        if self.shares > 0.0 && surely_below < std::f64::consts::FRAC_1_SQRT_2 {
            return pots((self.shares + 0.5) / expected).min(-1);
        }
        if expected >= WINDOW {
            let half = now.saturating_duration_since(self.since) / 2;
            self.since += half;
            self.shares /= 2.0;
        }
        0
    }

    /// Whether the last shares came too fast for luck, however quiet it was before.
    fn is_burst(&self, now: Instant) -> bool {
        let rate = BURST_RATE * self.per_second;
        let mut expected = now.saturating_duration_since(self.gap_since).as_secs_f64() * rate;
        let mut orders = 1.0;
        self.gaps.iter().zip(1..).any(|(gap, count)| {
            expected += f64::from(*gap) * rate;
            orders *= f64::from(count);
            // So many arrivals where `expected` are: a bound of Poisson's distribution.
            count > 1 && expected.powi(count) / orders < BURST_CHANCE
        })
    }
}

/// At least one share in ten minutes.
fn per_second(shares_per_minute: f64) -> f64 {
    shares_per_minute.max(0.1) / 60.0
}

/// A ratio of rates in whole pots.
fn pots(ratio: f64) -> i8 {
    ratio.log2().round().clamp(-127.0, 127.0) as i8 // the clamp keeps it inside i8
}

/// The mean that makes a Poisson count of `count` a matter of `sigma` standard deviations
/// (Wilson and Hilferty's approximation of the gamma distribution).
fn count_bound(count: f64, sigma: f64) -> f64 {
    if count <= 0.0 {
        return 0.0;
    }
    let root = 1.0 - 1.0 / (9.0 * count) + sigma / (3.0 * count.sqrt());
    count * root.max(0.0).powi(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: f64 = 0.2; // 12 shares per minute

    fn pot(pot: i8) -> Pot {
        Pot::try_from(pot).unwrap()
    }

    fn hashes(pot: Pot) -> f64 {
        (f64::from(pot.get()) + 32.0).exp2()
    }

    /// Uniform numbers in (0, 1] from a seed (SplitMix64).
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> f64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64 + f64::EPSILON
        }
    }

    /// A machine and its vardiff in virtual time.
    struct Machine {
        random: Random,
        vardiff: Vardiff,
        pot: Pot,
        /// What the machine works on: it follows `pot` by its latency.
        mined: Pot,
        mined_until: Option<Instant>,
        latency: Duration,
        now: Instant,
        retargets: u32,
        shares: u64,
    }

    impl Machine {
        fn new(seed: u64, start: i8) -> Self {
            let now = Instant::now();
            Self {
                random: Random(seed),
                vardiff: Vardiff::new(60.0 * TARGET, now),
                pot: pot(start),
                mined: pot(start),
                mined_until: None,
                latency: Duration::from_millis(200),
                now,
                retargets: 0,
                shares: 0,
            }
        }

        /// Shares per second at the connection's pot.
        fn rate(&self, hashrate: f64) -> f64 {
            hashrate / hashes(self.pot)
        }

        fn run(&mut self, hashrate: f64, seconds: f64) {
            let end = self.now + Duration::from_secs_f64(seconds);
            while self.now < end {
                if self.mined_until.is_some_and(|until| self.now >= until) {
                    (self.mined, self.mined_until) = (self.pot, None);
                }
                // No firmware sends more than some hundred shares a second.
                let rate = (hashrate / hashes(self.mined)).min(300.0);
                let gap = if rate > 0.0 { -self.random.next().ln() / rate } else { f64::INFINITY };
                let step = 0.2;
                self.now += Duration::from_secs_f64(gap.min(step));
                if gap <= step {
                    self.shares += 1;
                    self.vardiff.observe(self.mined, self.pot, self.now);
                }
                if let Some(next) = self.vardiff.retarget(self.now, self.pot, pot(-16)..=Pot::MAX) {
                    self.pot = next;
                    self.mined_until.get_or_insert(self.now + self.latency);
                    self.retargets += 1;
                }
            }
        }
    }

    #[test]
    fn a_lower_aim_raises_the_pot_of_a_machine_that_was_settled() {
        let hashrate = 1e12;
        for seed in 0..20 {
            let mut machine = Machine::new(seed, 0);
            machine.run(hashrate, 3_600.0);
            let before = machine.rate(hashrate) / TARGET;
            assert!((0.25..=4.0).contains(&before), "seed {seed}: {before}");
            machine.vardiff.aim(60.0 * TARGET / 16.0);
            machine.run(hashrate, 3.0 * 3_600.0);
            let after = machine.rate(hashrate) / (TARGET / 16.0);
            assert!((0.25..=4.0).contains(&after), "seed {seed}: {after}");
        }
    }

    const SEEDS: u64 = 40;

    /// How many of the seeds end within a factor `within` of the wanted rate.
    fn settled(start: i8, phases: &[(f64, f64)], within: f64) -> u64 {
        let ends_well = |seed: &u64| {
            let mut machine = Machine::new(*seed, start);
            phases.iter().for_each(|(hashrate, seconds)| machine.run(*hashrate, *seconds));
            let ratio = machine.rate(phases[phases.len() - 1].0) / TARGET;
            (1.0 / within..=within).contains(&ratio)
        };
        (0..SEEDS).filter(ends_well).count() as u64
    }

    /// The hashrate that gives the wanted share rate at a pot.
    fn made_for(pot_number: i8) -> f64 {
        TARGET * hashes(pot(pot_number))
    }

    #[test]
    fn m08_any_start_reaches_the_wanted_rate_within_a_minute() {
        for (hashrate, start) in [(1e12, 13), (1e14, 13), (1e14, -16), (1e12, 0), (1e12, 7), (1e12, 20)] {
            assert!(settled(start, &[(hashrate, 60.0)], 2.9) * 10 >= SEEDS * 9, "{hashrate:e} from {start}");
            assert!(settled(start, &[(hashrate, 180.0)], 2.3) * 10 >= SEEDS * 9, "{hashrate:e} from {start}");
        }
    }

    #[test]
    fn m08_steps_up_and_down_are_followed_within_a_minute() {
        let before = made_for(7);
        for factor in [64.0, 16.0, 4.0, 1.0 / 4.0, 1.0 / 16.0] {
            let phases = [(before, 600.0), (before * factor, 60.0)];
            assert!(settled(7, &phases, 2.9) * 10 >= SEEDS * 7, "factor {factor}");
            let phases = [(before, 600.0), (before * factor, 150.0)];
            assert!(settled(7, &phases, 2.9) * 10 >= SEEDS * 9, "factor {factor}");
        }
    }

    #[test]
    fn m08_a_ramp_is_followed() {
        let ramp: Vec<_> =
            (0..60).map(|minute| (made_for(3) * (f64::from(minute) / 6.0).exp2(), 60.0)).collect();
        assert!(settled(3, &ramp, 2.9) * 10 >= SEEDS * 9);
    }

    #[test]
    fn m08_a_steady_machine_is_left_alone() {
        for offset in [0.75, 1.0, 1.35] {
            let retargets = |seed| {
                let mut machine = Machine::new(seed, 7);
                machine.run(made_for(7) * offset, 3600.0);
                machine.retargets
            };
            let sum: u32 = (0..SEEDS).map(retargets).sum();
            // A false alarm costs two: there and back.
            assert!(f64::from(sum) / SEEDS as f64 <= 8.0, "{sum} in {SEEDS} hours at {offset}");
        }
    }

    #[test]
    fn m08_a_machine_that_comes_and_goes_does_not_flood() {
        for seed in 0..SEEDS {
            let mut machine = Machine::new(seed, 7);
            let mut on = 0.0;
            for _ in 0..20 {
                machine.run(made_for(7), 120.0);
                machine.run(0.0, 240.0);
                on += 120.0;
            }
            assert!((machine.shares as f64) < 4.0 * TARGET * on, "{} shares", machine.shares);
        }
    }

    #[test]
    fn m08_a_hopper_between_rates_stays_near_the_wanted_rate() {
        for seed in 0..SEEDS {
            let mut machine = Machine::new(seed, 7);
            for _ in 0..30 {
                machine.run(made_for(7), 30.0);
                machine.run(made_for(10), 30.0);
            }
            assert!((machine.shares as f64) < 4.0 * TARGET * 1800.0, "{} shares", machine.shares);
        }
    }

    /// How many shares, one every `gap_ms`, raise the pot, and to which one.
    fn shares_until_raised(vardiff: &mut Vardiff, mut now: Instant, gap_ms: u64) -> (u32, Pot) {
        let raised = (1..=40).find_map(|share| {
            now += Duration::from_millis(gap_ms);
            vardiff.observe(pot(0), pot(0), now);
            vardiff.retarget(now, pot(0), Pot::MIN..=Pot::MAX).map(|raised| (share, raised))
        });
        raised.unwrap()
    }

    #[test]
    fn m08_a_flood_on_a_fresh_connection_is_met_in_full_within_three_shares() {
        let start = Instant::now();
        let (shares, raised) = shares_until_raised(&mut Vardiff::new(12.0, start), start, 1);
        assert!(shares <= 3 && raised >= pot(8), "{raised:?} after {shares}");
    }

    #[test]
    fn m08_a_flood_after_hours_of_the_wanted_rate_is_met_within_a_few_shares() {
        for (gap_ms, most) in [(0, 3), (5, 3), (32, 4), (77, 5), (278, 9)] {
            let mut now = Instant::now();
            let mut vardiff = Vardiff::new(12.0, now);
            for _ in 0..1_500 {
                now += Duration::from_secs(5);
                vardiff.observe(pot(0), pot(0), now);
                assert_eq!(vardiff.retarget(now, pot(0), Pot::MIN..=Pot::MAX), None);
            }
            // The flood's first share comes at any time.
            now += Duration::from_secs(3);
            let (shares, raised) = shares_until_raised(&mut vardiff, now, gap_ms);
            assert!(shares <= most && raised >= pot(3), "{gap_ms} ms: {raised:?} after {shares}");
        }
    }

    #[test]
    fn m08_luck_is_no_flood() {
        // The edges of where a settled machine is left.
        for (offset, wanted) in [(0.75, 12.0), (1.0, 1.0), (1.35, 12.0)] {
            let mut random = Random(1);
            let mut now = Instant::now();
            let mut vardiff = Vardiff::new(wanted, now);
            let (mut bursts, hours) = (0, 1_000.0);
            for _ in 0..(hours * 60.0 * wanted * offset) as u64 {
                now += Duration::from_secs_f64(-random.next().ln() * 60.0 / wanted / offset);
                vardiff.observe(pot(0), pot(0), now);
                if vardiff.is_burst(now) {
                    bursts += 1;
                    vardiff.restart(now);
                }
            }
            assert!(f64::from(bursts) <= hours / 30.0, "{bursts} in {hours} hours at {offset}");
        }
    }

    #[test]
    fn m08_a_stalled_network_costs_three_pots_that_the_next_silence_gives_back() {
        let mut now = Instant::now();
        let mut vardiff = Vardiff::new(12.0, now);
        for _ in 0..100 {
            now += Duration::from_secs(5);
            vardiff.observe(pot(0), pot(0), now);
        }
        now += Duration::from_secs(20);
        let mut current = pot(0);
        for _ in 0..6 {
            vardiff.observe(pot(0), current, now);
            current = vardiff.retarget(now, current, Pot::MIN..=Pot::MAX).unwrap_or(current);
        }
        assert_eq!(current, pot(BURST_STEP));
        let silence = vardiff.deadline().unwrap();
        assert_eq!(vardiff.retarget(silence, current, Pot::MIN..=Pot::MAX), Some(pot(0)));
    }

    #[test]
    fn m08_a_settled_machine_that_floods_gets_few_shares_out() {
        for seed in 0..SEEDS {
            let mut machine = Machine::new(seed, 7);
            machine.run(made_for(7), 600.0);
            let before = machine.shares;
            machine.run(made_for(7) * 1_000.0, 60.0);
            // Four times the wanted ones, and what is under way while the pot goes up twice.
            let most = (4.0 * 60.0 + 2.0 * 0.2 * 1_000.0) * TARGET;
            assert!(((machine.shares - before) as f64) < most, "seed {seed}: {}", machine.shares - before);
        }
    }

    #[test]
    fn m07_shares_in_flight_at_the_old_pot_do_not_raise_twice() {
        let start = Instant::now();
        let mut vardiff = Vardiff::new(12.0, start);
        for _ in 0..4 {
            vardiff.observe(pot(0), pot(0), start);
        }
        let raised = vardiff.retarget(start, pot(0), Pot::MIN..=Pot::MAX).unwrap();
        for _ in 0..200 {
            vardiff.observe(pot(0), raised, start);
            assert_eq!(vardiff.retarget(start, raised, Pot::MIN..=Pot::MAX), None);
        }
    }

    #[test]
    fn bounds_hold_and_the_upper_one_wins() {
        let start = Instant::now();
        let mut vardiff = Vardiff::new(12.0, start);
        for _ in 0..50 {
            vardiff.observe(pot(0), pot(0), start);
        }
        assert_eq!(vardiff.retarget(start, pot(0), pot(-5)..=pot(2)), Some(pot(2)));
        let late = start + Duration::from_secs(600);
        assert_eq!(vardiff.retarget(late, pot(2), pot(1)..=pot(9)), Some(pot(1)));
        for _ in 0..50 {
            vardiff.observe(pot(1), pot(1), late);
        }
        assert_eq!(vardiff.retarget(late, pot(1), pot(3)..=pot(-3)), Some(pot(-3)));
    }

    #[test]
    fn m08_silence_lowers_a_known_machine_twice_and_then_waits() {
        let start = Instant::now();
        let mut vardiff = Vardiff::new(12.0, start);
        vardiff.observe(pot(20), pot(20), start);
        let mut current = pot(20);
        let mut changes = Vec::new();
        while let Some(deadline) = vardiff.deadline() {
            current = vardiff.retarget(deadline, current, Pot::MIN..=Pot::MAX).unwrap();
            changes.push(current.get());
        }
        assert_eq!(changes, [17, 11]);
    }

    #[test]
    fn d06_a_clock_that_stands_still_or_leaps_is_no_panic() {
        let start = Instant::now();
        let mut vardiff = Vardiff::new(f64::NAN, start + Duration::from_secs(100));
        vardiff.observe(Pot::MAX, Pot::MIN, start);
        for seconds in [0, 1, 86_400 * 365] {
            vardiff.retarget(start + Duration::from_secs(seconds), Pot::MAX, Pot::MIN..=Pot::MAX);
        }
    }
}
