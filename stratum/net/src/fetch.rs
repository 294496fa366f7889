//! What others serve over plain HTTP, in one piece, within a bound of bytes and of time. Blocks: for threads that may wait.
//!
//! There is no TLS here: what is fetched is signed, and checked by whoever asks.

use minreq::Request;

/// Longest time for a question and its answer, in seconds.
const PATIENCE_S: u64 = 30;
/// Longest status line, and longest headers together, in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Why there is nothing to be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// Not an address that is understood.
    #[error("{0} is no http:// address, which is all that is understood here")]
    Address(String),
    /// No answer, or a broken one.
    #[error("{address}: {reason}")]
    Failed {
        /// What was asked.
        address: String,
        /// Why it failed.
        reason: String,
    },
    /// An answer that says no.
    #[error("{address} answers {status}: {text}")]
    Status {
        /// What was asked.
        address: String,
        /// HTTP's number for why.
        status: u16,
        /// The beginning of the answer.
        text: String,
    },
}

/// What is at an address.
///
/// # Errors
/// [`FetchError`]; also if that is more than `bytes_max`.
pub fn get(address: &str, bytes_max: usize) -> Result<Vec<u8>, FetchError> {
    match ask(minreq::get(address), address, bytes_max)? {
        (200, bytes) => Ok(bytes),
        (status, bytes) => {
            let text = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).trim().to_owned();
            Err(FetchError::Status { address: address.to_owned(), status, text })
        }
    }
}

/// What an address answers to a text: status and bytes.
///
/// # Errors
/// There is no answer, or more than `bytes_max`.
pub fn post(address: &str, text: &str, bytes_max: usize) -> Result<(u16, Vec<u8>), FetchError> {
    ask(minreq::post(address).with_body(text), address, bytes_max)
}

fn ask(request: Request, address: &str, bytes_max: usize) -> Result<(u16, Vec<u8>), FetchError> {
    if !address.starts_with("http://") {
        return Err(FetchError::Address(address.to_owned()));
    }
    let failed = |reason: String| FetchError::Failed { address: address.to_owned(), reason };
    let request = request
        .with_timeout(PATIENCE_S)
        // Whom it is sent to is the owner's business, not that of whoever answers.
        .with_follow_redirects(false)
        .with_max_headers_size(HEAD_BYTES_MAX)
        .with_max_status_line_length(HEAD_BYTES_MAX);
    let mut answer = request.send_lazy().map_err(|error| failed(error.to_string()))?;
    let mut bytes = Vec::new();
    for byte in answer.by_ref() {
        bytes.push(byte.map_err(|error| failed(error.to_string()))?.0);
        if bytes.len() > bytes_max {
            return Err(failed(format!("it answers more than {bytes_max} bytes")));
        }
    }
    Ok((u16::try_from(answer.status_code).unwrap_or(0), bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    /// Serves one answer.
    fn served(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/x", listener.local_addr().unwrap());
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            stream.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    #[test]
    fn an_answer_comes_whole_and_within_its_bound_or_not_at_all() {
        let good = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        assert_eq!(get(&served(good), 5), Ok(b"hello".to_vec()));
        let long = get(&served(good), 4).unwrap_err().to_string();
        assert!(long.ends_with("it answers more than 4 bytes"), "{long}");
        let refused = served("HTTP/1.1 503 no\r\nContent-Length: 5\r\n\r\nlater");
        let error = get(&refused, 100).unwrap_err().to_string();
        assert_eq!(error, format!("{refused} answers 503: later"));
        let address = served("HTTP/1.1 409 no\r\nContent-Length: 2\r\n\r\n17");
        assert_eq!(post(&address, "old 3\n", 100), Ok((409, b"17".to_vec())));
        let elsewhere = get("https://127.0.0.1/", 100).unwrap_err();
        assert_eq!(elsewhere, FetchError::Address("https://127.0.0.1/".to_owned()));
    }
}
