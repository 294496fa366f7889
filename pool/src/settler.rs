//! Pays what is owed from the reserve, when there is enough of it and the holder of the reserve's key signs.
//!
//! 1. When credits of matured blocks sum up to the bound of the settings, a settlement is logged. From there on its
//!    credits are locked: no new job pays them.
//! 2. Six blocks after the work of miners has known of it, jobs from before cannot become blocks any more. If none of them has paid such a credit, the
//!    transaction is written to `INDEX.psbt`, to be signed; otherwise the settlement is withdrawn.
//! 3. Signed, as `INDEX.signed.psbt`, it is sent to the node, again at each new tip until it is in a block; that is
//!    logged. It stays watched until it has 100 confirmations; then the next settlement may come.
//!
//! Should something else spend an output of it, that is an alarm: the reserve holds less than is owed. After 100
//! confirmations the credits are owed again.

use crate::metrics::Metrics;
use crate::settings::{Settings, Settlement as Bounds};
use crate::work::Current;
use anyhow::{Context, bail};
use bitcoin::psbt::Psbt;
use bitcoin::{Block, BlockHash, OutPoint, ScriptBuf, Transaction, TxOut};
use share_accounting::Accounting;
use share_accounting::entry::{ChainEvent, Params, Reserve, Settlement};
use share_accounting::ledger::{Ledger, LedgerError, MATURITY, PoolBlock};
use share_accounting::settlement::{self, Made, Settlements, State};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;
use stratum::class::SizeClass;
use stratum::job::Basis;
use stratum_net::clock::unix_ms;
use template::bitcoind::ask;
use template::bitcoind::rpc::{Canceller, Node, Purpose, Rpc};
use tokio::sync::watch;
use tracing::{error, info, warn};

/// How often the node is asked for its tip, and the folder for what was signed.
const EVERY: Duration = Duration::from_secs(2);
/// Blocks between a settlement's entry and its transaction.
const RELEASE_DEPTH: u32 = 6;
/// Blocks that are looked through for what has spent an output: two weeks.
const SEARCH_DEPTH: u32 = 2_016;
/// Within so many blocks the transaction should be in one.
const TARGET_BLOCKS: u16 = 144;
/// Satoshis for 1,000 virtual bytes where the node cannot say.
const FEE_RATE_UNKNOWN: u64 = 2_000;

/// Runs on a thread of its own until told to stop.
#[derive(Debug)]
pub struct Settler {
    accounting: Accounting,
    ledger: Ledger,
    current: watch::Receiver<Current>,
    node: Rpc,
    settings: Bounds,
    params: Params,
    folder: PathBuf,
    metrics: Metrics,
    stop: Receiver<()>,
    /// The tip that was looked at last.
    seen: Option<BlockHash>,
    /// The settlement that is followed.
    followed: Option<u64>,
    /// The height of the tip when miners had work that knows of it.
    known_since: Option<u32>,
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

/// What has spent an output of a settlement.
struct Spender {
    block: BlockHash,
    height: u32,
    transaction: Transaction,
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
        current: watch::Receiver<Current>,
        metrics: Metrics,
    ) -> Result<(Self, SyncSender<()>, Canceller), LedgerError> {
        let (stopper, stop) = sync_channel(0);
        let node = Rpc::new(node, Purpose::Template);
        let canceller = node.canceller();
        let settler = Self {
            accounting,
            // A connection of its own: the director is not waited for.
            ledger: Ledger::open(&settings.data_dir.join("ledger.sqlite"))?,
            current,
            node,
            settings: settings.settlement.clone(),
            params,
            folder: settings.data_dir.join("settlements"),
            metrics,
            stop,
            seen: None,
            followed: None,
            known_since: None,
            sent: false,
            told: String::new(),
        };
        Ok((settler, stopper, canceller))
    }

