//! Calls to a node: the one file that knows the RPC crate.
//!
//! Each purpose has its own [`Rpc`] with its own connection and deadline, so that no call waits behind
//! another's. Calls block; the threads are the callers'.

use super::http::{Answer, Connection};
use bitcoincore_rpc::Client;
use bitcoincore_rpc::jsonrpc::client::Transport;
use bitcoincore_rpc::jsonrpc::{self, Request, Response};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

pub use super::http::Canceller;

/// Longest file of credentials that is read.
const CREDENTIALS_BYTES_MAX: usize = 4 << 10;

/// Where a node is and how to log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// `host:port` of its RPC server.
    pub address: String,
    /// File that holds `user:password`: the node's cookie file, or one written by the operator.
    ///
    /// It is read again whenever the node refuses the login: a cookie changes at each node start.
    pub credentials: PathBuf,
    /// How long each kind of call may take.
    pub timeouts: Timeouts,
}

/// How long a whole call may take, by its purpose (faults B01).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// `getbestblockhash`.
    pub tip: Duration,
    /// `getblocktemplate` that answers at once.
    pub template: Duration,
    /// `getblocktemplate` that waits for something new.
    pub long_poll: Duration,
    /// `submitblock`.
    pub submit: Duration,
    /// Anything else.
    pub other: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tip: Duration::from_secs(2),
            template: Duration::from_secs(10),
            long_poll: Duration::from_secs(900),
            submit: Duration::from_secs(30),
            other: Duration::from_secs(5),
        }
    }
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Asking for the tip.
    Tip,
    /// Asking for a template.
    Template,
    /// Waiting for a template.
    LongPoll,
    /// Handing in a block.
    Submit,
    /// Anything else.
    Other,
}

impl Timeouts {
    fn of(&self, purpose: Purpose) -> Duration {
        match purpose {
            Purpose::Tip => self.tip,
            Purpose::Template => self.template,
            Purpose::LongPoll => self.long_poll,
            Purpose::Submit => self.submit,
            Purpose::Other => self.other,
        }
    }
}

/// Why a call brought no result. Texts of the node are kept word for word.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RpcError {
    /// HTTP 401, also with the credentials read afresh.
    #[error("the node refuses our login (401): does {} belong to this node?", .0.display())]
    Unauthorized(PathBuf),
    /// HTTP 403.
    #[error(
        "the node forbids us to call it (403): add our address to its rpcallowip, or the method to its rpcwhitelist"
    )]
    Forbidden,
    /// HTTP 503: all its RPC threads are busy.
    #[error("the node's work queue is full (503): {0}")]
    WorkQueueFull(String),
    /// Another HTTP status without an RPC answer.
    #[error("the node answered HTTP {0}")]
    Http(u16),
    /// RPC −8: it does not like a parameter.
    #[error("invalid parameter (-8): {0}")]
    InvalidParameter(String),
    /// RPC −9: it has no peers.
    #[error("the node has no peers (-9): {0}")]
    NotConnected(String),
    /// RPC −10: it is still downloading the chain.
    #[error("the node is still catching up (-10): {0}")]
    InitialDownload(String),
    /// RPC −22: it could not decode what we sent.
    #[error("the node cannot decode it (-22): {0}")]
    Undecodable(String),
    /// RPC −28: it is starting.
    #[error("the node is starting (-28): {0}")]
    WarmingUp(String),
    /// Another RPC error.
    #[error("the node says ({code}): {message}")]
    Node {
        /// Its error code.
        code: i32,
        /// Its words.
        message: String,
    },
    /// No answer in time; the node may have acted all the same.
    #[error("no answer from the node in time")]
    Timeout,
    /// The connection failed; the node may have acted all the same.
    #[error("connection to the node failed: {0}")]
    Connection(String),
    /// We broke the call off.
    #[error("call was broken off")]
    Cancelled,
    /// The file of credentials cannot be used.
    #[error("cannot read {}: {reason}; is the node running, and is this its .cookie or a file with user:password?", path.display())]
    Credentials {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The answer is not what the method gives.
    #[error("cannot understand the node's answer: {0}")]
    Answer(String),
}

/// `user:password` in base64; never printed.
#[derive(Clone, PartialEq, Eq)]
struct Authorization(String);

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<hidden>")
    }
}

impl Authorization {
    fn read(path: &Path) -> Result<Self, RpcError> {
        let failed = |reason: String| RpcError::Credentials { path: path.to_owned(), reason };
        let text = std::fs::read(path).map_err(|e| failed(e.to_string()))?;
        if text.len() > CREDENTIALS_BYTES_MAX {
            return Err(failed("file is too long".into()));
        }
        let line = text.split(|&b| b == b'\n' || b == b'\r').next().unwrap_or_default();
        if !line.contains(&b':') {
            return Err(failed("its first line is not user:password".into()));
        }
        Ok(Self(format!("Basic {}", base64(line))))
    }
}

/// One connection to a node for one purpose.
#[derive(Debug)]
pub struct Rpc {
    node: Node,
    purpose: Purpose,
    canceller: Canceller,
    login: Option<(Authorization, Client)>,
}

impl Rpc {
    /// Prepares a connection; nothing is sent before the first call.
    pub fn new(node: &Node, purpose: Purpose) -> Self {
        Self { node: node.clone(), purpose, canceller: Canceller::default(), login: None }
    }

