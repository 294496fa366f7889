//! `sluice-pool check`: would the node take a block of every coinbase size?

use crate::app;
use crate::settings::Settings;
use anyhow::Context;
use bitcoin::{Address, Amount, ScriptBuf, TxOut, WitnessProgram, WitnessVersion};
use share_accounting::payout::fixed_outputs;
use std::io::Write;
use std::sync::Arc;
use stratum::class::SizeClass;
use stratum::job::{Basis, Payout, TemplateId};
use template::assemble::job_body;
use template::bitcoind::ask;
use template::bitcoind::rpc::{Purpose, Rpc};
use template::coinbase::CoinbaseStyle;
use template::fit::CoinbaseCost;
use template::propose::{may_submit, propose};
use template::template::Template;

/// Asks every node, and prints what it finds.
///
/// # Errors
/// The first thing that would keep a block from being accepted.
pub fn run(settings: &Settings) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{settings:#?}")?;
    let params = &settings.payout.params;
    let donations = params.donations.iter().map(|donation| ("donation", &donation.script, Some(donation.bp)));
    let fee = (params.fee_bp > 0).then_some(("fee", &params.fee_script, Some(params.fee_bp)));
    for (what, script, bp) in
        fee.into_iter().chain(donations).chain([("reserve", &params.reserve_script, None)])
    {
        // The settings were addresses.
        let address = Address::from_script(script, settings.network)?;
        let part = bp.map(|bp| format!(", {bp} of 10,000 parts of each reward")).unwrap_or_default();
        writeln!(out, "{what}: {address}{part}")?;
    }
    let style = CoinbaseStyle::new(settings.site, 0, &settings.coinbase_text)?;
    for node in app::nodes(settings) {
        let address = &node.rpc.address;
        let failed = || format!("node {address}");
        let mut rpc = Rpc::new(&node.rpc, Purpose::Template);
        ask::check_chain(&mut rpc, settings.network).with_context(failed)?;
        let template = Arc::new(ask::template(&mut rpc, settings.network, None).with_context(failed)?);
        writeln!(out, "node {address}: {} at height {}", settings.network, template.height() - 1)?;
        may_submit(&mut rpc).with_context(failed)?;
        for class in SizeClass::ALL {
            let outputs = propose_class(&mut rpc, settings, &style, &template, class).with_context(failed)?;
            writeln!(out, "coinbase of up to {class} bytes, {outputs} outputs: accepted as a proposal")?;
        }
    }
    Ok(())
}

/// Proposes a coinbase as full as its class allows; gives its number of outputs.
fn propose_class(
    rpc: &mut Rpc,
    settings: &Settings,
    style: &CoinbaseStyle,
    template: &Arc<Template>,
    class: SizeClass,
) -> anyhow::Result<usize> {
    let params = &settings.payout.params;
    let template = template.fit(CoinbaseCost::largest(class));
    let mut outputs = fixed_outputs(params, class);
    let out_bytes = style.out_bytes(template.height(), class, &outputs)?;
    let miner = miner_output();
    let miners = usize::try_from(out_bytes)? / miner.size();
    outputs.splice(0..0, std::iter::repeat_n(miner, miners));
    let each = template.value() / outputs.len() as u64; // usize is at most 64 bits
    outputs.iter_mut().for_each(|output| output.value = Amount::from_sat(each));
    let placed = each * outputs.len() as u64; // likewise
    outputs[0].value += Amount::from_sat(template.value() - placed);
    let count = outputs.len();
    let payout = Arc::new(Payout { outputs, basis: Basis::Solo { script: ScriptBuf::new(), log_size: 0 } });
    let body = job_body(TemplateId(0), &template, style, class, out_bytes, payout)?;
    propose(rpc, settings.network, &Arc::new(body))?;
    Ok(count)
}

/// The smallest output an address can have, so that the most of them fit.
fn miner_output() -> TxOut {
    let program =
        WitnessProgram::new(WitnessVersion::V0, &[7; 20]).expect("20 bytes are a version 0 program");
    TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::new_witness_program(&program) }
}
