//! The entries of a share log that somebody hostile has written, as `sluice-verify` reads them.
//!
//! The input is what stands in the log, entry after entry; what does not decode ends it. In front of it are rules, a
//! payee and a job that shares can refer to, so that these need not be found by chance.
#![no_main]

use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Network, ScriptBuf};
use libfuzzer_sys::fuzz_target;
use share_accounting::entry::{Entry, JobEntry, Params, PayeeEntry, PlanEntry, WorkerTag};
use share_accounting::payout;
use share_accounting::verify::audit;
use share_accounting::window::Span;
use std::convert::Infallible;
use stratum::class::SizeClass;
use stratum::job::{Coinbase, TemplateId};

fuzz_target!(|input: &[u8]| {
    let mut entries = vec![Entry::Params(params().into()), Entry::Payee(payee()), Entry::Job(job().into())];
    let mut rest = input;
    while let Ok((entry, bytes)) = Entry::decode(rest) {
        entries.push(entry);
        rest = &rest[bytes..];
    }
    let read = || Ok::<_, Infallible>((0..).zip(&entries).map(|(index, entry)| Ok((index, entry.clone()))));
    let Ok(report) = audit(Network::Regtest, None, read);
    assert!(report.entries <= entries.len() as u64);
    // The job pays nobody.
    assert!(!report.is_honest());
});

fn script(byte: u8) -> ScriptBuf {
    ScriptBuf::from_bytes([&[0, 20][..], &[byte; 20]].concat())
}

fn params() -> Params {
    let split = payout::Params {
        fee_bp: 100,
        fee_script: script(250),
        donations: Vec::new(),
        min_payout: 5_000,
        reserve_script: script(251),
    };
    Params {
        site: 0,
        span: Span::default(),
        stale_credit_ms: 0,
        split,
        settlement_fee_bp: 200,
        settlement_at_least: 5_000,
        witnesses: Default::default(),
    }
}

fn payee() -> PayeeEntry {
    PayeeEntry { index: 0, worker: WorkerTag([1; 16]), script: script(1) }
}

/// Version, one null input with a script of height, mark and extranonce, one output.
fn job() -> JobEntry {
    let script_bytes = 2 + 1 + 13 + 12;
    let mut coinbase = vec![2, 0, 0, 0, 1];
    coinbase.extend([0; 32]);
    coinbase.extend([0xff; 4]);
    coinbase.extend([script_bytes, 1, 7, 25]);
    coinbase.extend([0; 25]);
    coinbase.extend([0xff; 4]);
    coinbase.push(1);
    coinbase.extend(5_000_000_000_u64.to_le_bytes());
    coinbase.push(22);
    coinbase.extend(script(9).as_bytes());
    coinbase.extend([0; 4]);
    JobEntry {
        template: TemplateId(1),
        prev_hash: BlockHash::from_byte_array([1; 32]),
        nbits: 0x207f_ffff,
        version: 0x2000_0000,
        ntime_min: 1,
        height: 7,
        class: SizeClass::B755,
        out_bytes: 400,
        coinbase: Coinbase::new(coinbase.into(), 4 + 1 + 36 + 1 + 3),
        merkle_branch: Vec::new(),
        plan: PlanEntry::Solo { script: script(1), log_size: Some(2) },
    }
}
