//! The answer of `getblocktemplate`: the first byte picks the network, the rest is what the node said.
//!
//! Whatever comes, it is refused or it is a template from which a job for every size class can be built.
#![no_main]

use std::sync::Arc;

use bitcoin::{Amount, Network, ScriptBuf, TxOut};
use libfuzzer_sys::fuzz_target;
use stratum::class::SizeClass;
use template::coinbase::CoinbaseStyle;
use template::fit::CoinbaseCost;
use template::template::Template;

const NETWORKS: [Network; 4] = [Network::Bitcoin, Network::Testnet, Network::Signet, Network::Regtest];

/// Whether a template's transactions and the largest coinbase of a class are within its limits.
fn fits(template: &Template, class: SizeClass) -> bool {
    let coinbase = CoinbaseCost::largest(class);
    let transactions = template.transactions();
    // A header, the count of transactions, and the witness of the coinbase with its marker.
    let count = if transactions.len() < 0xfc { 1 } else { 3 };
    let (frame, witness) = (80 + count, 36);
    let stripped = frame + coinbase.stripped_bytes;
    let weight: u64 = transactions.iter().map(|tx| tx.weight).sum();
    let sigops: u64 = transactions.iter().map(|tx| tx.sigops).sum();
    let limits = template.limits();
    4 * stripped + witness + weight <= limits.weight
        && stripped + witness + template.transaction_bytes().len() as u64 <= limits.bytes
        && coinbase.sigops + sigops <= limits.sigops
}

fuzz_target!(|input: &[u8]| {
    let Some((first, answer)) = input.split_first() else { return };
    // Seeds are plain JSON: its brace stands for regtest and stays.
    let (network, answer) = match first {
        b'{' => (Network::Regtest, input),
        first => (NETWORKS[usize::from(*first) % NETWORKS.len()], answer),
    };
    let Ok(template) = Template::parse(answer, network) else { return };
    let template = Arc::new(template);
    let style = CoinbaseStyle::new(1, 2, "").expect("no text fits");
    for class in (0..=u8::MAX).filter_map(SizeClass::from_code) {
        let fitted = template.fit(CoinbaseCost::largest(class));
        assert!(fitted.transactions().len() <= template.transactions().len());
        assert!(fitted.value() <= template.value());
        assert!(fits(&fitted, class), "what is left fits with the largest coinbase");
        let value = Amount::from_sat(fitted.value());
        let outputs = [TxOut { value, script_pubkey: ScriptBuf::from_bytes(vec![0x51]) }];
        let coinbase = style
            .build(fitted.height(), class, &outputs, &fitted.commitment_output(), fitted.value())
            .expect("one short output fits every class");
        assert!(coinbase.bytes().len() <= class.coinbase_bytes_max());
    }
});