    /// Breaks calls off from other threads.
    pub fn canceller(&self) -> Canceller {
        self.canceller.clone()
    }

    /// Calls a method; `params` is a list, already in JSON.
    ///
    /// # Errors
    /// See [`RpcError`]. On 401 the credentials are read again, and the call repeated if they changed.
    pub fn call<R: DeserializeOwned>(&mut self, method: &str, params: &RawValue) -> Result<R, RpcError> {
        let (used, result) = self.try_call(method, params)?;
        if result.as_ref().err() != Some(&self.unauthorized()) {
            return result;
        }
        self.login = None;
        if Authorization::read(&self.node.credentials)? == used {
            return result;
        }
        self.try_call(method, params)?.1
    }

    /// [`Rpc::call`] with the parameters still to be put into JSON.
    ///
    /// # Errors
    /// As [`Rpc::call`].
    pub fn ask<R: DeserializeOwned>(
        &mut self,
        method: &str,
        params: &serde_json::Value,
    ) -> Result<R, RpcError> {
        let params = serde_json::value::to_raw_value(params).expect("a JSON value is JSON");
        self.call(method, &params)
    }

    fn unauthorized(&self) -> RpcError {
        RpcError::Unauthorized(self.node.credentials.clone())
    }

    /// The login that was used, and how the call went.
    fn try_call<R: DeserializeOwned>(
        &mut self,
        method: &str,
        params: &RawValue,
    ) -> Result<(Authorization, Result<R, RpcError>), RpcError> {
        let (used, client) = match self.login.take() {
            Some(login) => login,
            None => self.log_in()?,
        };
        let result = client.get_jsonrpc_client().call::<Box<RawValue>>(method, Some(params));
        let result = result.map_err(|e| self.explain(e));
        self.login = Some((used.clone(), client));
        let parsed = result.and_then(|raw| {
            serde_json::from_str(raw.get()).map_err(|e| RpcError::Answer(format!("{method}: {e}")))
        });
        Ok((used, parsed))
    }

    fn log_in(&self) -> Result<(Authorization, Client), RpcError> {
        let authorization = Authorization::read(&self.node.credentials)?;
        let timeout = self.node.timeouts.of(self.purpose);
        let connection = Connection::new(self.node.address.clone(), timeout, self.canceller.clone());
        let transport = Http { authorization: authorization.clone(), connection: Mutex::new(connection) };
        Ok((authorization, Client::from_jsonrpc(jsonrpc::Client::with_transport(transport))))
    }

    fn explain(&self, e: jsonrpc::Error) -> RpcError {
        match e {
            jsonrpc::Error::Transport(e) => match e.downcast::<Failure>() {
                Ok(failure) => self.explain_failure(*failure),
                Err(e) => RpcError::Connection(e.to_string()),
            },
            jsonrpc::Error::Rpc(e) => match e.code {
                -8 => RpcError::InvalidParameter(e.message),
                -9 => RpcError::NotConnected(e.message),
                -10 => RpcError::InitialDownload(e.message),
                -22 => RpcError::Undecodable(e.message),
                -28 => RpcError::WarmingUp(e.message),
                code => RpcError::Node { code, message: e.message },
            },
            other => RpcError::Answer(other.to_string()),
        }
    }

    fn explain_failure(&self, failure: Failure) -> RpcError {
        match failure {
            Failure::Io(_) if self.canceller.is_cancelled() => RpcError::Cancelled,
            Failure::Io(e) if matches!(e.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) => {
                RpcError::Timeout
            }
            Failure::Io(e) => RpcError::Connection(e.to_string()),
            Failure::Status(401, _) => self.unauthorized(),
            Failure::Status(403, _) => RpcError::Forbidden,
            Failure::Status(503, text) => RpcError::WorkQueueFull(text),
            Failure::Status(status, _) => RpcError::Http(status),
        }
    }
}

/// Carries the RPC crate's requests over our own connection.
struct Http {
    authorization: Authorization,
    connection: Mutex<Connection>,
}

/// Why no RPC answer came.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("HTTP status {0}: {1}")]
    Status(u16, String),
}

impl Transport for Http {
    fn send_request(&self, request: Request<'_>) -> Result<Response, jsonrpc::Error> {
        let body = serde_json::to_vec(&request)?;
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let Answer { status, body } = connection
            .post("/", &self.authorization.0, &body)
            .map_err(|e| jsonrpc::Error::Transport(Box::new(Failure::Io(e))))?;
        // An RPC error comes as status 500 or 404 with a JSON body: the body says more than the status.
        serde_json::from_slice(&body).map_err(|e| match status {
            200 => jsonrpc::Error::Json(e),
            _ => jsonrpc::Error::Transport(Box::new(Failure::Status(status, excerpt(&body)))),
        })
    }

    fn send_batch(&self, _: &[Request<'_>]) -> Result<Vec<Response>, jsonrpc::Error> {
        Err(jsonrpc::Error::EmptyBatch) // we send none
    }

    fn fmt_target(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("node")
    }
}

/// The first words of a body that is not JSON.
fn excerpt(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(200)]).trim().to_owned()
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            let six = bits >> (18 - 6 * i) & 63;
            text.push(if i <= group.len() { char::from(ALPHABET[six as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
#[path = "rpc_tests.rs"]
mod tests;
