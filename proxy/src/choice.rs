//! Which upstream is mined on, which are tried, and when: pure, with time as an argument.
//!
//! Upstreams have an order, best first. The best one that is live is used. While a worse one is used the better ones are
//! tried again and again, and one that has been live for [`STABLE`] takes over; worse ones than the used are let go.
//! While none is live all are tried, the next whenever the one before it has failed or has taken [`HEAD_START`].

use std::time::{Duration, Instant};

/// How long a better upstream has to be live before it takes over from one that works.
pub const STABLE: Duration = Duration::from_secs(5 * 60);
/// What an upstream has before the next one is tried beside it.
pub const HEAD_START: Duration = Duration::from_secs(2);
/// Pause after a first failure; it doubles with each further one.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// Longest pause, before jitter.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// A connection that lasted this long starts its failures anew: a network that flaps is no reason to stay away (M19).
const GOOD: Duration = Duration::from_secs(4);

/// How it stands with one upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not tried, or let go.
    Idle,
    /// Asked for a channel and work, not there yet.
    Connecting { since: Instant },
    /// Gives work.
    Live { since: Instant },
    /// Has failed.
    Backoff { until: Instant },
}

#[derive(Debug, Clone)]
struct Upstream {
    state: State,
    /// In a row.
    failures: u32,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Do {
    /// Connect to this one.
    Connect(usize),
    /// End the connection to this one.
    LetGo(usize),
}

/// Who decides.
#[derive(Debug, Clone)]
pub struct Choice {
    upstreams: Vec<Upstream>,
    used: Option<usize>,
}

impl Choice {
    /// Nothing has been tried yet.
    pub fn new(upstreams: usize) -> Self {
        Self { upstreams: vec![Upstream { state: State::Idle, failures: 0 }; upstreams], used: None }
    }

    /// The upstream that is mined on.
    pub fn used(&self) -> Option<usize> {
        self.used
    }

    /// This one gives work from now on.
    pub fn is_live(&mut self, upstream: usize, now: Instant) {
        self.upstreams[upstream].state = State::Live { since: now };
    }

    /// This one's connection has ended or could not be made. `chance` is random, 0 to 1.
    pub fn failed(&mut self, upstream: usize, chance: f64, now: Instant) {
        let Upstream { state, failures } = &mut self.upstreams[upstream];
        let was_good =
            matches!(state, State::Live { since } if now.saturating_duration_since(*since) >= GOOD);
        if was_good {
            *failures = 0;
        }
        *failures = failures.saturating_add(1);
        let doublings = (*failures - 1).min(16);
        let pause = PAUSE_MIN.saturating_mul(1 << doublings).min(PAUSE_MAX);
        // 30 % up or down: a thousand proxies must not come back together (N18).
        *state = State::Backoff { until: now + pause.mul_f64(0.7 + 0.6 * chance.clamp(0.0, 1.0)) };
        if self.used == Some(upstream) {
            self.used = None;
            if was_good {
                self.ask_at_once(upstream, now);
            }
        }
    }

    /// Machines idle from here on: whatever pauses the others are in, each is asked once.
    fn ask_at_once(&mut self, but: usize, now: Instant) {
        for (at, Upstream { state, .. }) in self.upstreams.iter_mut().enumerate() {
            if let State::Backoff { until } = state
                && at != but
            {
                *until = now.min(*until);
            }
        }
    }

    /// Decides anew. To be called after each change and when [`Choice::deadline`] has come.
    pub fn decide(&mut self, now: Instant) -> Vec<Do> {
        self.choose(now);
        let mut todo = Vec::new();
        let wanted = self.wanted(now);
        for (at, upstream) in self.upstreams.iter_mut().enumerate() {
            let connected = matches!(upstream.state, State::Connecting { .. } | State::Live { .. });
            if at < wanted && !connected {
                if upstream.ready(now) {
                    upstream.state = State::Connecting { since: now };
                    todo.push(Do::Connect(at));
                }
            } else if at >= wanted && connected {
                upstream.state = State::Idle;
                todo.push(Do::LetGo(at));
            }
        }
        todo
    }

