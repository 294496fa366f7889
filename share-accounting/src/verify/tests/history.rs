//! A pool's life in miniature: real accounting, real judgement, real work, and jobs made by the rules, unless the pool
//! is a crooked one.

use crate::BlockShare;
use crate::accounting::{Accounting, AccountingThread, Adjustments, Settings};
use crate::commitment::{Committed, ParamsHash};
use crate::entry::{ChainEvent, Entry, Params, Reserve, Settlement, Witnesses};
use crate::log::Reader;
use crate::log::append::SEGMENT_BYTES_DEFAULT;
use crate::moves::Moves;
use crate::payout::{self, Room};
use crate::settlement;
use crate::testing::{commit, moved, payee, script};
use crate::verify::InChain;
use crate::window::Span;
use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, BlockHash, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness,
};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use stratum::class::{BEFORE_SCRIPT_BYTES, Beside, SizeClass};
use stratum::extranonce::{EXTRANONCE_BYTES, Extranonce1, Extranonce2};
use stratum::job::{
    Basis, Coinbase, Job, JobBody, JobId, MARK_BYTES, Payout, Roll, TemplateId, Transactions,
};
use stratum::pot::Pot;
use stratum::share::{Judge, JudgedShare, Outcome, PendingShare};
use stratum::target::{Target, Work};

/// A network difficulty of 4,096 hashes: one share of [`POT`] in sixteen is a block.
const NBITS: u32 = 0x1f0f_ffff;
/// 256 hashes a share.
pub const POT: i8 = -24;
const VALUE: u64 = 5_000_000_000;

pub type Credits = BTreeMap<ScriptBuf, u64>;
type Bent<T> = Box<dyn Fn(&mut T)>;

/// What a crooked pool bends before it makes a job of it.
pub struct Crook {
    pub weights: Bent<BTreeMap<ScriptBuf, Work>>,
    pub split: Bent<payout::Params>,
    pub outputs: Bent<Vec<TxOut>>,
    pub log_root: Bent<[u8; 32]>,
    /// Whether it pays, too, what a settlement has locked.
    pub forgets_locks: bool,
    pub commits: bool,
}

/// None.
pub fn honest() -> Crook {
    Crook {
        weights: Box::new(|_| {}),
        split: Box::new(|_| {}),
        outputs: Box::new(|_| {}),
        log_root: Box::new(|_| {}),
        forgets_locks: false,
        commits: true,
    }
}

/// A job, and what is owed if it is solved.
pub struct Planned {
    pub body: Arc<JobBody>,
    credits: Credits,
    /// Place and satoshis.
    reserve: Option<(u32, u64)>,
    before: BlockHash,
}

pub struct History {
    accounting: Accounting,
    thread: AccountingThread,
    dir: tempfile::TempDir,
    params: Params,
    judge: Judge,
    credits: HashMap<BlockHash, Credits>,
    /// The pool block before each, and what it has put aside.
    blocks: HashMap<BlockHash, (BlockHash, Option<Reserve>)>,
    ledger_block: BlockHash,
    tip: BlockHash,
    /// The block before each, also before those that have lost.
    parents: HashMap<BlockHash, BlockHash>,
    /// Settlements, and the blocks with their transactions.
    paid_in: BTreeMap<u64, BlockHash>,
    templates: u64,
    nonce: u32,
    /// Of the clock.
    ahead_ms: u64,
    pub class: SizeClass,
    /// Bytes of room that a crook does not give to miners.
    pub kept_out: u32,
    /// Of the headers of shares.
    pub ntime: u32,
}

/// Rules with everything in them, and a window of `shares` shares of [`POT`].
pub fn params(shares: u64) -> Params {
    let donation = payout::Donation { bp: 50, script: script(252) };
    let span = Span::new(shares, 16).unwrap();
    Params {
        site: 3,
        span,
        stale_credit_ms: 0,
        split: payout::Params {
            fee_bp: 100,
            fee_script: script(250),
            donations: vec![donation],
            min_payout: 5_000,
            reserve_script: script(251),
        },
        settlement_fee_bp: 200,
        settlement_at_least: 5_000,
        witnesses: Witnesses::default(),
    }
}

