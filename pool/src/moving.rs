//! Payees that move to another address: what they sign, and what they have signed, below `/pool/move`.
//!
//! Whoever can reach the pages may ask: only the owner of the old address can sign, an address moves once, and one
//! without a share in the log does not move, so nobody fills the log.

use crate::aside::{Aside, Busy};
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use bitcoin::base64::prelude::{BASE64_STANDARD, Engine};
use bitcoin::{Address, Network};
use serde::Deserialize;
use serde_json::json;
use share_accounting::entry::{Move, SIGNATURE_BYTES_MAX};
use share_accounting::moves::{self, Moves};
use share_accounting::{Accounting, CommitError, MovingError};
use std::time::Duration;
use tracing::info;

/// Longest request, in bytes.
const BODY_BYTES_MAX: usize = 4 << 10;
/// How long the share log may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the pages need; a handle.
#[derive(Debug, Clone)]
pub struct MovePages {
    /// Whose addresses are understood.
    pub network: Network,
    /// Logs it.
    pub accounting: Accounting,
    /// Where signatures are checked.
    pub aside: Aside,
}

#[derive(Debug, Deserialize)]
struct Wanted {
    from: String,
    to: String,
}

#[derive(Debug, Deserialize)]
struct Signed {
    from: String,
    to: String,
    signature: String,
}

/// Why nobody moves.
#[derive(Debug)]
enum Refusal {
    Question(String),
    Unavailable(CommitError),
    Busy(Busy),
}

impl From<Busy> for Refusal {
    fn from(busy: Busy) -> Self {
        Self::Busy(busy)
    }
}

impl From<MovingError> for Refusal {
    fn from(error: MovingError) -> Self {
        match error {
            MovingError::Commit(error) => Self::Unavailable(error),
            error => Self::Question(error.to_string()),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Self::Question(reason) => (StatusCode::BAD_REQUEST, reason),
            Self::Unavailable(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
            Self::Busy(busy) => return busy.into_response(),
        };
        (status, [(header::CACHE_CONTROL, "no-cache")], format!("{text}\n")).into_response()
    }
}

/// The pages' addresses.
pub fn routes(pages: MovePages) -> Router {
    Router::new()
        .route("/pool/move", get(message).post(take))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(pages)
}

/// What the owner of the old address has to sign.
async fn message(
    State(pages): State<MovePages>,
    Query(Wanted { from, to }): Query<Wanted>,
) -> Result<Response, Refusal> {
    let (from, to) = (pages.address(&from)?, pages.address(&to)?);
    let message = moves::message(&pages.accounting.log_id(), &from, &to);
    let accounting = pages.accounting.clone();
    let known = pages.aside.run(move || accounting.adjustments(PATIENCE)).await?;
    let moves = known.map_err(|_| Refusal::Unavailable(CommitError::LogUnavailable))?.moves;
    // So that nobody signs in vain.
    moves
        .check_addresses(&from.script_pubkey(), &to.script_pubkey(), pages.network)
        .map_err(MovingError::from)?;
    Ok(([(header::CACHE_CONTROL, "no-cache")], message).into_response())
}

/// Takes what was signed.
async fn take(
    State(pages): State<MovePages>,
    Json(Signed { from, to, signature }): Json<Signed>,
) -> Result<Response, Refusal> {
    let (old, new) = (pages.address(&from)?, pages.address(&to)?);
    let signature = BASE64_STANDARD.decode(signature.trim()).ok();
    let signature = signature.filter(|signature| signature.len() <= SIGNATURE_BYTES_MAX);
    let signature = signature.ok_or(Refusal::Question("the signature is no base64".to_owned()))?;
    let log_id = pages.accounting.log_id();
    let moved = Move { log_id, from: old.script_pubkey(), to: new.script_pubkey(), signature };
    let (network, accounting) = (pages.network, pages.accounting.clone());
    let logged = pages.aside.run(move || {
        // What is not signed does not come before the thread that has shares to log.
        Moves::default().check(&moved, network).map_err(MovingError::from)?;
        accounting.move_payee(moved, PATIENCE)
    });
    let entry = logged.await??;
    info!(entry, %from, %to, "a payee has moved to another address");
    Ok(Json(json!({"entry": entry})).into_response())
}

impl MovePages {
    fn address(&self, text: &str) -> Result<Address, Refusal> {
        let address = text.parse::<Address<_>>().ok();
        let address = address.and_then(|address| address.require_network(self.network).ok());
        address
            .ok_or_else(|| Refusal::Question("from and to are addresses of this pool's network".to_owned()))
    }
}
