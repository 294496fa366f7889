//! Timing. The machine is shared and its clock is not steady: what is compared is measured in turns, in short rounds,
//! by the CPU time of the thread, and medians are taken.

use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// CPU time that the slowest side gets in a round.
const ROUND: Duration = Duration::from_millis(5);
/// Rounds whose figures count; odd, so that there is a middle one.
const ROUNDS: usize = 41;
/// Rounds before them: caches, branch predictors and hash sets are then as they will be.
const WARM_UP_ROUNDS: usize = 5;
/// Items of a round, however quick they are: they are prepared first and stay in memory.
const ITEMS_MAX: usize = 1 << 16;

/// CPU time of this thread so far.
pub fn thread_cpu() -> Duration {
    cpu(ClockId::ThreadCPUTime)
}

/// CPU time of all threads of this process so far.
pub fn process_cpu() -> Duration {
    cpu(ClockId::ProcessCPUTime)
}

fn cpu(clock: ClockId) -> Duration {
    Duration::try_from(clock_gettime(clock)).expect("CPU time is never negative")
}

/// One of the things that are measured in turns.
pub struct Side<'a>(Box<dyn FnMut(usize) -> Duration + 'a>);

impl<'a> Side<'a> {
    /// Measures `run`, which is given what `prepare` made for so many items.
    pub fn new<T>(mut prepare: impl FnMut(usize) -> T + 'a, mut run: impl FnMut(&mut T) + 'a) -> Self {
        Self(Box::new(move |items| {
            let mut prepared = prepare(items);
            let before = thread_cpu();
            run(&mut prepared);
            thread_cpu() - before
        }))
    }

    /// What measures itself, by [`thread_cpu`]: returns what so many items took.
    pub fn timing_itself(run: impl FnMut(usize) -> Duration + 'a) -> Self {
        Self(Box::new(run))
    }

    /// Items that fill a round.
    fn calibrate(&mut self) -> usize {
        let mut items = 1;
        loop {
            let took = (self.0)(items);
            if took >= ROUND / 2 || items >= ITEMS_MAX {
                let fitting = items as f64 * ROUND.as_secs_f64() / took.as_secs_f64();
                return (fitting as usize).clamp(1, ITEMS_MAX); // saturates
            }
            items = (2 * items).min(ITEMS_MAX);
        }
    }
}

/// What some sides took, by side and round, in nanoseconds per item.
#[derive(Debug)]
pub struct Figures(Vec<Vec<f64>>);

impl Figures {
    /// Median of a side.
    pub fn ns(&self, side: usize) -> f64 {
        median(self.0[side].clone())
    }

    /// How many times as long as the first side this one takes: see [`Figures::ratio_to`].
    pub fn ratio(&self, side: usize) -> f64 {
        self.ratio_to(0, side)
    }

    /// How many times as long as `base` the other side takes: the median over pairs of neighbouring rounds.
    pub fn ratio_to(&self, base: usize, side: usize) -> f64 {
        median(self.0[side].iter().zip(&self.0[base]).map(|(other, base)| other / base).collect())
    }
}

/// Measures the sides in turns. All get the same number of items: what they keep of earlier ones has the same size then.
///
/// # Panics
/// If there is no side.
pub fn in_turns(mut sides: Vec<Side<'_>>) -> Figures {
    let items = sides.iter_mut().map(Side::calibrate).min().expect("something is to be measured");
    let mut figures = vec![Vec::with_capacity(ROUNDS); sides.len()];
    for round in 0..WARM_UP_ROUNDS + ROUNDS {
        // There and back: what drifts during a round then favours nobody.
        let mut order: Vec<usize> = (0..sides.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for side in order {
            let took = (sides[side].0)(items);
            if round >= WARM_UP_ROUNDS {
                figures[side].push(took.as_secs_f64() * 1e9 / items as f64);
            }
        }
    }
    Figures(figures)
}

/// The middle value; of an even number the mean of the middle two.
///
/// # Panics
/// If there is none.
pub fn median(values: Vec<f64>) -> f64 {
    let middle = values.len() / 2;
    let even = values.len().is_multiple_of(2);
    let sorted = sorted(values);
    if even { (sorted[middle - 1] + sorted[middle]) / 2.0 } else { sorted[middle] }
}

/// The value that so large a part of all does not exceed.
///
/// # Panics
/// If there is none.
pub fn quantile(values: Vec<f64>, part: f64) -> f64 {
    let sorted = sorted(values);
    let at = (sorted.len() as f64 * part).ceil() as usize; // saturates
    sorted[at.clamp(1, sorted.len()) - 1]
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    assert!(!values.is_empty(), "nothing was measured");
    values.sort_by(f64::total_cmp);
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_middle_two() {
        assert_eq!(median(vec![9.0]), 9.0);
        assert_eq!(median(vec![9.0, 1.0, 3.0]), 3.0);
        assert_eq!(median(vec![9.0, 1.0, 3.0, 5.0]), 4.0);
    }

    #[test]
    fn a_quantile_is_a_value_that_was_measured() {
        let values = || (1..=100).rev().map(f64::from).collect();
        assert_eq!(quantile(values(), 0.5), 50.0);
        assert_eq!(quantile(values(), 0.99), 99.0);
        assert_eq!(quantile(values(), 1.0), 100.0);
        assert_eq!(quantile(vec![7.0], 0.01), 7.0);
    }

    #[test]
    fn ratios_are_taken_between_neighbours_not_between_medians() {
        // The machine ran at a third of its speed in the first round.
        let figures = Figures(vec![vec![300.0, 100.0, 100.0], vec![600.0, 200.0, 50.0]]);
        assert_eq!(figures.ns(1), 200.0);
        assert_eq!(figures.ratio(1), 2.0);
        assert_eq!(figures.ratio(0), 1.0);
    }

    #[test]
    fn what_takes_twice_as_long_is_seen_to() {
        let spin = |times: u32| {
            Side::new(
                |items| items,
                move |items| {
                    for _ in 0..*items * times as usize {
                        std::hint::black_box((0..500_u64).fold(7, |sum, n| std::hint::black_box(sum ^ n)));
                    }
                },
            )
        };
        let figures = in_turns(vec![spin(1), spin(2)]);
        assert!((1.7..2.3).contains(&figures.ratio(1)), "{}", figures.ratio(1));
    }
}
