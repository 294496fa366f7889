//! Payee indexes: which number in the log stands for which script and worker.

use crate::entry::{PayeeEntry, WorkerTag};
use bitcoin::ScriptBuf;
use std::collections::HashMap;

/// Workers of one script that get an index of their own; further ones are booked to the index of
/// its first worker. Pay goes by script, so nobody loses; a flood of worker names stays bounded.
pub const WORKERS_PER_SCRIPT_MAX: u32 = 4_096;

/// All registrations so far. Scripts have numbers of their own: they are what the window counts.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Registry {
    scripts: Vec<Script>,
    numbers: HashMap<ScriptBuf, u32>,
    /// By payee index.
    payees: Vec<Registered>,
    by_worker: HashMap<WorkerTag, u32>,
}

#[derive(Debug, PartialEq)]
struct Script {
    script: ScriptBuf,
    first_payee: u32,
    workers: u32,
}

#[derive(Debug, PartialEq)]
struct Registered {
    script: u32,
    worker: WorkerTag,
    /// Where the log says so.
    entry: u64,
}

/// All 2^32 payee indexes are taken, or a registration is not of the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadIndex;

impl Registry {
    /// The payee index of a worker, if it has one.
    pub fn find(&self, worker: WorkerTag, script: &ScriptBuf) -> Option<u32> {
        if let Some(payee) = self.by_worker.get(&worker) {
            return Some(*payee);
        }
        let known = &self.scripts[*self.numbers.get(script)? as usize]; // u32 fits usize
        (known.workers >= WORKERS_PER_SCRIPT_MAX).then_some(known.first_payee)
    }

    /// The entry that registers a worker next.
    pub fn next_entry(&self, worker: WorkerTag, script: &ScriptBuf) -> Result<PayeeEntry, BadIndex> {
        let index = u32::try_from(self.payees.len()).map_err(|_| BadIndex)?;
        Ok(PayeeEntry { index, worker, script: script.clone() })
    }

    /// Takes the registration of the next index, which this entry of the log holds.
    pub fn register(&mut self, at: u64, entry: &PayeeEntry) -> Result<(), BadIndex> {
        if entry.index as usize != self.payees.len() {
            return Err(BadIndex);
        }
        let fresh = u32::try_from(self.scripts.len()).map_err(|_| BadIndex)?;
        let number = *self.numbers.entry(entry.script.clone()).or_insert(fresh);
        if number == fresh {
            self.scripts.push(Script { script: entry.script.clone(), first_payee: entry.index, workers: 0 });
        }
        self.scripts[number as usize].workers += 1;
        self.payees.push(Registered { script: number, worker: entry.worker, entry: at });
        self.by_worker.insert(entry.worker, entry.index);
        Ok(())
    }

    /// Whether a script has a payee index.
    pub fn knows(&self, script: &ScriptBuf) -> bool {
        self.numbers.contains_key(script)
    }

    /// Number of payee indexes.
    pub fn len(&self) -> usize {
        self.payees.len()
    }

    /// Takes back the registrations from `len` on: their commit failed.
    pub fn truncate(&mut self, len: usize) {
        while self.payees.len() > len {
            let Some(Registered { script: number, worker, .. }) = self.payees.pop() else { return };
            self.by_worker.remove(&worker);
            let script = &mut self.scripts[number as usize];
            script.workers -= 1;
            // Script numbers are given in order, so one without workers is the newest.
            if script.workers == 0 && number as usize + 1 == self.scripts.len() {
                let gone = self.scripts.pop().map(|script| script.script);
                gone.and_then(|script| self.numbers.remove(&script));
            }
        }
    }

    /// Script number of a payee index.
    pub fn script_number(&self, payee: u32) -> Option<u32> {
        self.payees.get(payee as usize).map(|payee| payee.script)
    }

    /// Payee indexes from one on, with their scripts and the entries that say so.
    pub fn payees_from(&self, from: usize) -> impl Iterator<Item = (u32, &ScriptBuf, u64)> {
        let payees = (0..).zip(&self.payees).skip(from);
        payees.map(|(index, payee)| (index, self.script(payee.script), payee.entry))
    }

    /// Registrations from a payee index on, with the entries of the log that hold them.
    pub fn entries_from(&self, from: usize) -> impl Iterator<Item = (u64, PayeeEntry)> {
        (0..).zip(&self.payees).skip(from).map(|(index, payee)| {
            let script = self.script(payee.script).clone();
            (payee.entry, PayeeEntry { index, worker: payee.worker, script })
        })
    }

    /// How many scripts have a number.
    pub fn scripts(&self) -> u32 {
        u32::try_from(self.scripts.len()).expect("there are at most as many as payee indexes")
    }

    /// The script behind a number.
    pub fn script(&self, number: u32) -> &ScriptBuf {
        &self.scripts[number as usize].script
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(n: u32) -> WorkerTag {
        let mut tag = [0; 16];
        tag[..4].copy_from_slice(&n.to_le_bytes());
        WorkerTag(tag)
    }

    fn script(byte: u8) -> ScriptBuf {
        ScriptBuf::from_bytes(vec![byte])
    }

    fn add(registry: &mut Registry, n: u32, to: u8) -> u32 {
        let entry = registry.next_entry(worker(n), &script(to)).unwrap();
        registry.register(0, &entry).unwrap();
        entry.index
    }

    #[test]
    fn a_flood_of_worker_names_falls_back_to_the_first() {
        let mut registry = Registry::default();
        assert_eq!(add(&mut registry, 9_999, 2), 0);
        for n in 0..WORKERS_PER_SCRIPT_MAX {
            assert_eq!(registry.find(worker(n), &script(1)), None);
            assert_eq!(add(&mut registry, n, 1), n + 1);
        }
        assert_eq!(registry.find(worker(5_000), &script(1)), Some(1));
        assert_eq!(registry.find(worker(7), &script(1)), Some(8));
        assert_eq!(registry.find(worker(5_000), &script(2)), None);
    }

    #[test]
    fn taking_back_registrations_leaves_no_trace() {
        let mut registry = Registry::default();
        add(&mut registry, 1, 1);
        let len = registry.len();
        add(&mut registry, 2, 1);
        add(&mut registry, 3, 2);
        add(&mut registry, 4, 3);
        registry.truncate(len);
        assert_eq!(registry.find(worker(3), &script(2)), None);
        assert_eq!((registry.scripts.len(), registry.numbers.len(), registry.by_worker.len()), (1, 1, 1));
        assert_eq!(add(&mut registry, 3, 2), 1);
        assert_eq!(registry.script(registry.script_number(1).unwrap()), &script(2));
    }

    #[test]
    fn a_registration_that_is_not_of_the_next_index_is_refused() {
        let mut registry = Registry::default();
        add(&mut registry, 1, 1);
        let entry = |index| PayeeEntry { index, worker: worker(1), script: script(2) };
        for index in [0, 2] {
            assert_eq!(registry.register(7, &entry(index)), Err(BadIndex), "{index}");
        }
        registry.register(7, &entry(1)).unwrap();
        assert_eq!(registry.script(registry.script_number(0).unwrap()), &script(1));
        assert_eq!(registry.payees_from(1).collect::<Vec<_>>(), [(1, &script(2), 7)]);
    }
}
