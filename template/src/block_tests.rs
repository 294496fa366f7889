use super::*;
use crate::assemble::job_body;
use crate::coinbase::CoinbaseStyle;
use crate::template::tests::{Tx, template_of};
use bitcoin::consensus::encode::deserialize;
use bitcoin::hashes::{Hash, sha256d};
use bitcoin::{Amount, BlockHash, ScriptBuf, TxOut};
use proptest::prelude::*;
use std::sync::Arc;
use stratum::class::SizeClass;
use stratum::extranonce::{Extranonce1, Extranonce2};
use stratum::job::{Basis, Job, Payout, Roll, TemplateId};
use stratum::payee::PayeeTag;
use stratum::pot::Pot;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn cb_05_cb_07_sb_06_another_implementation_agrees_with_every_block(
        count in prop_oneof![0_usize..10, 250_usize..260],
        extranonce: [u8; 12],
        nonce: u32,
    ) {
        let list = vec![Tx { fee: 3, sigops: 0, padding: 1, depends: vec![] }; count];
        let template = template_of(&list);
        let out = TxOut { value: Amount::from_sat(template.value()), script_pubkey: ScriptBuf::from_bytes(vec![0x51]) };
        let payout = Payout { outputs: vec![out], basis: Basis::Solo { script: ScriptBuf::new(), log_size: 0 } };
        let style = CoinbaseStyle::new(1, 2, "text").unwrap();
        let body = job_body(TemplateId(1), &template, &style, SizeClass::B755, 0, Arc::new(payout)).unwrap();
        let job = Job { body: Arc::new(body), tag: PayeeTag([1; 8]), pot: Pot::MIN, superseded_at: None };
        let roll = Roll {
            extranonce1: Extranonce1(*extranonce.first_chunk().unwrap()),
            extranonce2: Extranonce2::new(&extranonce[4..]).unwrap(),
            ntime: job.body.ntime,
            nonce,
            version: job.body.version,
        };
        let header = job.header(&roll);
        let hash = BlockHash::from_raw_hash(sha256d::Hash::hash(&header));
        let solution = Solution { body: Arc::clone(&job.body), coinbase: job.coinbase(&roll), roll, header, hash };
        // The solution alone keeps what its block needs, however old its template is (SB-06).
        drop((job, template));
        let bytes = super::bytes(&solution);
        let block: bitcoin::Block = deserialize(&bytes).unwrap();
        prop_assert_eq!(block.block_hash(), hash);
        prop_assert!(block.check_merkle_root());
        prop_assert!(block.check_witness_commitment());
        prop_assert_eq!(block.txdata.len(), count + 1);
        prop_assert_eq!(bitcoin::consensus::serialize(&block), bytes);
    }
}
