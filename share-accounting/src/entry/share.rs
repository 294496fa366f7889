//! Kind 01: one share.

use super::DecodeError;
use super::fields::Fields;
use stratum::job::Roll;
use stratum::pot::Pot;
use stratum::target::Work;

/// Bytes of a share entry.
pub const SHARE_BYTES: usize = 72;
/// Room for the extranonce in a share entry, in bytes.
pub const EXTRANONCE_ROOM: usize = 16;

const CREDITED: u8 = 1;
const BLOCK_CANDIDATE: u8 = 2;

/// A share as it stands in the log: with its job and payee entries, enough to hash it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Difficulty of the job as it was sent.
    pub pot: Pot,
    /// Site whose server judged it.
    pub site: u16,
    /// Index of the payee registration ([`super::PayeeEntry::index`]).
    pub payee: u32,
    /// Log index of the job entry.
    pub job: u64,
    /// Header time in Unix seconds.
    pub ntime: u32,
    /// Header nonce.
    pub nonce: u32,
    /// Whole header version, rolled bits included.
    pub version: u32,
    /// Connection prefix ‖ rolled part.
    pub extranonce: Extranonce,
    /// Whether it earns its work; stale shares do not.
    pub credited: bool,
    /// Whether its header met the network target.
    pub block_candidate: bool,
    /// Time of receipt, Unix milliseconds.
    pub received_unix_ms: u64,
    /// Sum of credited work of all shares up to and including this one.
    pub total_work: Work,
}

/// At most [`EXTRANONCE_ROOM`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Extranonce {
    length: u8,
    bytes: [u8; EXTRANONCE_ROOM],
}

impl Extranonce {
    /// Takes the bytes; `None` if there are more than fit.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut room = [0; EXTRANONCE_ROOM];
        room.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(Self { length: bytes.len() as u8, bytes: room }) // at most 16
    }

    /// The bytes in use.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl From<&Roll> for Extranonce {
    fn from(roll: &Roll) -> Self {
        let (connection, rolled) = (roll.extranonce1.0, roll.extranonce2.as_bytes());
        let length = connection.len() + rolled.len();
        let mut bytes = [0; EXTRANONCE_ROOM];
        bytes[..connection.len()].copy_from_slice(&connection);
        bytes[connection.len()..length].copy_from_slice(rolled);
        Self { length: length as u8, bytes } // 4 and at most 12
    }
}

impl Share {
    /// What the share adds to its payee: the work of its pot if credited, nothing if stale.
    pub fn credited_work(&self) -> Work {
        if self.credited { self.pot.work() } else { Work(0) }
    }

    /// In one piece: a field at a time costs twice as much.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let mut bytes = [0; SHARE_BYTES];
        bytes[0] = super::Kind::Share as u8;
        bytes[1..2].copy_from_slice(&self.pot.get().to_le_bytes());
        bytes[2..4].copy_from_slice(&self.site.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.payee.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.job.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.ntime.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.nonce.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.version.to_le_bytes());
        bytes[28] = self.extranonce.length;
        bytes[29..45].copy_from_slice(&self.extranonce.bytes);
        let credited = if self.credited { CREDITED } else { 0 };
        let candidate = if self.block_candidate { BLOCK_CANDIDATE } else { 0 };
        bytes[45] = credited | candidate;
        bytes[48..56].copy_from_slice(&self.received_unix_ms.to_le_bytes());
        bytes[56..].copy_from_slice(&self.total_work.0.to_le_bytes());
        out.extend_from_slice(&bytes);
    }

    /// Reads the fields behind the kind byte.
    pub(super) fn take(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        let pot = Pot::try_from(i8::from_le_bytes(fields.array()?)).map_err(|_| DecodeError::Field("pot"))?;
        let (site, payee, job) = (fields.u16()?, fields.u32()?, fields.u64()?);
        let (ntime, nonce, version) = (fields.u32()?, fields.u32()?, fields.u32()?);
        let extranonce = Extranonce { length: fields.u8()?, bytes: fields.array()? };
        let padding = extranonce.bytes.get(usize::from(extranonce.length)..);
        if !padding.is_some_and(|rest| rest.iter().all(|b| *b == 0)) {
            return Err(DecodeError::Field("extranonce"));
        }
        let [flags, reserved @ ..] = fields.array::<3>()?;
        if flags & !(CREDITED | BLOCK_CANDIDATE) != 0 || reserved != [0; 2] {
            return Err(DecodeError::Field("flags"));
        }
        Ok(Self {
            pot,
            site,
            payee,
            job,
            ntime,
            nonce,
            version,
            extranonce,
            credited: flags & CREDITED != 0,
            block_candidate: flags & BLOCK_CANDIDATE != 0,
            received_unix_ms: fields.u64()?,
            total_work: Work(fields.u128()?),
        })
    }
}
