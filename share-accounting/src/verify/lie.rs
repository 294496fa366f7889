//! What a log can be wrong about.

use bitcoin::{Amount, BlockHash, ScriptBuf};
use std::borrow::Cow;
use std::fmt;
use stratum::class::SizeClass;
use stratum::pot::Pot;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The entry that says it.
    pub index: u64,
    /// What it says, and why that is not so.
    pub lie: Lie,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entry {}: {}", self.index, self.lie)
    }
}

/// A claim that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Lie {
    /// Entries contradict each other; nothing behind this one can be checked.
    #[error("the log contradicts itself: {0}")]
    Inconsistent(Cow<'static, str>),
    /// Rules that no payout can follow.
    #[error("rules that cannot be followed: {0}")]
    Rules(String),
    /// No job that anybody could work on.
    #[error("this is no job: {0}")]
    Job(&'static str),
    /// There is no such job.
    #[error("the share names entry {0} as its job, which is none, or one that was replaced an hour before")]
    UnknownJob(u64),
    /// The share's header does not meet the target that it is credited at.
    #[error("share without work: its hash {hash} does not meet difficulty 2^{}", .pot.get())]
    NoWork {
        /// Of its header.
        hash: BlockHash,
        /// What is credited.
        pot: Pot,
    },
    /// The work says another payee.
    #[error(
        "share credited to another payee: it is booked to script {booked:x}, its work is that of {worked:x}"
    )]
    OtherPayee {
        /// Whom the log credits.
        booked: ScriptBuf,
        /// Whose tag was hashed.
        worked: ScriptBuf,
    },
    /// The work says another difficulty.
    #[error("share credited at another difficulty than it was mined for: 2^{} instead of 2^{}", .booked.get(), .mined.get())]
    OtherPot {
        /// What the log credits.
        booked: Pot,
        /// What was hashed.
        mined: Pot,
    },
    /// The same header twice.
    #[error("share credited twice: the same header as that of entry {0}")]
    Twice(u64),
    /// Work on a plan that was out of date.
    #[error("share credited {seconds} s after its job was replaced; 120 s are the most")]
    TooOld {
        /// Between the two.
        seconds: u64,
    },
    /// A header that no node takes, or will not for long.
    #[error(
        "share credited although its time is not between its job's and two hours after it was received: ntime {0}"
    )]
    Time(u32),
    /// Work that pays one payee alone, when others were to be paid, too.
    #[error("share credited on a job that pays one payee alone, {seconds} s after such jobs had ended")]
    SoloEnded {
        /// Since when.
        seconds: u64,
    },
    /// Work on a block that was not the newest any more.
    #[error("stale share credited: another block was the newest one for {ms} ms")]
    Stale {
        /// Since when.
        ms: u64,
    },
    /// Work on a block that very many have followed: whether the same header is there twice cannot be told any more.
    #[error("share credited on block {0}, which very many others have followed in this log")]
    LongGone(BlockHash),
    /// It solves a block, and the log does not say so.
    #[error("hidden block: the share solves block {0}, and the log says that it solves none")]
    HiddenBlock(BlockHash),
    /// It solves no block.
    #[error("the share is called a block, but its hash {0} does not meet the network target")]
    NoBlock(BlockHash),
    /// A job from the future.
    #[error("the job claims to pay a window of {log_size} entries, which were not there yet")]
    Future {
        /// What it claims.
        log_size: u64,
    },
    /// Shares that were there when it was made do not count.
    #[error(
        "the job pays the window of {log_size} entries, {seconds} s after the next share had been received: it was out of date when it was made"
    )]
    OldPlan {
        /// What it claims.
        log_size: u64,
        /// From that share until the job was made, at least.
        seconds: u64,
    },
    /// Not the ledger at the place where it builds.
    #[error(
        "the job's ledger is that of block {ledger_block}, but it builds on block {newer}, which is the pool's, too"
    )]
    OldLedger {
        /// What it claims.
        ledger_block: BlockHash,
        /// Its parent.
        newer: BlockHash,
    },
    /// Less room for miners than there is: who has no place is owed instead of paid.
    #[error(
        "the job claims that its coinbase has {claimed} bytes for miners, but its size class of {class} bytes leaves {room}"
    )]
    Room {
        /// By the job.
        claimed: u32,
        /// The class.
        class: SizeClass,
        /// What it leaves beside the outputs of the rules.
        room: u32,
    },
    /// Not what the rules give.
    #[error("{0}")]
    Outputs(#[from] WrongOutput),
    /// Its ledger is that of a block that no share solves, and no ledger gives what it pays.
    #[error(
        "the job's ledger is that of a block that no share of the log solves, and whatever is owed there: {0}"
    )]
    WithoutLedger(String),
    /// A solo job although there is somebody to share with.
    #[error("the job pays one payee alone, but the window holds shares")]
    Solo,
    /// A shared job although there is nobody to share with.
    #[error("the job pays a window that holds no share")]
    EmptyWindow,
    /// Not the head of this log.
    #[error("the job commits to other books than those of this log: {found} instead of {expected}")]
    Commitment {
        /// Of the job, in hex.
        found: String,
        /// Of the books, in hex.
        expected: String,
    },
    /// None.
    #[error("the job does not commit to the log")]
    NoCommitment,
    /// Not what the ledger gives.
    #[error("the settlement is not what the ledger gives: {0}")]
    Settlement(String),
    /// A credit was paid in a coinbase, too.
    #[error(
        "the settlement is paid, and so were credits of it by a block: of script {script:x} {settled} satoshis are settled, \
         but {owed} were owed{}", behind(newest.as_ref())
    )]
    PaidTwice {
        /// Whose.
        script: ScriptBuf,
        /// By all settlements up to there.
        settled: u64,
        /// By all blocks up to there.
        owed: u64,
        /// The newest of these.
        newest: Option<BlockHash>,
    },
    /// More money than there is.
    #[error("the job pays more bitcoin than there are")]
    Money,
}

fn behind(block: Option<&BlockHash>) -> String {
    block.map_or_else(String::new, |block| format!(" behind block {block}"))
}

/// The first output of a coinbase that the rules do not give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongOutput {
    /// Its place.
    pub place: usize,
    /// What is there.
    pub found: Option<(ScriptBuf, Amount)>,
    /// What the rules give, and whose that is.
    pub expected: Option<(ScriptBuf, Amount)>,
    /// Who gets the expected one.
    pub whose: &'static str,
}

impl std::error::Error for WrongOutput {}

impl fmt::Display for WrongOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, found, expected, whose } = self;
        let show = |output: &Option<(ScriptBuf, Amount)>| match output {
            Some((script, value)) => format!("{} satoshis to script {script:x}", value.to_sat()),
            None => "nothing".to_owned(),
        };
        write!(f, "output {place} of the job's coinbase, {whose}, pays {}", show(found))?;
        write!(f, " where the rules give {}", show(expected))
    }
}