    /// When to decide anew if nothing happens before.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let next = |upstream: &Upstream| match upstream.state {
            State::Idle => None,
            State::Connecting { since } => Some(since + HEAD_START),
            State::Live { since } => Some(since + STABLE),
            State::Backoff { until } => Some(until),
        };
        self.upstreams.iter().filter_map(next).filter(|at| *at > now).min()
    }

    fn choose(&mut self, now: Instant) {
        let live = |at: usize| match self.upstreams[at].state {
            State::Live { since } => Some(now.saturating_duration_since(since)),
            _ => None,
        };
        self.used = match self.used.filter(|used| live(*used).is_some()) {
            Some(used) => {
                Some((0..used).find(|at| live(*at).is_some_and(|age| age >= STABLE)).unwrap_or(used))
            }
            None => (0..self.upstreams.len()).find(|at| live(*at).is_some()),
        };
    }

    /// Upstreams before this number are to be connected.
    fn wanted(&self, now: Instant) -> usize {
        if let Some(used) = self.used {
            return used + 1;
        }
        let has_had_its_start = |upstream: &Upstream| match upstream.state {
            State::Idle | State::Live { .. } => false,
            State::Connecting { since } => now.saturating_duration_since(since) >= HEAD_START,
            State::Backoff { .. } => true,
        };
        let busy = self.upstreams.iter().take_while(|upstream| has_had_its_start(upstream)).count();
        // Those further on that are under way already go on.
        let under_way = self.upstreams.iter().rposition(|upstream| upstream.state != State::Idle);
        (busy + 1).max(under_way.map_or(0, |last| last + 1)).min(self.upstreams.len())
    }
}