impl History {
    pub fn new(params: Params) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings {
            dir: dir.path().to_owned(),
            network: Network::Regtest,
            params: params.clone(),
            segment_bytes: SEGMENT_BYTES_DEFAULT,
        };
        let (accounting, thread) = Accounting::open(settings).unwrap();
        let ledger_block = BlockHash::all_zeros();
        let mut history = Self {
            accounting,
            thread,
            dir,
            params,
            judge: Judge::new(Duration::ZERO),
            credits: [(ledger_block, Credits::new())].into(),
            blocks: HashMap::new(),
            ledger_block,
            tip: ledger_block,
            parents: HashMap::new(),
            paid_in: BTreeMap::new(),
            templates: 0,
            nonce: 0,
            ahead_ms: 0,
            class: SizeClass::B755,
            kept_out: 0,
            ntime: 100,
        };
        history.new_tip(BlockHash::from_byte_array([1; 32]));
        history
    }

    pub fn new_tip(&mut self, tip: BlockHash) {
        self.follow(self.tip, tip);
    }

    fn follow(&mut self, parent: BlockHash, tip: BlockHash) {
        self.parents.entry(tip).or_insert(parent);
        self.tip = tip;
        self.judge.new_tip(tip, Instant::now());
        self.event(ChainEvent::NewTip(tip));
    }

    pub fn event(&self, event: ChainEvent) {
        self.accounting.event(self.unix_ms(), event).unwrap();
    }

    pub fn unix_ms(&self) -> u64 {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64;
        now + self.ahead_ms
    }

    /// So much time passes.
    pub fn pass(&mut self, seconds: u64) {
        self.ahead_ms += seconds * 1_000;
    }

    /// New work, in the place of what there was.
    pub fn next(&mut self, before: &Planned, solo: u8) -> Planned {
        let planned = self.plan(solo, &honest());
        self.replace(before);
        planned
    }

    /// Miners get other work than this.
    pub fn replace(&self, planned: &Planned) {
        self.event(ChainEvent::Superseded(planned.body.template));
    }

    /// Work by the newest books, or a job for one payee where the window is empty.
    pub fn plan(&mut self, solo: u8, crook: &Crook) -> Planned {
        let network = Target::from_nbits(NBITS).unwrap().work();
        let answer = self.accounting.ask_window(network).unwrap();
        let snapshot = answer.wait(Duration::from_secs(10)).unwrap();
        let (log_size, mut log_root, mut weights) = (snapshot.log_size, snapshot.log_root, snapshot.weights);
        (crook.weights)(&mut weights);
        (crook.log_root)(&mut log_root);
        let owed = snapshot.moves.gathered(self.owed_at(self.ledger_block));
        let before =
            if crook.forgets_locks { owed.clone() } else { settlement::payable(&owed, &snapshot.locked) };
        let mut rules = self.params.split.clone();
        (crook.split)(&mut rules);
        let value = Amount::from_sat(VALUE);
        let room = Room::of(self.class, self.out_bytes(&rules));
        let (mut outputs, basis, credits, reserve) =
            match payout::plan(value, &weights, &before, &rules, room) {
                Some(plan) => {
                    let mut after = owed.clone();
                    for (script, change) in &plan.credit_delta {
                        let sats = after.entry(script.clone()).or_default();
                        *sats = sats.checked_add_signed(*change).unwrap();
                    }
                    after.retain(|_, sats| *sats > 0);
                    let place = (plan.outputs.len() as u32 - 1, plan.reserve.to_sat());
                    let reserve = (place.1 > 0).then_some(place);
                    let ledger_block = self.ledger_block;
                    let basis = Basis::Window { log_size, ledger_block, credit_delta: plan.credit_delta };
                    (plan.outputs, basis, after, reserve)
                }
                None => {
                    let output = TxOut { value, script_pubkey: script(solo) };
                    (vec![output], Basis::Solo { script: script(solo), log_size }, Credits::new(), None)
                }
            };
        (crook.outputs)(&mut outputs);
        let params = ParamsHash::of(&self.params);
        let committed = Committed {
            network: Network::Regtest,
            log_size,
            log_root,
            weights: &weights,
            credits: &before,
            params,
        };
        if crook.commits {
            outputs.push(committed.commitment().output());
        }
        Planned { body: self.body(outputs, basis), credits, reserve, before: self.ledger_block }
    }

    /// What the class leaves for miners beside [`coinbase`]'s script.
    fn out_bytes(&self, rules: &payout::Params) -> u32 {
        let fixed = payout::fixed_outputs(rules, self.class);
        let beside = Beside {
            before_extranonce: BEFORE_SCRIPT_BYTES + 1 + 3 + MARK_BYTES,
            script_bytes: 3 + MARK_BYTES + EXTRANONCE_BYTES,
            outputs: fixed.len(),
            output_bytes: fixed.iter().map(TxOut::size).sum(),
        };
        self.class.room(&beside).unwrap() - self.kept_out
    }

    fn body(&mut self, outputs: Vec<TxOut>, basis: Basis) -> Arc<JobBody> {
        self.templates += 1;
        let target = Target::from_nbits(NBITS).unwrap();
        Arc::new(JobBody {
            template: TemplateId(u64::from(self.accounting.epoch()) << 48 | self.templates),
            height: 7,
            version: 0x2000_0000,
            prev_hash: self.tip,
            nbits: NBITS,
            network_target: target,
            hardest_share: target,
            ntime_min: 1,
            ntime: 2,
            coinbase: coinbase(&outputs, self.params.site, self.accounting.epoch()),
            merkle_branch: vec![[3; 32]; 2],
            class: self.class,
            out_bytes: self.out_bytes(&self.params.split),
            payout: Arc::new(Payout { outputs, basis }),
            transactions: Transactions::default(),
        })
    }

    /// Settles what was owed at a pool block, as the ledger gives it and a crook bends it; `false` if that is nothing.
    pub fn settle(&self, matured: BlockHash, fee_bp: u16, bend: impl Fn(&mut Settlement)) -> bool {
        let adjustments = self.adjustments();
        let Adjustments { settlements, moves } = &adjustments;
        let (mut reserves, mut block) = (Vec::new(), matured);
        while let Some((before, reserve)) = self.blocks.get(&block) {
            reserves.extend(*reserve);
            block = *before;
        }
        reserves.reverse();
        let old = moves.gathered(self.owed_at(matured));
        let newest = moves.gathered(self.owed_at(self.ledger_block));
        let proposal = settlement::propose(&old, &newest, reserves, settlements, moves, &self.params);
        let Some(settlement::Proposal { credits, reserve, .. }) = proposal else { return false };
        let mut settlement =
            Settlement { matured, ledger_block: self.ledger_block, fee: 0, credits, reserve };
        settlement.fee = settlement::fee_max(settlement.total(), fee_bp);
        bend(&mut settlement);
        self.accounting.settle(settlement, &adjustments).unwrap();
        true
    }

    fn adjustments(&self) -> Adjustments {
        self.accounting.adjustments(Duration::from_secs(60)).unwrap()
    }

    /// By the scripts that were paid then.
    fn owed_at(&self, ledger_block: BlockHash) -> impl Iterator<Item = (&ScriptBuf, u64)> {
        self.credits[&ledger_block].iter().map(|(script, sats)| (script, *sats))
    }

    /// A payee moves, if it can; whether it did.
    pub fn move_payee(&self, from: u8, to: u8) -> bool {
        let moved = moved(self.accounting.log_id(), from, script(to));
        self.accounting.move_payee(moved, Duration::from_secs(60)).is_ok()
    }

    /// Whom the settlement that waits to be paid pays.
    pub fn open_credits(&self) -> Vec<ScriptBuf> {
        let Adjustments { settlements, .. } = self.adjustments();
        let made = settlements.open().map(|(_, made)| made.settlement.credits.clone());
        made.unwrap_or_default().into_iter().map(|(script, _)| script).collect()
    }

    pub fn log_id(&self) -> [u8; 16] {
        self.accounting.log_id()
    }

    /// The settlement that waits to be paid.
    pub fn open_settlement(&self) -> Option<u64> {
        self.adjustments().settlements.open().map(|(index, _)| index)
    }

    /// Whether what settlements take is owed at a pool block: else one has to be withdrawn.
    pub fn is_owed_at(&self, ledger_block: BlockHash) -> bool {
        let Adjustments { settlements, moves } = self.adjustments();
        self.owes(ledger_block, &moves.credits(settlements.locked()), &moves)
    }

    /// Whether what settlements have paid is owed at a pool block: it was owed a hundred blocks before.
    pub fn can_go_back_to(&self, ledger_block: BlockHash) -> bool {
        let Adjustments { settlements, moves } = self.adjustments();
        let paid = self.paid_in.keys().flat_map(|index| &settlements.all()[index].settlement.credits);
        let mut sums = Credits::new();
        for (script, sats) in paid {
            *sums.entry(moves.payee(script).to_owned()).or_default() += sats;
        }
        self.owes(ledger_block, &sums, &moves)
    }

    fn owes(&self, ledger_block: BlockHash, all: &Credits, moves: &Moves) -> bool {
        let owed = moves.gathered(self.owed_at(ledger_block));
        all.iter().all(|(script, sats)| owed.get(script).is_some_and(|owed| owed >= sats))
    }

    /// The open settlement is paid, in the newest block, and the log says so.
    pub fn settled(&mut self) {
        let settlement = self.settled_unlogged();
        self.log_paid(settlement);
    }

    /// The open settlement is paid, in the newest block.
    pub fn settled_unlogged(&mut self) -> u64 {
        let settlement = self.open_settlement().unwrap();
        self.is_in_newest(settlement);
        settlement
    }

    /// The log says that a settlement is paid in the newest block.
    pub fn log_paid(&self, settlement: u64) {
        let Adjustments { settlements, .. } = self.adjustments();
        let made = &settlements.all()[&settlement];
        let txid = made.settlement.transaction(&made.reserve_script).compute_txid();
        self.event(ChainEvent::SettlementPaid { settlement, block: self.tip, txid });
    }

    /// A settlement is in the newest block, whatever the log says.
    pub fn is_in_newest(&mut self, settlement: u64) {
        self.paid_in.insert(settlement, self.tip);
    }

    /// Settlements whose blocks have lost are in the newest one.
    pub fn settle_again(&mut self) {
        let there = self.in_chain().settled;
        let lost: Vec<_> = self.paid_in.keys().filter(|index| !there.contains_key(index)).copied().collect();
        for index in lost {
            self.is_in_newest(index);
            self.log_paid(index);
        }
    }

    /// The best chain.
    pub fn in_chain(&self) -> InChain {
        let before = |block: &BlockHash| self.parents.get(block).copied();
        let mut chain: Vec<_> = std::iter::successors(Some(self.tip), before).collect();
        chain.reverse();
        let height = |block: &BlockHash| chain.iter().position(|hash| hash == block).map(|at| at as u32);
        let blocks = self.blocks.keys().filter_map(|block| Some((height(block)?, *block)));
        let settled = self.paid_in.iter().filter_map(|(index, block)| Some((*index, height(block)?)));
        InChain { blocks: blocks.collect(), settled: settled.collect() }
    }

    /// Mines one share and commits it; whether it solves a block. Then the chain goes on from there.
    pub fn mine(&mut self, planned: &Planned, to: u8, pot: i8) -> bool {
        let share = self.find(&planned.body, to, pot, false);
        let (hash, is_block) = (share.hash(), share.block_candidate());
        let job = Job {
            body: planned.body.clone(),
            tag: payee(to, "").tag,
            pot: Pot::try_from(pot).unwrap(),
            superseded_at: None,
        };
        let txid = Txid::hash(&job.coinbase(share.roll()));
        commit(&self.accounting, vec![share]).0.unwrap();
        if is_block {
            self.event(ChainEvent::BlockFound { hash, height: 7 });
            self.credits.insert(hash, planned.credits.clone());
            let reserve =
                planned.reserve.map(|(vout, sats)| Reserve { outpoint: OutPoint { txid, vout }, sats });
            self.blocks.insert(hash, (planned.before, reserve));
            self.ledger_block = hash;
            self.new_tip(hash);
        }
        is_block
    }

    /// A block of the pool's whose share does not reach the log.
    pub fn mine_unlogged_block(&mut self, planned: &Planned, to: u8) -> JudgedShare {
        let share = loop {
            let share = self.find(&planned.body, to, POT, false);
            if share.block_candidate() {
                break share;
            }
        };
        let hash = share.hash();
        self.credits.insert(hash, planned.credits.clone());
        self.blocks.insert(hash, (planned.before, None));
        self.ledger_block = hash;
        self.new_tip(hash);
        share
    }

    /// Puts what was kept of shares into the log; gives how many were not there.
    pub fn restore(&self, shares: Vec<BlockShare>) -> usize {
        self.accounting.restore(shares).unwrap().logged
    }

    pub fn commit(&self, share: JudgedShare) {
        commit(&self.accounting, vec![share]).0.unwrap();
    }

    /// As after a restart of the pool, with segments of another size.
    pub fn restarted(self, segment_bytes: u64) -> Self {
        let (network, dir) = (Network::Regtest, self.dir.path().to_owned());
        let settings = Settings { dir, network, params: self.params.clone(), segment_bytes };
        drop(self.accounting);
        self.thread.stop().unwrap();
        let (accounting, thread) = Accounting::open(settings).unwrap();
        Self { accounting, thread, ..self }
    }

    /// Mines one share and commits it, which solves no block.
    pub fn mine_no_block(&mut self, planned: &Planned, to: u8) {
        loop {
            let share = self.find(&planned.body, to, POT, false);
            if !share.block_candidate() {
                commit(&self.accounting, vec![share]).0.unwrap();
                return;
            }
        }
    }

    /// The same for one that came too late.
    pub fn mine_stale(&mut self, planned: &Planned, to: u8) {
        let share = self.find(&planned.body, to, POT, true);
        commit(&self.accounting, vec![share]).0.unwrap();
    }

    /// The chain has chosen another block than the pool's newest.
    pub fn orphan(&mut self, to: (BlockHash, BlockHash)) {
        let (ledger_block, tip) = to;
        self.event(ChainEvent::BlockOrphaned(self.ledger_block));
        let parent = self.parents[&self.ledger_block];
        self.ledger_block = ledger_block;
        self.follow(parent, tip);
    }

    /// Newest pool block in the chain, and newest block.
    pub fn place(&self) -> (BlockHash, BlockHash) {
        (self.ledger_block, self.tip)
    }

    fn find(&mut self, body: &Arc<JobBody>, to: u8, pot: i8, stale: bool) -> JudgedShare {
        let payee = payee(to, "");
        let now = Instant::now();
        let unix_ms = self.unix_ms();
        loop {
            self.nonce += 1;
            let job = Job {
                body: body.clone(),
                tag: payee.tag,
                pot: Pot::try_from(pot).unwrap(),
                superseded_at: stale.then(|| now.checked_sub(Duration::from_secs(1_000)).unwrap()),
            };
            let roll = Roll {
                extranonce1: Extranonce1([9, 0, 0, 1]),
                extranonce2: Extranonce2::from([5; 8]),
                ntime: self.ntime,
                nonce: self.nonce,
                version: 0x2000_0000,
            };
            let pending = PendingShare::new(JobId(self.nonce), job, roll, payee.clone());
            match self.judge.check(pending, now, unix_ms).outcome {
                Outcome::Accepted(share) => return share,
                Outcome::Stale(share) if !share.block_candidate() => return share,
                Outcome::Stale(_) | Outcome::RefusedBlock(..) | Outcome::Rejected(_) => {}
            }
        }
    }

    /// What stands in the log in the end.
    pub fn entries(self) -> Vec<Entry> {
        self.thread.stop().unwrap();
        let reader = Reader::open(&self.dir.path().join("log")).unwrap();
        reader.map(|entry| entry.unwrap().1).collect()
    }
}

fn coinbase(outputs: &[TxOut], site: u16, epoch: u16) -> Coinbase {
    let head = [1, 7];
    let gap = [&[0; 9][..], &site.to_le_bytes(), &epoch.to_le_bytes(), &[0; 12]].concat();
    let script_sig = ScriptBuf::from_bytes([&head[..], &[gap.len() as u8], &gap].concat());
    let witness_commitment =
        ScriptBuf::from_bytes([&[0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed][..], &[4; 32]].concat());
    let witness_commitment = TxOut { value: Amount::ZERO, script_pubkey: witness_commitment };
    let tx = Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig,
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output: outputs.iter().cloned().chain([witness_commitment]).collect(),
    };
    Coinbase::new(bitcoin::consensus::serialize(&tx).into(), 4 + 1 + 36 + 1 + head.len() + 1)
}
