//! Pays what is owed from the reserve, when there is enough of it and the holder of the reserve's key signs.
//!
//! 1. When credits of matured blocks sum up to the bound of the rules, a settlement is logged. From there on its
//!    credits are locked: no new job pays them.
//! 2. Six blocks above the highest work that does not know of it, jobs from before cannot become blocks any more. If none
//!    of them has paid such a credit, the transaction is written to `INDEX.psbt`, to be signed; otherwise the settlement is
//!    withdrawn.
//! 3. Signed, as `INDEX.signed.psbt`, it is sent to the node, again at each new tip until it is in a block; that is
//!    logged. It stays watched until it has 100 confirmations; then the next settlement may come.
//!
//! Should something else spend an output of it, that is an alarm: the reserve holds less than is owed. After 100
//! confirmations the credits are owed again.

mod psbt;
mod search;
mod unaware;

use self::search::{Looked, Search, Spender};
use self::unaware::{RELEASE_DEPTH, Unaware};
use crate::metrics::Metrics;
use crate::settings::{Settings, Settlement as Bounds};
use crate::work::Current;
use anyhow::{Context, bail};
use bitcoin::psbt::Psbt;
use bitcoin::{Block, BlockHash, OutPoint, ScriptBuf, Transaction};
use share_accounting::entry::{ChainEvent, Params, Reserve, Settlement};
use share_accounting::ledger::{Ledger, LedgerError, MATURITY, PoolBlock};
use share_accounting::publish::Published;
use share_accounting::settlement::{self, Made, State};
use share_accounting::{Accounting, Adjustments};
use std::fs;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};
use stratum::class::SizeClass;
use stratum::job::Basis;
use stratum_net::clock::unix_ms;
use template::bitcoind::ask;
use template::bitcoind::rpc::{Canceller, Node, Purpose, Rpc, RpcError};
use tokio::sync::watch;
use tracing::{error, info, warn};

/// How often the node is asked for its tip, and the folder for what was signed.
const EVERY: Duration = Duration::from_secs(2);
/// The same after a failure: each look may ask the node for whole blocks.
const AFTER_FAILURE: Duration = Duration::from_secs(15);
/// How long the accounting thread may take to say what is in the log.
const PATIENCE: Duration = Duration::from_secs(5);
/// RPC error of a node that does not know a block.
const UNKNOWN_BLOCK: i32 = -5;
/// A node that is not on the tip of miners for longer is not just late.
const LATE: Duration = Duration::from_secs(600);
/// Within so many blocks the transaction should be in one.
const TARGET_BLOCKS: u16 = 144;
/// Satoshis for 1,000 virtual bytes where the node cannot say.
const FEE_RATE_UNKNOWN: u64 = 2_000;

/// Runs on a thread of its own until told to stop.
#[derive(Debug)]
pub struct Settler {
    accounting: Accounting,
    published: Published,
    ledger: Ledger,
    current: watch::Receiver<Current>,
    node: Rpc,
    /// The node's.
    address: String,
    settings: Bounds,
    params: Params,
    folder: PathBuf,
    metrics: Metrics,
    stop: Receiver<()>,
    /// The tip that was looked at last.
    seen: Option<BlockHash>,
    /// The settlement that is followed.
    followed: Option<u64>,
    /// Work of miners that does not know of it.
    unaware: Unaware,
    /// The search for what has spent its outputs.
    search: Option<Search>,
    /// Since when the node has not been on the tip of miners.
    late_since: Option<Instant>,
    /// Whether what was signed has been with the node.
    sent: bool,
    /// What was said last, so that it is said once.
    told: String,
}

/// A tip.
#[derive(Debug, Clone, Copy)]
struct Tip {
    hash: BlockHash,
    height: u32,
}

impl Settler {
    /// A settler, and what ends it: dropping the sender, and cancelling what is under way.
    ///
    /// # Errors
    /// The ledger cannot be opened.
    pub fn new(
        settings: &Settings,
        params: Params,
        node: &Node,
        accounting: Accounting,
        published: Published,
        current: watch::Receiver<Current>,
        metrics: Metrics,
    ) -> Result<(Self, SyncSender<()>, Canceller), LedgerError> {
        let (stopper, stop) = sync_channel(0);
        let address = node.address.clone();
        let node = Rpc::new(node, Purpose::Template);
        let canceller = node.canceller();
        let settler = Self {
            accounting,
            published,
            // A connection of its own: the director is not waited for.
            ledger: Ledger::open(&settings.data_dir.join("ledger.sqlite"))?,
            current,
            node,
            address,
            settings: settings.settlement.clone(),
            params,
            folder: settings.data_dir.join("settlements"),
            metrics,
            stop,
            seen: None,
            followed: None,
            unaware: Unaware::default(),
            search: None,
            late_since: None,
            sent: false,
            told: String::new(),
        };
        Ok((settler, stopper, canceller))
    }

