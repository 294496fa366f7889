//! A settlement's transaction on its way to whoever signs it.

use bitcoin::psbt::Psbt;
use bitcoin::{Amount, OutPoint, ScriptBuf, TxOut};
use share_accounting::ledger::Ledger;
use share_accounting::settlement::{Made, Settlements};
use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::Path;

/// The transaction, and the outputs that it spends, as far as their scripts are known and have a witness: that is all
/// that a signer must know of those. Of others the reserve's wallet knows by itself.
pub(super) fn unsigned(made: &Made, settlements: &Settlements, ledger: &Ledger) -> anyhow::Result<Psbt> {
    let mut psbt = Psbt::from_unsigned_tx(made.settlement.transaction(&made.reserve_script))?;
    let mut scripts: HashMap<OutPoint, ScriptBuf> = HashMap::new();
    for block in ledger.reserves(u32::MAX)? {
        if let Some((txid, (place, output))) = block.coinbase.zip(block.reserve_output()) {
            let outpoint = OutPoint { txid, vout: u32::try_from(place)? };
            scripts.insert(outpoint, output.script_pubkey.clone());
        }
    }
    for before in settlements.all().values() {
        let rests = before.seen_in.iter().filter_map(|(_, txid)| before.settlement.rest(*txid));
        scripts.extend(rests.map(|rest| (rest.outpoint, before.reserve_script.clone())));
    }
    for (input, reserve) in psbt.inputs.iter_mut().zip(&made.settlement.reserve) {
        let script = scripts.get(&reserve.outpoint).filter(|script| script.is_witness_program());
        let value = Amount::from_sat(reserve.sats);
        input.witness_utxo = script.map(|script| TxOut { value, script_pubkey: script.clone() });
    }
    Ok(psbt)
}

/// Whole or not at all, also after a crash.
pub(super) fn write(path: &Path, psbt: &Psbt) -> std::io::Result<()> {
    let unfinished = path.with_extension("new");
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = fs::File::create(&unfinished)?;
    file.write_all(format!("{psbt}\n").as_bytes())?;
    file.sync_all()?;
    fs::rename(unfinished, path)
}
