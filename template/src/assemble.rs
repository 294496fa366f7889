//! From a template and a payout to the job that miners get.

use crate::coinbase::{CoinbaseError, CoinbaseStyle};
use crate::template::Template;
use std::sync::Arc;
use stratum::class::SizeClass;
use stratum::job::{JobBody, Payout, TemplateId, Transactions};

/// Builds the job that pays `payout` from a template which has room for the class
/// ([`Template::fit`]). `out_bytes` is the room that the payout was computed for.
///
/// # Errors
/// [`CoinbaseError::TooLarge`] if the payout was not cut to the class.
///
/// # Panics
/// If the payout is not exactly the template's value.
pub fn job_body(
    id: TemplateId,
    template: &Template,
    style: &CoinbaseStyle,
    class: SizeClass,
    out_bytes: u32,
    payout: Arc<Payout>,
) -> Result<JobBody, CoinbaseError> {
    let commitment = template.commitment_output();
    let coinbase = style.build(template.height(), class, &payout.outputs, &commitment, template.value())?;
    Ok(JobBody {
        template: id,
        height: template.height(),
        version: template.version(),
        prev_hash: template.prev_hash(),
        nbits: template.nbits(),
        network_target: template.target(),
        hardest_share: template.target(),
        ntime_min: template.mintime(),
        ntime: template.ntime(),
        coinbase,
        merkle_branch: template.merkle_branch().to_vec(),
        class,
        out_bytes,
        payout,
        transactions: Transactions {
            count: template.transactions().len(),
            bytes: template.transaction_bytes().clone(),
        },
    })
}