    /// Looks again and again.
    pub fn run(mut self) {
        loop {
            let pause = match self.round() {
                Ok(()) => EVERY,
                Err(error) => {
                    self.tell(format!("{error:#}"));
                    AFTER_FAILURE
                }
            };
            if self.stop.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    }

    fn tell(&mut self, text: String) {
        if self.told != text {
            warn!(reason = text, "settlements have to wait");
            self.told = text;
        }
    }

    /// Looks once, if there is something new.
    fn round(&mut self) -> anyhow::Result<()> {
        if let Some(reason) = self.published.refused() {
            bail!("{reason}");
        }
        let current = self.current.borrow().work.clone();
        let Some(work) = current else { return Ok(()) };
        let tip = Tip { hash: work.prev_hash(), height: work.height().saturating_sub(1) };
        self.note_work(tip);
        let is_new = self.seen != Some(tip.hash);
        let is_signed = self.followed.is_some_and(|index| self.file(index, "signed.psbt").exists());
        if !is_new && (self.sent || !is_signed) {
            return Ok(());
        }
        if !self.is_in_step(tip)? {
            self.is_late();
            return Ok(());
        }
        self.late_since = None;
        let adjustments = self.accounting.adjustments(PATIENCE)?;
        let is_done = match adjustments.settlements.all().last_key_value() {
            Some((index, made)) if self.is_unfinished(made)? => {
                self.follow(*index, made, &adjustments, tip)?
            }
            _ if is_new => {
                self.propose(&adjustments, tip)?;
                self.note_work(tip);
                true
            }
            _ => true,
        };
        self.seen = is_done.then_some(tip.hash);
        Ok(())
    }

    /// Notes work that does not know of the settlement that is followed, or will not know of the next one.
    fn note_work(&mut self, tip: Tip) {
        if self.followed.is_none_or(|index| !self.work_knows(index)) {
            self.unaware.note(tip.height);
        }
    }

    /// Says that the node does not follow miners, if that goes on.
    fn is_late(&mut self) {
        let since = *self.late_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= LATE {
            self.tell(format!("the first node, {}, is not on the tip that miners work on", self.address));
        }
    }

    /// Whether the node follows the tip that miners work on, and the ledger has been judged there and no further: credits,
    /// depths and the node's answers must be of one chain.
    fn is_in_step(&mut self, tip: Tip) -> anyhow::Result<bool> {
        Ok(ask::best_block(&mut self.node)? == tip.hash
            && self.ledger.newest_block(tip.height)? == self.ledger.newest_block(u32::MAX)?)
    }

    fn file(&self, index: u64, ending: &str) -> PathBuf {
        self.folder.join(format!("{index}.{ending}"))
    }

    fn is_unfinished(&mut self, made: &Made) -> anyhow::Result<bool> {
        Ok(match made.state {
            State::Open => true,
            State::Paid { block, .. } => self.confirmations(block)? < i64::from(MATURITY),
            State::Withdrawn | State::Failed { .. } => false,
        })
    }

    /// Of a block; 0 or less if it is not in the node's chain.
    fn confirmations(&mut self, block: BlockHash) -> Result<i64, RpcError> {
        match ask::header(&mut self.node, block) {
            Ok(header) => Ok(header.confirmations),
            Err(RpcError::Node { code: UNKNOWN_BLOCK, .. }) => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Logs the next settlement, if there is enough to pay.
    fn propose(&mut self, adjustments: &Adjustments, tip: Tip) -> anyhow::Result<()> {
        (self.followed, self.search, self.sent) = (None, None, false);
        if self.params.settlement_fee_bp == 0 || tip.height < MATURITY {
            return Ok(());
        }
        let matured_height = tip.height + 1 - MATURITY;
        let Adjustments { settlements, moves } = adjustments;
        let matured = self.ledger.credits(matured_height, moves)?;
        let newest = self.ledger.credits(tip.height, moves)?;
        let mut reserves = Vec::new();
        for block in self.ledger.reserves(matured_height)? {
            reserves.extend(self.reserve_of(&block)?);
        }
        let proposal = {
            let (matured, newest) = (&matured.by_script, &newest.by_script);
            settlement::propose(matured, newest, reserves, settlements, moves, &self.params)
        };
        let Some(proposal) = proposal.filter(|proposal| proposal.is_due(&self.params)) else {
            return Ok(());
        };
        let settlement::Proposal { credits, reserve, .. } = proposal;
        let settlement =
            Settlement { matured: matured.block, ledger_block: newest.block, fee: 0, credits, reserve };
        let (total, payees) = (settlement.total(), settlement.credits.len());
        let fee = self.fee_of(&settlement)?;
        let most = settlement::fee_max(total, self.params.settlement_fee_bp);
        if fee > most {
            self.tell(format!(
                "the network's fee is {fee} satoshis, more than the {most} that the rules allow"
            ));
            return Ok(());
        }
        let index = self.accounting.settle(Settlement { fee, ..settlement }, adjustments)?;
        self.followed = Some(index);
        info!(
            settlement = index,
            total, payees, fee, "a settlement is in the log: its transaction comes in {RELEASE_DEPTH} blocks"
        );
        Ok(())
    }

    fn reserve_of(&mut self, block: &PoolBlock) -> anyhow::Result<Option<Reserve>> {
        let Some((place, output)) = block.reserve_output() else { return Ok(None) };
        let txid = match block.coinbase {
            Some(txid) => txid,
            // Recorded by an earlier version.
            None => coinbase_of(&ask::block(&mut self.node, block.hash)?)?.compute_txid(),
        };
        let outpoint = OutPoint { txid, vout: u32::try_from(place)? };
        Ok(Some(Reserve { outpoint, sats: output.value.to_sat() }))
    }

    fn fee_of(&mut self, settlement: &Settlement) -> anyhow::Result<u64> {
        let rate = match self.settings.fee_rate_sats_per_vb {
            Some(rate) => rate * 1_000,
            None => ask::fee_rate(&mut self.node, TARGET_BLOCKS)?.unwrap_or(FEE_RATE_UNKNOWN),
        };
        let script = &self.params.split.reserve_script;
        let inputs = input_vbytes(script) * settlement.reserve.len() as u64; // at most 100
        let size = settlement.transaction(script).vsize() as u64 + inputs; // usize fits u64
        Ok((size * rate).div_ceil(1_000))
    }

    /// Does what is next with a settlement that has not enough confirmations; `false` if there is more to do at this tip.
    fn follow(
        &mut self,
        index: u64,
        made: &Made,
        adjustments: &Adjustments,
        tip: Tip,
    ) -> anyhow::Result<bool> {
        self.followed = Some(index);
        if made.state == State::Open && !self.is_given_out(index, made) {
            self.release(index, made, adjustments, tip)?;
            return Ok(true);
        }
        if let State::Paid { block, .. } = made.state
            && self.confirmations(block)? > 0
        {
            return Ok(true);
        }
        let spent = self.spent_outputs(&made.settlement)?;
        if spent != 0 {
            return match self.find_spender(index, made, tip)? {
                Looked::Found(spender) => self.spent(index, made, spent, &spender, tip).map(|()| true),
                Looked::GoesOn => Ok(false),
                Looked::Nowhere(text) => {
                    self.tell(text);
                    Ok(true)
                }
            };
        }
        let signed = self.file(index, "signed.psbt");
        match fs::read_to_string(&signed) {
            Ok(text) => self.send(text.trim(), made).with_context(|| signed.display().to_string())?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| signed.display().to_string()),
        }
        Ok(true)
    }

    /// Whether the transaction is there to be signed. What another log has left in the folder under its number is not it.
    fn is_given_out(&self, index: u64, made: &Made) -> bool {
        let text = fs::read_to_string(self.file(index, "psbt")).unwrap_or_default();
        let psbt = text.trim().parse::<Psbt>();
        psbt.is_ok_and(|psbt| made.settlement.is_paid_by(&psbt.unsigned_tx, &made.reserve_script))
    }

    /// Writes the transaction to be signed, once no job from before the settlement can pay its credits, too.
    fn release(
        &mut self,
        index: u64,
        made: &Made,
        adjustments: &Adjustments,
        tip: Tip,
    ) -> anyhow::Result<()> {
        if !self.unaware.is_past(tip.height) {
            return Ok(());
        }
        let Adjustments { settlements, moves } = adjustments;
        let owed = self.ledger.credits(tip.height, moves)?.by_script;
        let locked = moves.credits(settlements.locked());
        let is_owed = |(script, _): &(ScriptBuf, u64)| {
            let script = moves.payee(script);
            owed.get(script).copied().unwrap_or(0) >= locked.get(script).copied().unwrap_or(0)
        };
        if !made.settlement.credits.iter().all(is_owed) {
            self.accounting.event(unix_ms(), ChainEvent::SettlementWithdrawn { settlement: index })?;
            warn!(settlement = index, "withdrawn: a block has paid what it was to pay");
            return Ok(());
        }
        let psbt = psbt::unsigned(made, settlements, &self.ledger)?;
        let file = self.file(index, "psbt");
        psbt::write(&file, &psbt).with_context(|| file.display().to_string())?;
        info!(settlement = index, file = %file.display(), "a settlement waits for its signature");
        Ok(())
    }

    /// Whether miners work on a window that has a settlement's entry in it: all later ones have it, too.
    fn work_knows(&self, index: u64) -> bool {
        let current = self.current.borrow();
        let Some(work) = &current.work else { return false };
        match work.sample(SizeClass::B255).body().payout.basis {
            Basis::Window { log_size, .. } | Basis::Solo { log_size, .. } => log_size > index,
            Basis::Upstream(_) => unreachable!("a pool has no upstream"),
        }
    }

    /// Sends what was signed; also what the node has had before.
    fn send(&mut self, signed: &str, made: &Made) -> anyhow::Result<()> {
        let transaction = ask::finalize(&mut self.node, signed)?.context("signatures are missing")?;
        if !made.settlement.is_paid_by(&transaction, &made.reserve_script) {
            bail!(
                "this is another transaction than the settlement's: sign the one in the file without .signed"
            );
        }
        ask::send(&mut self.node, &transaction).context("the node does not take the settlement")?;
        if !std::mem::replace(&mut self.sent, true) {
            info!(txid = %transaction.compute_txid(), "the settlement is with the node");
        }
        Ok(())
    }

    /// Which outputs of a settlement are spent in the chain: a bit for each.
    fn spent_outputs(&mut self, settlement: &Settlement) -> Result<u128, RpcError> {
        let mut spent = 0;
        for (place, reserve) in settlement.reserve.iter().enumerate() {
            spent |= u128::from(!ask::is_unspent(&mut self.node, reserve.outpoint)?) << place;
        }
        Ok(spent)
    }

    /// What has spent an output of a settlement.
    fn find_spender(&mut self, index: u64, made: &Made, tip: Tip) -> anyhow::Result<Looked> {
        let mut search = match self.search.take().filter(|search| search.index == index) {
            Some(search) => search,
            None => {
                // Its ledger is from before its entry.
                let ledger_block = self.ledger.block(made.settlement.ledger_block)?;
                Search::new(index, ledger_block.map_or(0, |(block, _)| block.height))
            }
        };
        let looked = search.look(&mut self.node, made, tip);
        self.search = Some(search);
        looked
    }

    /// Outputs of a settlement are spent: by its own transaction, or by another one.
    fn spent(
        &mut self,
        index: u64,
        made: &Made,
        outputs: u128,
        spender: &Spender,
        tip: Tip,
    ) -> anyhow::Result<()> {
        let Spender { block, height, transaction } = spender;
        let txid = transaction.compute_txid();
        if made.settlement.is_paid_by(transaction, &made.reserve_script) {
            let event = ChainEvent::SettlementPaid { settlement: index, block: *block, txid };
            self.accounting.event(unix_ms(), event)?;
            info!(settlement = index, %txid, %block, height, "settled");
            return Ok(());
        }
        let confirmations = tip.height + 1 - height;
        let text = format!("transaction {txid} has spent the reserve that settlement {index} was to spend");
        if self.told != text {
            self.metrics.alarm();
            error!(settlement = index, %txid, confirmations, "the reserve is spent by something else");
            self.told = text;
        }
        if confirmations >= MATURITY {
            let event = ChainEvent::SettlementFailed { settlement: index, spent: outputs };
            self.accounting.event(unix_ms(), event)?;
            error!(settlement = index, %txid, "failed for good: its credits are owed again, the reserve is short");
        }
        Ok(())
    }
}

fn coinbase_of(block: &Block) -> anyhow::Result<&Transaction> {
    block.txdata.first().context("a block without a coinbase")
}

/// Virtual bytes that signatures add to an input, at most for common scripts.
fn input_vbytes(script: &ScriptBuf) -> u64 {
    match script {
        script if script.is_p2wpkh() => 28,
        script if script.is_p2tr() => 17,
        // Three of five keys.
        script if script.is_p2wsh() => 110,
        _ => 260,
    }
}
