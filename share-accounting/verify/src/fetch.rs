//! What a server has at an address, by HTTP.

use anyhow::{Context, ensure};
use stratum_net::fetch::{self, FetchError};

/// Longest answer of a server: a full bundle of the longest entries has less.
const ANSWER_BYTES_MAX: usize = 20 << 20;

/// That an address can be asked.
pub fn check_address(url: &str) -> anyhow::Result<()> {
    ensure!(
        url.starts_with("http://"),
        "{url} is no http:// address, which is all that is understood here (what is fetched is signed): fetch the folder \
         with another program and leave --url out"
    );
    Ok(())
}

/// What is there.
pub fn fetch(url: &str, path: &str) -> anyhow::Result<Vec<u8>> {
    fetch_if_there(url, path)?.with_context(|| format!("{url}/{path} answers 404: there is no such thing"))
}

/// What is there; `None` if nothing is.
pub fn fetch_if_there(url: &str, path: &str) -> anyhow::Result<Option<Vec<u8>>> {
    match fetch::get(&format!("{}/{path}", url.trim_end_matches('/')), ANSWER_BYTES_MAX) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(FetchError::Status { status: 404, .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
