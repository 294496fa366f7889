//! Shares that are judged together get the verdicts that they would get one by one.

use super::*;

/// What a verdict says, to be compared.
fn said(verdict: &Verdict) -> (Option<[u8; 80]>, Option<BlockHash>, Result<bool, Reject>) {
    let block = verdict.block.as_ref().map(|block| block.header);
    match &verdict.outcome {
        Outcome::Accepted(share) | Outcome::Stale(share) => (block, Some(share.hash()), Ok(share.credited())),
        Outcome::RefusedBlock(_, reject) | Outcome::Rejected(reject) => (block, None, Err(*reject)),
    }
}

/// Jobs whose coinbases and branches differ in length, and two whose bytes alone differ.
fn jobs() -> Vec<Job> {
    let lengths = [(0, 0), (12, 0), (12, 0), (1, 900), (3, 31_000)];
    let with = |(number, (steps, more)): (u8, (usize, usize))| {
        let mut body = sample::body(if number == 1 { REGTEST_NBITS } else { HARD_NBITS });
        body.merkle_branch = vec![[number; 32]; steps];
        let bytes = [&body.coinbase.bytes()[..], &vec![number; more]].concat();
        body.coinbase = crate::job::Coinbase::new(bytes.into(), body.coinbase.tag_offset());
        Job { body: Arc::new(body), ..job(HARD_NBITS, [-32, -32, -31][usize::from(number % 3)]) }
    };
    (0..).zip(lengths).map(with).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn shares_get_the_verdicts_together_that_they_get_alone(
        choices in proptest::collection::vec((0_usize..5, 0_u8..3, 0_u8..2, 0_u32..2, 0_u32..3), 0..60),
        portion in 1_usize..20,
    ) {
        let jobs = jobs();
        let shares: Vec<PendingShare> = choices
            .into_iter()
            .map(|(job, prefix, extranonce2, version, nonce)| {
                let roll = Roll {
                    extranonce1: Extranonce1([prefix; 4]),
                    extranonce2: Extranonce2::from([extranonce2; 8]),
                    version: 0x2000_0000 | version << 13,
                    ..roll(nonce)
                };
                pending(&jobs[job], roll, Ok(()))
            })
            .collect();
        let (mut together, mut alone) = (Court::new(), Court::new());
        let mut verdicts = Vec::new();
        for portion in shares.chunks(portion) {
            together.judge.check_all(&mut portion.to_vec(), together.now, UNIX_MS, &mut verdicts);
        }
        prop_assert_eq!(verdicts.len(), shares.len());
        for (verdict, share) in verdicts.iter().zip(shares) {
            // Nothing is at hand from the share before.
            alone.judge.forget_miner(share.roll.extranonce1);
            let expected = share.job.header(&share.roll);
            let digest = sha256d::Hash::hash(&expected).to_byte_array();
            let by_itself = alone.judge.check(share, alone.now, UNIX_MS);
            prop_assert_eq!(said(verdict), said(&by_itself));
            if let (_, Some(hash), _) = said(verdict) {
                prop_assert_eq!(hash.to_byte_array(), digest);
            }
        }
    }
}

#[test]
fn a_prefix_that_was_given_to_another_miner_brings_nothing_with_it() {
    let mut court = Court::new();
    let (first, second) = (job(HARD_NBITS, -32), jobs().remove(3));
    // Two miners one after the other, with jobs of one name.
    let same_name = |job: &Job| PendingShare::new(JobId(7), job.clone(), roll(1), sample::payee());
    let hash_of = |verdict: Verdict| said(&verdict).1.unwrap().to_byte_array();
    let digest = |job: &Job| sha256d::Hash::hash(&job.header(&roll(1))).to_byte_array();
    assert_eq!(hash_of(court.judge.check(same_name(&first), court.now, UNIX_MS)), digest(&first));
    court.judge.forget_miner(roll(1).extranonce1);
    assert_eq!(hash_of(court.judge.check(same_name(&second), court.now, UNIX_MS)), digest(&second));
}
