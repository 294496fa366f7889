//! A check by samples, for who cannot fetch a whole log: shares are drawn by the work that the log credits, so that work
//! that was never done is met as often as it counts.
//!
//! The sum of credited work stands in every share. A number below that of the last share lies in the interval of one
//! share, from the sum before it to its own; the share is found by a search over bundles (`search`), and hashed again
//! with its job and its payee. A search ends at two neighbours, one at or below the number and one above it, whatever
//! a lying log has between; so each number ends at one share, and work that is real covers no more numbers than it has
//! hashes. If one number of a hundred ends at something else, 300 drawn by chance miss it with less than 5 %.
//!
//! The log is signed before numbers are drawn, and nothing counts but what is under its head ([`signed`]).
//!
//! Not here: whether the sums go back somewhere between two bundles that were not both fetched, as they could to hide made-up
//! work; payouts, windows, what is credited twice (but among the samples), what came too late. All of that takes the
//! whole log ([`super::audit`]).

mod search;
pub mod signed;

pub use signed::{LightError, SignedLog};

use super::jobs::Jobs;
use super::lie::{Finding, Lie};
use super::shares::check_alone;
use crate::entry::{Entry, Share};
use bitcoin::{BlockHash, ScriptBuf};
use rand::Rng;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::{Debug, Display};

/// Samples that catch one part in a hundred of made-up work with 95 %.
pub const SAMPLES_DEFAULT: u32 = 300;
/// The chance to miss made-up work that [`LightReport::real_part`] is told for.
pub const MISSED: f64 = 0.05;

/// Tells the entry that registers a payee index; `None` if nobody can say. Whatever is told is looked up.
pub type Registration<'a, E> = dyn Fn(u32) -> Result<Option<u64>, E> + 'a;

/// A check under way.
pub struct Light<'a, E> {
    log: &'a SignedLog<'a, E>,
    registration: &'a Registration<'a, E>,
    /// Bundles up to the last one with a share.
    bundles: u64,
    total_work: u128,
    samples: u32,
    jobs: Jobs,
    /// Entries that were looked up as jobs.
    jobs_seen: HashSet<u64>,
    /// By payee index: the entry that registers it, and the script.
    payees: HashMap<u32, Option<(u64, ScriptBuf)>>,
    /// Shares that are to be hashed.
    shares: BTreeMap<u64, Share>,
    /// Bundles whose sums were added up.
    added_up: HashSet<u64>,
    /// The first thing that is wrong with each entry.
    wrong: BTreeMap<u64, Lie>,
}

/// What a check by samples has found.
#[derive(Debug, Clone, PartialEq)]
pub struct LightReport {
    /// Work that the log says it has credited.
    pub total_work: u128,
    /// Numbers that were drawn.
    pub samples: u32,
    /// Shares that were hashed again: those that the numbers ended at, and those that the caller held beside them.
    pub shares: u64,
    /// Shares whose payee nobody could tell, so that they could not be hashed.
    pub not_hashed: u64,
    /// Bundles whose sums of work were added up.
    pub bundles: u64,
    /// What is wrong, by entry.
    pub findings: Vec<Finding>,
}

impl LightReport {
    /// Whether nothing is wrong.
    pub fn is_honest(&self) -> bool {
        self.findings.is_empty()
    }

    /// Whether nothing is wrong, and every sample could be hashed.
    pub fn is_proven(&self) -> bool {
        self.is_honest() && self.not_hashed == 0
    }

    /// The part of the credited work that is real at least; were it less, chance would hide that with [`MISSED`] only.
    pub fn real_part(&self) -> f64 {
        // The part p that is missed by each of n numbers with (1 - p)^n.
        if self.samples == 0 { 0.0 } else { MISSED.powf(1.0 / f64::from(self.samples)) }
    }
}

/// That a share's own sum is the one before it and its work.
fn adds_up(before: u128, share: &Share) -> Result<(), Lie> {
    let sum = before.checked_add(share.credited_work().0);
    (sum == Some(share.total_work.0)).then_some(()).ok_or(Lie::Inconsistent("sum of credited work".into()))
}