impl Upstream {
    fn ready(&self, now: Instant) -> bool {
        match self.state {
            State::Idle => true,
            State::Backoff { until } => now >= until,
            State::Connecting { .. } | State::Live { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_first_is_tried_first_and_the_next_beside_it_after_its_head_start() {
        let now = Instant::now();
        let mut choice = Choice::new(3);
        assert_eq!(choice.decide(now), [Do::Connect(0)]);
        assert_eq!(choice.decide(now + HEAD_START / 2), []);
        assert_eq!(choice.deadline(now), Some(now + HEAD_START));
        assert_eq!(choice.decide(now + HEAD_START), [Do::Connect(1)]);
        // A failure does not wait for a head start to pass.
        choice.failed(1, 0.5, now + HEAD_START);
        assert_eq!(choice.decide(now + HEAD_START), [Do::Connect(2)]);
        // The first one that gives work is used, and the worse ones are let go.
        choice.is_live(0, now + seconds(3));
        assert_eq!(choice.decide(now + seconds(3)), [Do::LetGo(2)]);
        assert_eq!(choice.used(), Some(0));
    }

    #[test]
    fn a_dead_upstream_is_left_at_once_for_the_best_that_is_live() {
        let now = Instant::now();
        let mut choice = Choice::new(2);
        choice.decide(now);
        choice.is_live(0, now);
        choice.decide(now);
        choice.failed(0, 0.5, now + seconds(100));
        assert_eq!(choice.decide(now + seconds(100)), [Do::Connect(1)]);
        assert_eq!(choice.used(), None);
        choice.is_live(1, now + seconds(101));
        choice.decide(now + seconds(101));
        assert_eq!(choice.used(), Some(1));
    }

    #[test]
    fn a_better_one_takes_over_only_after_five_minutes_and_flapping_starts_them_anew() {
        let now = Instant::now();
        let mut choice = Choice::new(2);
        choice.decide(now);
        choice.failed(0, 0.5, now);
        choice.decide(now);
        choice.is_live(1, now);
        choice.decide(now);
        let back = now + seconds(10);
        assert_eq!(choice.decide(back), [Do::Connect(0)]);
        choice.is_live(0, back);
        choice.decide(back + STABLE - seconds(1));
        assert_eq!(choice.used(), Some(1));
        choice.failed(0, 0.5, back + STABLE - seconds(1));
        let again = back + STABLE + seconds(60);
        assert_eq!(choice.decide(again), [Do::Connect(0)]);
        choice.is_live(0, again);
        choice.decide(again + seconds(200));
        assert_eq!(choice.used(), Some(1));
        assert_eq!(choice.deadline(again + seconds(200)), Some(again + STABLE));
        assert_eq!(choice.decide(again + STABLE), [Do::LetGo(1)]);
        assert_eq!(choice.used(), Some(0));
    }

    #[test]
    fn n18_pauses_double_up_to_a_minute_and_are_spread() {
        let now = Instant::now();
        for (failures, least_s, most_s) in [(1, 0.7, 1.3), (2, 1.4, 2.6), (4, 5.6, 10.4), (9, 42.0, 78.0)] {
            for chance in [0.0, 1.0] {
                let mut choice = Choice::new(1);
                (0..failures).for_each(|_| choice.failed(0, chance, now));
                let pause = choice.deadline(now).unwrap().duration_since(now).as_secs_f64();
                assert!(pause > least_s - 0.01 && pause < most_s + 0.01, "{failures}: {pause}");
            }
        }
        // One that has worked for a while starts anew.
        let mut choice = Choice::new(1);
        (0..9).for_each(|_| choice.failed(0, 0.0, now));
        choice.is_live(0, now);
        choice.failed(0, 0.0, now + GOOD);
        assert!(choice.deadline(now + GOOD).unwrap() < now + GOOD + PAUSE_MIN);
    }

    #[test]
    fn m19_when_the_used_one_dies_another_is_asked_at_once_whatever_its_pause() {
        let now = Instant::now();
        let mut choice = Choice::new(2);
        choice.decide(now);
        (0..9).for_each(|_| choice.failed(0, 1.0, now));
        choice.decide(now);
        choice.is_live(1, now);
        choice.decide(now);
        assert_eq!(choice.decide(now + seconds(10)), [], "it has failed often and is left alone");
        choice.failed(1, 0.5, now + seconds(10));
        assert_eq!(choice.decide(now + seconds(10)), [Do::Connect(0)]);
        // Once: its failures still count.
        choice.failed(0, 0.5, now + seconds(10));
        assert_eq!(choice.decide(now + seconds(10)), []);
        assert_eq!(choice.decide(now + seconds(12)), [Do::Connect(1)]);
    }

    #[test]
    fn n18_two_that_fail_as_soon_as_they_are_live_are_left_alone_for_longer_and_longer() {
        let mut now = Instant::now();
        let (start, mut tries, mut choice) = (now, 0, Choice::new(2));
        while now < start + seconds(60) {
            for todo in choice.decide(now) {
                if let Do::Connect(at) = todo {
                    tries += 1;
                    choice.is_live(at, now);
                    choice.decide(now);
                    choice.failed(at, 0.5, now + seconds(1));
                }
            }
            now += seconds(1);
        }
        assert!(tries <= 14, "{tries}");
    }

    #[test]
    fn m19_one_that_flaps_is_back_within_a_second_and_jitter_each_time() {
        let mut now = Instant::now();
        let mut choice = Choice::new(1);
        for _ in 0..12 {
            assert_eq!(choice.decide(now), [Do::Connect(0)]);
            choice.is_live(0, now);
            choice.decide(now);
            now += seconds(5);
            choice.failed(0, 1.0, now);
            now += PAUSE_MIN.mul_f64(1.3);
        }
    }

    proptest! {
        #[test]
        fn whatever_happens_the_used_one_is_live_and_somebody_is_tried_while_none_is(
            steps in proptest::collection::vec((0_usize..4, any::<bool>(), 0_u64..100), 1..200)
        ) {
            let mut now = Instant::now();
            let mut choice = Choice::new(4);
            let mut connected = [false; 4];
            let mut live = [false; 4];
            let decide = |choice: &mut Choice, connected: &mut [bool; 4], live: &mut [bool; 4], now| {
                for todo in choice.decide(now) {
                    match todo {
                        Do::Connect(at) => {
                            assert!(!connected[at]);
                            connected[at] = true;
                        }
                        Do::LetGo(at) => {
                            assert!(connected[at]);
                            (connected[at], live[at]) = (false, false);
                        }
                    }
                }
            };
            decide(&mut choice, &mut connected, &mut live, now);
            for (at, good, later) in steps {
                now += seconds(later);
                if connected[at] {
                    if good && !live[at] {
                        live[at] = true;
                        choice.is_live(at, now);
                    } else if !good {
                        (connected[at], live[at]) = (false, false);
                        choice.failed(at, 0.5, now);
                    }
                }
                decide(&mut choice, &mut connected, &mut live, now);
                match choice.used() {
                    Some(used) => prop_assert!(live[used]),
                    None => {
                        prop_assert!(!live.contains(&true));
                        // Somebody is tried, or will be within a minute and its jitter.
                        let soon = choice.deadline(now).is_some_and(|at| at <= now + seconds(78));
                        prop_assert!(connected.contains(&true) || soon);
                    }
                }
            }
        }
    }
}
