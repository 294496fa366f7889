//! `sluice-proxy check`: do the upstreams answer, and are they who they should be?

use crate::settings::Settings;
use anyhow::bail;
use std::io::Write;
use std::time::Duration;
use stratum_net::outbound;

/// Time for one upstream.
const WITHIN: Duration = Duration::from_secs(5);

/// Prints the settings, shakes hands with each upstream, and prints what it finds.
///
/// # Errors
/// An upstream cannot be reached, or is not who it should be.
pub fn run(settings: &Settings) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{settings:#?}")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut failed = 0;
    for upstream in &settings.upstreams {
        match runtime.block_on(outbound::connect(&upstream.server, WITHIN)) {
            Ok(_) => writeln!(out, "upstream {}: answers, and its certificate is good", upstream.server)?,
            Err(error) => {
                failed += 1;
                writeln!(out, "upstream {}: {error}", upstream.server)?;
            }
        }
    }
    match failed {
        0 => Ok(()),
        _ => bail!("{failed} of {} upstreams cannot be used now", settings.upstreams.len()),
    }
}
