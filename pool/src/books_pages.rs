//! What the pool pays and owes, as JSON below `/pool`: for people who look. Who wants to be sure recomputes it from
//! `/log`.

use crate::aside::Aside;
use crate::work::Current;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bitcoin::hex::DisplayHex;
use bitcoin::{Address, Amount, Network, Script};
use serde_json::{Map, Value, json};
use share_accounting::ledger::Ledger;
use share_accounting::settlement;
use share_accounting::{Accounting, Adjustments};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use stratum::class::SizeClass;
use stratum::job::Basis;
use stratum::target::Target;
use tokio::sync::watch;

/// Newest blocks that are shown.
const BLOCKS_MAX: u32 = 100;
/// Newest settlements that are shown.
const SETTLEMENTS_MAX: usize = 10;
/// The accounting thread is asked once in this time, however many look at the pages: it has shares to log.
const KEPT_FOR: Duration = Duration::from_secs(5);
/// How long the accounting thread may take for it.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the pages show; a handle.
#[derive(Debug, Clone)]
pub struct BooksPages(Arc<Shown>);

#[derive(Debug)]
struct Shown {
    network: Network,
    current: watch::Receiver<Current>,
    accounting: Accounting,
    /// A connection of its own: the director is not waited for.
    ledger: Mutex<Ledger>,
    window: Kept<Value>,
    adjustments: Kept<Adjustments>,
    aside: Aside,
}

/// The last answer, for a while.
#[derive(Debug)]
struct Kept<T>(Mutex<Option<(Instant, Result<T, Unavailable>)>>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Clone> Kept<T> {
    fn or(&self, ask: impl FnOnce() -> Result<T, Unavailable>) -> Result<T, Unavailable> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, value)) = kept.as_ref().filter(|(since, _)| since.elapsed() < KEPT_FOR) {
            return value.clone();
        }
        let value = ask();
        *kept = Some((Instant::now(), value.clone()));
        value
    }
}

/// There is nothing to show at the moment.
#[derive(Debug, Clone)]
struct Unavailable(String);

impl IntoResponse for Unavailable {
    fn into_response(self) -> Response {
        (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", self.0)).into_response()
    }
}

impl BooksPages {
    /// Pages over these books.
    pub fn new(
        network: Network,
        current: watch::Receiver<Current>,
        accounting: Accounting,
        ledger: Ledger,
        aside: Aside,
    ) -> Self {
        let (ledger, window, adjustments) = (Mutex::new(ledger), Kept::default(), Kept::default());
        Self(Arc::new(Shown { network, current, accounting, ledger, window, adjustments, aside }))
    }

    /// The pages' addresses.
    pub fn routes(self) -> Router {
        Router::new()
            .route("/pool/plan", get(|State(pages): State<Self>| pages.answer(Shown::plan)))
            .route("/pool/window", get(|State(pages): State<Self>| pages.answer(Shown::window)))
            .route("/pool/ledger", get(|State(pages): State<Self>| pages.answer(Shown::ledger)))
            .route("/pool/blocks", get(|State(pages): State<Self>| pages.answer(Shown::blocks)))
            .route("/pool/settlements", get(|State(pages): State<Self>| pages.answer(Shown::settlements)))
            .with_state(self)
    }

    /// Asks beside the runtime, which has miners to accept.
    async fn answer(self, page: fn(&Shown) -> Result<Value, Unavailable>) -> Result<Response, Response> {
        let aside = self.0.aside.clone();
        let asked = aside.run(move || page(&self.0)).await.map_err(IntoResponse::into_response)?;
        let value = asked.map_err(IntoResponse::into_response)?;
        let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-cache")];
        Ok((headers, format!("{value:#}\n")).into_response())
    }
}

impl Shown {
    /// What the largest coinbase pays if the next block is found now.
    fn plan(&self) -> Result<Value, Unavailable> {
        let work = self.current.borrow().work.clone();
        let work = work.ok_or_else(|| Unavailable("there is no work at the moment".to_owned()))?;
        let job = work.sample(SizeClass::B16000);
        let payout = &job.body().payout;
        let basis = match &payout.basis {
            Basis::Window { log_size, ledger_block, .. } => {
                json!({"of": "window", "log_size": log_size, "ledger_block": ledger_block.to_string()})
            }
            Basis::Solo { log_size, .. } => json!({"of": "finder", "log_size": log_size}),
            Basis::Upstream(_) => unreachable!("a pool has no upstream"),
        };
        let outputs = payout.outputs.iter().map(|output| self.line(&output.script_pubkey, output.value));
        // The smaller a coinbase, the more of the reward is owed instead of paid.
        let ratios =
            SizeClass::ALL.iter().map(|class| (class.to_string(), work.reserve_ratio(*class).into()));
        let outputs: Vec<_> = if work.is_solo() { Vec::new() } else { outputs.collect() };
        Ok(json!({
            "height": work.height(),
            "prev_hash": work.prev_hash().to_string(),
            "value_sats": payout.value().to_sat(),
            "basis": basis,
            "outputs": outputs,
            "reserve_ratios": ratios.collect::<Map<_, _>>(),
        }))
    }

