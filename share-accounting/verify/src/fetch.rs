//! What a server has at an address, by HTTP.

use anyhow::{Context, bail, ensure};

/// Longest answer of a server: a full bundle of the longest entries has less.
const ANSWER_BYTES_MAX: usize = 20 << 20;
const HEADERS_BYTES_MAX: usize = 64 << 10;
const PATIENCE_S: u64 = 30;

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
    let address = format!("{}/{path}", url.trim_end_matches('/'));
    let request = minreq::get(&address)
        .with_timeout(PATIENCE_S)
        .with_max_headers_size(HEADERS_BYTES_MAX)
        .with_max_status_line_length(HEADERS_BYTES_MAX);
    let mut answer = request.send_lazy().with_context(|| address.clone())?;
    match answer.status_code {
        200 => {}
        404 => return Ok(None),
        other => bail!("{address} answers {other} {}", answer.reason_phrase),
    }
    let mut bytes = Vec::new();
    for byte in answer.by_ref() {
        bytes.push(byte.with_context(|| address.clone())?.0);
        if bytes.len() > ANSWER_BYTES_MAX {
            bail!("{address} answers more than {ANSWER_BYTES_MAX} bytes");
        }
    }
    Ok(Some(bytes))
}
