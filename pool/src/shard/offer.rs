//! The work that a shard has to give: shared jobs, or a job for each payee made when it is needed.

use crate::work::WorkSet;
use bitcoin::ScriptBuf;
use std::collections::HashMap;
use std::sync::Arc;
use stratum::class::SizeClass;
use stratum::encoded::EncodedJob;
use stratum::job::Basis;

/// Solo jobs that are kept: one for each payee and size class. The map starts over at the bound.
const SOLO_JOBS_MAX: usize = 4_096;
/// Jobs with a longer extranonce that are kept; as above.
const LONG_JOBS_MAX: usize = 4_096;

/// Current work, and the solo jobs made from it so far.
#[derive(Debug, Default)]
pub(super) struct Offer {
    work: Option<Arc<WorkSet>>,
    solo: HashMap<(ScriptBuf, SizeClass), Arc<EncodedJob>>,
    /// The same jobs with a longer extranonce: by size class, the payee of a solo job, and the bytes.
    long: HashMap<(SizeClass, Option<ScriptBuf>, usize), Arc<EncodedJob>>,
}

impl Offer {
    /// Takes other work, or none; `false` if it is what is there already.
    pub(super) fn replace(&mut self, work: Option<Arc<WorkSet>>) -> bool {
        let id = |work: &Option<Arc<WorkSet>>| work.as_ref().map(|work| work.id());
        if id(&self.work) == id(&work) {
            return false;
        }
        *self = Self { work, ..Self::default() };
        true
    }

    /// Whether each job pays its own payee alone.
    pub(super) fn is_solo(&self) -> bool {
        self.work.as_ref().is_some_and(|work| work.is_solo())
    }

    /// The job for a miner that declares a size class and does so many hashes a second, if there is work.
    pub(super) fn job(
        &mut self,
        payee: &ScriptBuf,
        class: SizeClass,
        hashes_per_s: f64,
        extranonce_bytes: usize,
    ) -> Option<Arc<EncodedJob>> {
        let job = self.usual_job(payee, class, hashes_per_s)?;
        if extranonce_bytes == job.body().coinbase.extranonce_bytes() {
            return Some(job);
        }
        if self.long.len() >= LONG_JOBS_MAX {
            self.long.clear();
        }
        let key = (job.body().class, payee_of(&job), extranonce_bytes);
        let long = self.long.entry(key).or_insert_with(|| Arc::new(job.with_extranonce(extranonce_bytes)));
        Some(long.clone())
    }

    fn usual_job(
        &mut self,
        payee: &ScriptBuf,
        class: SizeClass,
        hashes_per_s: f64,
    ) -> Option<Arc<EncodedJob>> {
        let work = self.work.as_ref()?;
        if let Some(job) = work.shared(payee, class, hashes_per_s) {
            return Some(job.clone());
        }
        if self.solo.len() >= SOLO_JOBS_MAX {
            self.solo.clear();
        }
        let job = self.solo.entry((payee.clone(), class));
        Some(job.or_insert_with_key(|(script, class)| work.solo(script, *class)).clone())
    }
}

/// Whom a job pays alone, if it does.
fn payee_of(job: &EncodedJob) -> Option<ScriptBuf> {
    match &job.body().payout.basis {
        Basis::Solo { script, .. } => Some(script.clone()),
        Basis::Window { .. } | Basis::Upstream(_) => None,
    }
}