    /// Looks again and again.
    pub fn run(mut self) {
        loop {
            match self.round() {
                Ok(()) => self.told.clear(),
                Err(error) => self.tell(format!("{error:#}")),
            }
            if self.stop.recv_timeout(EVERY) != Err(RecvTimeoutError::Timeout) {
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

    fn round(&mut self) -> anyhow::Result<()> {
        let hash = ask::best_block(&mut self.node)?;
        let is_new = self.seen != Some(hash);
        let is_signed = self.followed.is_some_and(|index| self.file(index, "signed.psbt").exists());
        if !is_new && (self.sent || !is_signed) {
            return Ok(());
        }
        let tip = Tip { hash, height: ask::header(&mut self.node, hash)?.height };
        let settlements = self.accounting.settlements()?;
        match settlements.all().last_key_value() {
            Some((index, made)) if self.is_unfinished(made)? => {
                self.follow(*index, made, &settlements, tip)?
            }
            _ if is_new => self.propose(&settlements, tip)?,
            _ => {}
        }
        self.seen = Some(hash);
        Ok(())
    }

    fn file(&self, index: u64, ending: &str) -> PathBuf {
        self.folder.join(format!("{index}.{ending}"))
    }

    fn is_unfinished(&mut self, made: &Made) -> anyhow::Result<bool> {
        Ok(match made.state {
            State::Open => true,
            State::Paid { block, .. } => {
                ask::header(&mut self.node, block)?.confirmations < i64::from(MATURITY)
            }
            State::Withdrawn | State::Failed => false,
        })
    }

    /// Logs the next settlement, if there is enough to pay.
    fn propose(&mut self, settlements: &Settlements, tip: Tip) -> anyhow::Result<()> {
        (self.followed, self.known_since, self.sent) = (None, None, false);
        if self.params.settlement_fee_bp == 0 || tip.height < MATURITY {
            return Ok(());
        }
        let matured_height = tip.height + 1 - MATURITY;
        let (matured, newest) = (self.ledger.credits(matured_height)?, self.ledger.credits(tip.height)?);
        let mut reserves = Vec::new();
        for block in self.ledger.reserves(matured_height)? {
            reserves.extend(self.reserve_of(&block)?);
        }
        let proposal =
            settlement::propose(&matured.by_script, &newest.by_script, reserves, settlements, &self.params);
        let Some(proposal) = proposal else { return Ok(()) };
        let settlement::Proposal { credits, reserve } = proposal;
        let settlement =
            Settlement { matured: matured.block, ledger_block: newest.block, fee: 0, credits, reserve };
        let (total, payees) = (settlement.total(), settlement.credits.len());
        if total < self.settings.at_least_sats {
            return Ok(());
        }
        let fee = self.fee_of(&settlement)?;
        let most = settlement::fee_max(total, self.params.settlement_fee_bp);
        if fee > most {
            bail!("the network's fee is {fee} satoshis, more than the {most} that the rules allow");
        }
        let index = self.accounting.settle(Settlement { fee, ..settlement })?;
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

    /// Does what is next with a settlement that has not enough confirmations.
    fn follow(&mut self, index: u64, made: &Made, settlements: &Settlements, tip: Tip) -> anyhow::Result<()> {
        self.followed = Some(index);
        if made.state == State::Open && !self.file(index, "psbt").exists() {
            return self.release(index, made, settlements, tip);
        }
        if let State::Paid { block, .. } = made.state
            && ask::header(&mut self.node, block)?.confirmations > 0
        {
            return Ok(());
        }
        if let Some(spender) = self.find_spender(&made.settlement, tip)? {
            return self.spent(index, made, &spender, tip);
        }
        let signed = self.file(index, "signed.psbt");
        match fs::read_to_string(&signed) {
            Ok(text) => self.send(text.trim(), made).with_context(|| signed.display().to_string()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error).with_context(|| signed.display().to_string()),
        }
    }

    /// Writes the transaction to be signed, once no job from before the settlement can pay its credits, too.
    fn release(
        &mut self,
        index: u64,
        made: &Made,
        settlements: &Settlements,
        tip: Tip,
    ) -> anyhow::Result<()> {
        if self.known_since.is_none() && self.work_knows(index) {
            self.known_since = Some(tip.height);
        }
        if self.known_since.is_none_or(|since| tip.height < since + RELEASE_DEPTH) {
            return Ok(());
        }
        let owed = self.ledger.credits(tip.height)?.by_script;
        let is_owed = |(script, _): &(ScriptBuf, u64)| {
            owed.get(script).copied().unwrap_or(0) >= settlements.locked().get(script).copied().unwrap_or(0)
        };
        if !made.settlement.credits.iter().all(is_owed) {
            self.accounting.event(unix_ms(), ChainEvent::SettlementWithdrawn { settlement: index })?;
            warn!(settlement = index, "withdrawn: a block has paid what it was to pay");
            return Ok(());
        }
        let psbt = self.psbt(made)?;
        let file = self.file(index, "psbt");
        write_whole(&file, &format!("{psbt}\n")).with_context(|| file.display().to_string())?;
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

    /// The transaction, and what a signer must know of its inputs: for outputs with a witness that is all.
    fn psbt(&mut self, made: &Made) -> anyhow::Result<Psbt> {
        let mut psbt = Psbt::from_unsigned_tx(made.settlement.transaction(&made.reserve_script))?;
        let blocks = self.ledger.reserves(u32::MAX)?;
        for (input, reserve) in psbt.inputs.iter_mut().zip(&made.settlement.reserve) {
            let of_block = |block: &&PoolBlock| block.coinbase == Some(reserve.outpoint.txid);
            let script = blocks.iter().find(of_block).and_then(PoolBlock::reserve_output);
            let script = script.map_or(&made.reserve_script, |(_, output)| &output.script_pubkey);
            if script.is_witness_program() {
                let value = bitcoin::Amount::from_sat(reserve.sats);
                input.witness_utxo = Some(TxOut { value, script_pubkey: script.clone() });
            }
        }
        Ok(psbt)
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

    /// What has spent an output of a settlement in the chain.
    fn find_spender(&mut self, settlement: &Settlement, tip: Tip) -> anyhow::Result<Option<Spender>> {
        let mut all_there = true;
        for reserve in &settlement.reserve {
            all_there &= ask::is_unspent(&mut self.node, reserve.outpoint)?;
        }
        if all_there {
            return Ok(None);
        }
        let spends = |transaction: &Transaction| {
            let mut inputs = transaction.input.iter().map(|input| input.previous_output);
            inputs.any(|outpoint| settlement.reserve.iter().any(|reserve| reserve.outpoint == outpoint))
        };
        let (mut hash, mut height) = (tip.hash, tip.height);
        for _ in 0..SEARCH_DEPTH {
            let block = ask::block(&mut self.node, hash)?;
            let before = block.header.prev_blockhash;
            if let Some(transaction) = block.txdata.into_iter().find(spends) {
                return Ok(Some(Spender { block: hash, height, transaction }));
            }
            hash = before;
            let Some(below) = height.checked_sub(1) else { break };
            height = below;
        }
        bail!(
            "outputs of the reserve are spent, and in the last {SEARCH_DEPTH} blocks there is nothing that does it"
        )
    }

    fn spent(&mut self, index: u64, made: &Made, spender: &Spender, tip: Tip) -> anyhow::Result<()> {
        let Spender { block, height, transaction } = spender;
        let txid = transaction.compute_txid();
        if made.settlement.is_paid_by(transaction, &made.reserve_script) {
            let event = ChainEvent::SettlementPaid { settlement: index, block: *block, txid };
            self.accounting.event(unix_ms(), event)?;
            info!(settlement = index, %txid, %block, height, "settled");
            return Ok(());
        }
        let confirmations = tip.height + 1 - height;
        if confirmations >= MATURITY {
            self.accounting.event(unix_ms(), ChainEvent::SettlementFailed { settlement: index })?;
            error!(settlement = index, %txid, "failed for good: its credits are owed again, the reserve is short");
        }
        let text = format!("transaction {txid} has spent the reserve that settlement {index} was to spend");
        if self.told != text {
            self.metrics.alarm();
            error!(settlement = index, %txid, confirmations, "the reserve is spent by something else");
        }
        bail!(text)
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
        // Two of three keys.
        script if script.is_p2wsh() => 65,
        _ => 260,
    }
}

/// Whole or not at all, also after a crash.
fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    let unfinished = path.with_extension("new");
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = fs::File::create(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(unfinished, path)
}