    /// Who has worked how much within the window.
    fn window(&self) -> Result<Value, Unavailable> {
        self.window.or(|| self.newest_window())
    }

    fn newest_window(&self) -> Result<Value, Unavailable> {
        let work = self.current.borrow().work.clone();
        let work = work.ok_or_else(|| Unavailable("there is no work at the moment".to_owned()))?;
        let network = Target::from_nbits(work.sample(SizeClass::B255).body().nbits);
        let network = network.map_err(|error| Unavailable(error.to_string()))?.work();
        let asked = self.accounting.ask_window(network).and_then(|answer| answer.wait(PATIENCE));
        let window = asked.map_err(|error| Unavailable(error.to_string()))?;
        let payee = |(script, work): (&bitcoin::ScriptBuf, &stratum::target::Work)| json!({"address": self.address(script), "script": script.to_hex_string(), "work": work.to_string()});
        Ok(json!({
            "log_size": window.log_size,
            "log_root": window.log_root.to_lower_hex_string(),
            "window_work": window.window.to_string(),
            "work": window.total.to_string(),
            "payees": window.weights.iter().map(payee).collect::<Value>(),
        }))
    }

    fn adjustments(&self) -> Result<Adjustments, Unavailable> {
        let ask = || self.accounting.adjustments(PATIENCE).map_err(|error| Unavailable(error.to_string()));
        self.adjustments.or(ask)
    }

    /// What has been paid from the reserve, and what is about to be.
    fn settlements(&self) -> Result<Value, Unavailable> {
        let made = self.adjustments()?.settlements;
        let older = made.all().len().saturating_sub(SETTLEMENTS_MAX);
        let shown = made.all().iter().skip(older).map(|(index, made)| {
            let transaction = made.settlement.transaction(&made.reserve_script);
            let outputs =
                transaction.output.iter().map(|output| self.line(&output.script_pubkey, output.value));
            let seen_in = made.seen_in.last().map(|(block, txid)| (block.to_string(), txid.to_string()));
            let (block, txid) = seen_in.unzip();
            json!({
                "index": index,
                "state": made.state.label(),
                "block": block,
                "txid": txid,
                "credits_sats": made.settlement.total(),
                "fee_sats": made.settlement.fee,
                "outputs": outputs.collect::<Value>(),
            })
        });
        Ok(shown.collect())
    }

    /// What is owed behind the newest block, and in no settlement.
    fn ledger(&self) -> Result<Value, Unavailable> {
        let Adjustments { settlements, moves } = self.adjustments()?;
        let ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let credits = ledger.credits(u32::MAX, &moves);
        let credits = credits.map_err(|error| Unavailable(error.to_string()))?;
        let owed = settlement::payable(&credits.by_script, &moves.credits(settlements.locked()));
        let lines = owed.iter().map(|(script, sats)| self.line(script, Amount::from_sat(*sats)));
        Ok(json!({
            "block": credits.block.to_string(),
            "owed_sats": owed.values().sum::<u64>(),
            "credits": lines.collect::<Value>(),
        }))
    }

    /// The pool's newest blocks.
    fn blocks(&self) -> Result<Value, Unavailable> {
        let blocks = self.ledger.lock().unwrap_or_else(PoisonError::into_inner).recent_blocks(BLOCKS_MAX);
        let blocks = blocks.map_err(|error| Unavailable(error.to_string()))?;
        let shown = blocks.iter().map(|(block, state)| {
            let outputs = block.outputs.iter().map(|output| self.line(&output.script_pubkey, output.value));
            let changes = block.credit_delta.iter().map(
                |(script, sats)| json!({"address": self.address(script), "script": script.to_hex_string(), "sats": sats}),
            );
            json!({
                "hash": block.hash.to_string(),
                "height": block.height,
                "state": state.label(),
                "found_unix_ms": block.found_unix_ms,
                "value_sats": block.value().to_sat(),
                "reserve_sats": block.reserve.to_sat(),
                "outputs": outputs.collect::<Value>(),
                "credit_changes": changes.collect::<Value>(),
            })
        });
        Ok(shown.collect())
    }

    fn line(&self, script: &Script, value: Amount) -> Value {
        json!({"address": self.address(script), "script": script.to_hex_string(), "sats": value.to_sat()})
    }

    /// Null if there is none, as for the commitment.
    fn address(&self, script: &Script) -> Option<String> {
        Address::from_script(script, self.network).ok().map(|address| address.to_string())
    }
}
