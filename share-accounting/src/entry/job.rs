//! Kind 02: what miners hashed, once for all shares of a template, class and payout.

use super::DecodeError;
use super::fields::{Fields, put_script};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, ScriptBuf};
use bytes::Bytes;
use stratum::class::SizeClass;
use stratum::job::{Basis, Coinbase, JobBody, TemplateId};

/// A job as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobEntry {
    /// The template it was built from.
    pub template: TemplateId,
    /// Parent block.
    pub prev_hash: BlockHash,
    /// Compact network target.
    pub nbits: u32,
    /// Header version, no bits rolled.
    pub version: u32,
    /// Earliest header time that consensus allows, in Unix seconds.
    pub ntime_min: u32,
    /// Height of the block.
    pub height: u32,
    /// Size class that the payout was cut to.
    pub class: SizeClass,
    /// Room for miner outputs that the plan was given, in bytes.
    pub out_bytes: u32,
    /// Stripped coinbase; gaps for tag, pot and extranonce are zero.
    pub coinbase: Coinbase,
    /// Sibling hashes from the coinbase up, internal byte order; at most 255.
    pub merkle_branch: Vec<[u8; 32]>,
    /// What its payout was computed from.
    pub plan: PlanEntry,
}

/// What a job's payout was computed from; amounts and credits follow from it, so they are not stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanEntry {
    /// Everything to one payee: the window was empty.
    Solo {
        /// Who that is.
        script: ScriptBuf,
        /// Number of log entries at that time, for the job's commitment; not in logs from before jobs had one.
        log_size: Option<u64>,
    },
    /// The PPLNS window over the first `log_size` entries, on top of the ledger at `ledger_block`.
    Window {
        /// Number of log entries.
        log_size: u64,
        /// The pool's newest block in the chain; all zeros before the first.
        ledger_block: BlockHash,
    },
}

impl From<&JobBody> for JobEntry {
    fn from(body: &JobBody) -> Self {
        let plan = match &body.payout.basis {
            Basis::Upstream(_) => unreachable!("a pool logs shares of its own work"),
            Basis::Solo { script, log_size } => {
                PlanEntry::Solo { script: script.clone(), log_size: Some(*log_size) }
            }
            Basis::Window { log_size, ledger_block, .. } => {
                PlanEntry::Window { log_size: *log_size, ledger_block: *ledger_block }
            }
        };
        Self {
            template: body.template,
            prev_hash: body.prev_hash,
            nbits: body.nbits,
            version: body.version,
            ntime_min: body.ntime_min,
            height: body.height,
            class: body.class,
            out_bytes: body.out_bytes,
            coinbase: body.coinbase.clone(),
            merkle_branch: body.merkle_branch.clone(),
            plan,
        }
    }
}

impl JobEntry {
    /// # Panics
    /// If the branch has more than 255 hashes or an offset does not fit 32 bits: the builder is at fault.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let fits = |size: usize| u32::try_from(size).expect("a coinbase is far below 4 GiB");
        out.extend(self.template.0.to_le_bytes());
        out.extend(self.prev_hash.as_byte_array());
        for field in [self.nbits, self.version, self.ntime_min, self.height] {
            out.extend(field.to_le_bytes());
        }
        out.push(self.class.code());
        out.push(u8::try_from(self.merkle_branch.len()).expect("a block has at most 2^32 transactions"));
        out.extend(self.out_bytes.to_le_bytes());
        for offset in
            [self.coinbase.tag_offset(), self.coinbase.pot_offset(), self.coinbase.extranonce_offset()]
        {
            out.extend(fits(offset).to_le_bytes());
        }
        out.extend(fits(self.coinbase.bytes().len()).to_le_bytes());
        out.extend(self.coinbase.bytes());
        for node in &self.merkle_branch {
            out.extend(node);
        }
        match &self.plan {
            PlanEntry::Solo { script, log_size: None } => {
                out.push(0);
                put_script(out, script);
            }
            PlanEntry::Solo { script, log_size: Some(log_size) } => {
                out.push(2);
                out.extend(log_size.to_le_bytes());
                put_script(out, script);
            }
            PlanEntry::Window { log_size, ledger_block } => {
                out.push(1);
                out.extend(log_size.to_le_bytes());
                out.extend(ledger_block.as_byte_array());
            }
        }
    }

    pub(super) fn take(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        let template = TemplateId(fields.u64()?);
        let prev_hash = fields.hash()?;
        let (nbits, version) = (fields.u32()?, fields.u32()?);
        let (ntime_min, height) = (fields.u32()?, fields.u32()?);
        let class = SizeClass::from_code(fields.u8()?).ok_or(DecodeError::Field("class"))?;
        let branch_len = fields.u8()?;
        let out_bytes = fields.u32()?;
        let (tag, pot, extranonce) = (fields.u32()?, fields.u32()?, fields.u32()?);
        let length = fields.u32()?;
        let bytes = Bytes::copy_from_slice(fields.bytes(length as usize)?); // u32 fits usize; checked against the input
        let gap_end = u64::from(extranonce) + stratum::extranonce::EXTRANONCE_BYTES as u64;
        if gap_end > u64::from(length)
            || u64::from(tag) + 8 != u64::from(pot)
            || u64::from(pot) + 5 != u64::from(extranonce)
        {
            return Err(DecodeError::Field("coinbase offsets"));
        }
        let coinbase = Coinbase::new(bytes, tag as usize);
        let merkle_branch = (0..branch_len).map(|_| fields.array()).collect::<Result<_, _>>()?;
        let plan = match fields.u8()? {
            0 => PlanEntry::Solo { log_size: None, script: fields.script()? },
            1 => PlanEntry::Window { log_size: fields.u64()?, ledger_block: fields.hash()? },
            2 => PlanEntry::Solo { log_size: Some(fields.u64()?), script: fields.script()? },
            _ => return Err(DecodeError::Field("plan")),
        };
        let entry = Self {
            template,
            prev_hash,
            nbits,
            version,
            ntime_min,
            height,
            class,
            out_bytes,
            coinbase,
            merkle_branch,
            plan,
        };
        Ok(entry)
    }
}
