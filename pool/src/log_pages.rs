//! The share log for everybody, below `/log`: c2sp.org/tlog-tiles as it is, and proofs as JSON.
//!
//! What never changes says so, so that any cache in front of the pool can carry it.

use crate::aside::{Aside, Busy};
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bitcoin::hex::DisplayHex;
use bitcoin::{Address, BlockHash, Network, ScriptBuf};
use serde::{Deserialize, Serialize};
use share_accounting::Accounting;
use share_accounting::entry::Share;
use share_accounting::publish::tiles::Place;
use share_accounting::publish::{NoAnswer, Published};
use share_accounting::tree::TreeHash;
use std::cell::OnceCell;

/// Entries that are looked through for one answer of `/log/receipts`.
const ENTRIES_MAX: u64 = 16_384;
/// Shares in one answer: the receipt of each has up to two kilobytes.
const SHARES_MAX: usize = 256;

const IMMUTABLE: &str = "public, max-age=31536000, immutable";
const ALWAYS_ASK: &str = "no-cache";

/// What the pages show; a handle.
#[derive(Debug, Clone)]
pub struct LogPages {
    /// The log.
    pub published: Published,
    /// Knows the payees.
    pub accounting: Accounting,
    /// Whose addresses are understood.
    pub network: Network,
    /// Where files are read.
    pub aside: Aside,
}

/// Why a question has no answer.
#[derive(Debug)]
enum Refusal {
    NoAnswer(NoAnswer),
    Question(&'static str),
    Busy(Busy),
}

impl From<NoAnswer> for Refusal {
    fn from(reason: NoAnswer) -> Self {
        Self::NoAnswer(reason)
    }
}

impl From<Busy> for Refusal {
    fn from(busy: Busy) -> Self {
        Self::Busy(busy)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Self::NoAnswer(reason @ NoAnswer::NotThere(_)) => (StatusCode::NOT_FOUND, reason.to_string()),
            Self::NoAnswer(reason) => (StatusCode::INTERNAL_SERVER_ERROR, reason.to_string()),
            Self::Question(wanted) => (StatusCode::BAD_REQUEST, wanted.to_owned()),
            Self::Busy(busy) => return busy.into_response(),
        };
        (status, [(header::CACHE_CONTROL, ALWAYS_ASK)], format!("{text}\n")).into_response()
    }
}

type Answer = Result<Response, Refusal>;

#[derive(Debug, Deserialize)]
struct Inclusion {
    index: u64,
    size: u64,
}

#[derive(Debug, Deserialize)]
struct Consistency {
    from: u64,
    to: u64,
}

#[derive(Debug, Deserialize)]
struct ReceiptsOf {
    payee: String,
    #[serde(default)]
    from: u64,
}

/// The pages' addresses.
pub fn routes(pages: LogPages) -> Router {
    Router::new()
        .route("/log/checkpoint", get(checkpoint))
        .route("/log/cosigned", get(cosigned))
        .route("/log/key", get(key))
        .route("/log/tile/{*place}", get(tile))
        .route("/log/inclusion", get(inclusion))
        .route("/log/consistency", get(consistency))
        .route("/log/receipt/{index}", get(receipt))
        .route("/log/payee/{index}", get(payee))
        .route("/log/share/{hash}", get(share))
        .route("/log/receipts", get(receipts))
        .with_state(pages)
}

async fn checkpoint(State(pages): State<LogPages>) -> Answer {
    let (_, note) = pages.published.checkpoint()?;
    Ok(answer("text/plain; charset=utf-8", ALWAYS_ASK, note.into()))
}

async fn cosigned(State(pages): State<LogPages>) -> Answer {
    let note =
        pages.published.cosigned().ok_or(NoAnswer::NotThere("head that enough witnesses have cosigned"))?;
    Ok(answer("text/plain; charset=utf-8", ALWAYS_ASK, note.into()))
}

async fn key(State(pages): State<LogPages>) -> Response {
    answer("text/plain; charset=utf-8", ALWAYS_ASK, format!("{}\n", pages.published.public_key()).into())
}

async fn tile(State(pages): State<LogPages>, Path(place): Path<String>) -> Answer {
    let place = Place::parse(&format!("tile/{place}")).ok_or(NoAnswer::NotThere("such file"))?;
    let bytes = pages.aside.clone().run(move || pages.published.file(&place)).await??;
    Ok(answer("application/octet-stream", IMMUTABLE, bytes))
}

async fn inclusion(State(pages): State<LogPages>, Query(asked): Query<Inclusion>) -> Answer {
    let path = pages.aside.clone().run(move || pages.published.inclusion(asked.index, asked.size)).await??;
    Ok(json(IMMUTABLE, &hex(&path)))
}

async fn consistency(State(pages): State<LogPages>, Query(asked): Query<Consistency>) -> Answer {
    let proof = pages.aside.clone().run(move || pages.published.consistency(asked.from, asked.to)).await??;
    Ok(json(IMMUTABLE, &hex(&proof)))
}

async fn receipt(State(pages): State<LogPages>, Path(index): Path<u64>) -> Answer {
    let receipt = pages.aside.clone().run(move || pages.published.receipt(index)).await??;
    Ok(json(ALWAYS_ASK, &receipt))
}

/// The entry that registers a payee index: light verifiers ask for those of the shares that they have drawn.
async fn payee(State(pages): State<LogPages>, Path(index): Path<u32>) -> Answer {
    let entry = pages.accounting.payee_entry(index).ok_or(NoAnswer::NotThere("such payee"))?;
    receipt(State(pages), Path(entry)).await
}

async fn share(State(pages): State<LogPages>, Path(hash): Path<String>) -> Answer {
    let hash: BlockHash =
        hash.parse().map_err(|_| Refusal::Question("the hash of a header is 64 hex digits"))?;
    let index = pages.published.find(&hash).ok_or(NoAnswer::NotThere(
        "share of that hash among the newest: those of /log/receipts go back to the first",
    ))?;
    receipt(State(pages), Path(index)).await
}

async fn receipts(State(pages): State<LogPages>, Query(asked): Query<ReceiptsOf>) -> Answer {
    let script = script_of(&asked.payee, pages.network)?;
    let aside = pages.aside.clone();
    let (accounting, payees) = (pages.accounting.clone(), OnceCell::new());
    // Asked once the head is known: what is under it has its payees there.
    let is_theirs =
        move |share: &Share| payees.get_or_init(|| accounting.payees_of(&script)).contains(&share.payee);
    let ask = move || pages.published.receipts(asked.from, ENTRIES_MAX, SHARES_MAX, is_theirs);
    let receipts = aside.run(ask).await??;
    Ok(json(ALWAYS_ASK, &receipts))
}

fn script_of(payee: &str, network: Network) -> Result<ScriptBuf, Refusal> {
    let address = payee.parse::<Address<_>>().ok().and_then(|address| address.require_network(network).ok());
    let address = address.ok_or(Refusal::Question("payee is an address of this pool's network"))?;
    Ok(address.script_pubkey())
}

fn hex(hashes: &[TreeHash]) -> Vec<String> {
    hashes.iter().map(|hash| hash.to_lower_hex_string()).collect()
}

fn json(caching: &str, value: &impl Serialize) -> Response {
    let text = serde_json::to_vec(value).expect("numbers, strings and lists");
    answer("application/json", caching, text)
}

fn answer(content_type: &str, caching: &str, bytes: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, caching)], bytes).into_response()
}