impl<'a, E: Debug + Display> Light<'a, E> {
    /// Looks for the end of the credited work.
    ///
    /// # Errors
    /// The last bundles cannot be had.
    pub fn new(
        log: &'a SignedLog<'a, E>,
        registration: &'a Registration<'a, E>,
    ) -> Result<Self, LightError<E>> {
        let mut light = Self {
            log,
            registration,
            bundles: log.bundles(),
            total_work: 0,
            samples: 0,
            jobs: Jobs::default(),
            jobs_seen: HashSet::new(),
            payees: HashMap::new(),
            shares: BTreeMap::new(),
            added_up: HashSet::new(),
            wrong: BTreeMap::new(),
        };
        while light.bundles > 0 {
            if let Some((_, last)) = light.shares_of(light.bundles - 1)?.last() {
                light.total_work = last.total_work.0;
                break;
            }
            light.bundles -= 1;
        }
        Ok(light)
    }

    /// Draws numbers below the credited work, evenly; none if there is no work.
    pub fn draw(&self, samples: u32, random: &mut impl Rng) -> Vec<u128> {
        if self.total_work == 0 {
            return Vec::new();
        }
        (0..samples).map(|_| random.random_range(0..self.total_work)).collect()
    }

    /// Looks for the share at a number, and for what it takes to hash it.
    ///
    /// # Errors
    /// Something of it cannot be had, or is not under the head.
    ///
    /// # Panics
    /// If there is no such number: none was drawn.
    pub fn sample(&mut self, number: u128) -> Result<(), LightError<E>> {
        let (index, share, before) = self.search(number)?;
        self.samples += 1;
        if let Err(lie) = adds_up(before, &share) {
            self.found(index, lie);
        }
        self.hold(index, share)
    }

    /// Takes a share of the log to be hashed.
    ///
    /// # Errors
    /// As [`Light::sample`].
    pub fn hold(&mut self, index: u64, share: Share) -> Result<(), LightError<E>> {
        if share.job >= index {
            self.found(index, Lie::Inconsistent("its job comes later".into()));
            return Ok(());
        }
        if self.jobs_seen.insert(share.job)
            && let Entry::Job(job) = self.log.entry(share.job)?
            && let Err(lie) = self.jobs.add(share.job, &job)
        {
            self.found(share.job, lie);
        }
        self.look_up_payee(share.payee)?;
        self.shares.insert(index, share);
        Ok(())
    }

    fn look_up_payee(&mut self, payee: u32) -> Result<(), LightError<E>> {
        if self.payees.contains_key(&payee) {
            return Ok(());
        }
        let Some(entry) = (self.registration)(payee).map_err(LightError::Fetch)? else {
            self.payees.insert(payee, None);
            return Ok(());
        };
        match self.log.entry(entry)? {
            Entry::Payee(registered) if registered.index == payee => {
                if let Err(what) = registered.check() {
                    self.found(entry, Lie::Inconsistent(what.into()));
                }
                self.payees.insert(payee, Some((entry, registered.script)));
                Ok(())
            }
            _ => Err(LightError::Payee { payee, entry }),
        }
    }

    fn found(&mut self, index: u64, lie: Lie) {
        self.wrong.entry(index).or_insert(lie);
    }

    /// Hashes all that was taken, now that the scripts are known that another's work can be of.
    pub fn finish(mut self) -> LightReport {
        let (mut hashed, mut not_hashed) = (0, 0);
        let mut seen: HashMap<BlockHash, u64> = HashMap::new();
        for (index, share) in std::mem::take(&mut self.shares) {
            let Some((registered, script)) = self.payees.get(&share.payee).and_then(Option::as_ref) else {
                not_hashed += 1;
                continue;
            };
            hashed += 1;
            if *registered >= index {
                self.wrong.entry(index).or_insert(Lie::Inconsistent("payee is not registered".into()));
                continue;
            }
            let scripts = self.payees.values().flatten().map(|(_, script)| script);
            let lie = match check_alone(&share, script, &mut self.jobs, scripts) {
                Ok(hash) => seen.insert(hash, index).map(Lie::Twice),
                Err(lie) => Some(lie),
            };
            if let Some(lie) = lie {
                self.wrong.entry(index).or_insert(lie);
            }
        }
        LightReport {
            total_work: self.total_work,
            samples: self.samples,
            shares: hashed,
            not_hashed,
            bundles: self.added_up.len() as u64, // usize fits u64
            findings: self.wrong.into_iter().map(|(index, lie)| Finding { index, lie }).collect(),
        }
    }
}
