//! A job as an upstream sent it, and the header that a machine hashes for it.

use super::Fault;
use super::upstream::{hex, hex_u32, items, number, text};
use crate::target::Target;
use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use serde_json::value::RawValue;
use sha256d::Sha256d;

/// Longest job id taken, in bytes.
pub const JOB_ID_BYTES_MAX: usize = 128;
/// Longest first or second part of a coinbase taken, in bytes.
pub const COINBASE_PART_BYTES_MAX: usize = 512 * 1024;
/// Most merkle branches taken: a block of 2^32 transactions cannot exist.
pub const BRANCHES_MAX: usize = 32;

/// One `mining.notify`, with what was in force when it came: nothing that comes later changes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// The upstream's name for it, opaque.
    pub id: Box<str>,
    /// Parent block.
    pub prev_hash: BlockHash,
    /// Coinbase before the extranonce.
    pub coinbase1: Box<[u8]>,
    /// Coinbase behind the extranonce.
    pub coinbase2: Box<[u8]>,
    /// Sibling hashes from the coinbase up to the root, in internal byte order.
    pub merkle_branch: Box<[[u8; 32]]>,
    /// Header version, no bits rolled.
    pub version: u32,
    /// Compact network target.
    pub nbits: u32,
    /// The same, expanded: a hash that meets it looks like a block.
    pub network_target: Target,
    /// Header time in Unix seconds.
    pub ntime: u32,
    /// Whether all earlier jobs are void.
    pub clean: bool,
    /// The connection's prefix.
    pub extranonce1: Box<[u8]>,
    /// Bytes that the machine rolls.
    pub extranonce2_size: usize,
    /// Share difficulty as the upstream put it; for people, [`Job::target`] decides.
    pub difficulty: f64,
    /// Share target.
    pub target: Target,
}

/// The part of a job that `mining.notify` does not carry.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Terms {
    pub extranonce1: Box<[u8]>,
    pub extranonce2_size: usize,
    pub difficulty: f64,
    pub target: Target,
}

impl Job {
    /// Parses the parameters of `mining.notify`.
    pub(super) fn parse(params: &RawValue, terms: Terms) -> Result<Self, Fault> {
        const MALFORMED: Fault = Fault::Malformed("mining.notify");
        // Nine parameters; some pools append more.
        let params = items(params, 16).ok_or(MALFORMED)?;
        let [id, prev_hash, coinbase1, coinbase2, branch, version, nbits, ntime, clean, ..] = params[..]
        else {
            return Err(MALFORMED);
        };
        let id = text(id).filter(|id| id.len() <= JOB_ID_BYTES_MAX).ok_or(Fault::Malformed("job id"))?;
        let nbits = hex_u32(nbits).ok_or(Fault::Malformed("nbits"))?;
        let branch = items(branch, BRANCHES_MAX).ok_or(Fault::Malformed("merkle branch"))?;
        let sibling = |item| hex(item, 32)?.try_into().ok();
        Ok(Self {
            id: id.into(),
            prev_hash: prev_hash_of(prev_hash).ok_or(Fault::Malformed("previous hash"))?,
            coinbase1: hex(coinbase1, COINBASE_PART_BYTES_MAX).ok_or(Fault::Malformed("coinbase 1"))?.into(),
            coinbase2: hex(coinbase2, COINBASE_PART_BYTES_MAX).ok_or(Fault::Malformed("coinbase 2"))?.into(),
            merkle_branch: branch
                .into_iter()
                .map(sibling)
                .collect::<Option<_>>()
                .ok_or(Fault::Malformed("merkle branch"))?,
            version: hex_u32(version).ok_or(Fault::Malformed("version"))?,
            nbits,
            network_target: Target::from_nbits(nbits).map_err(|_| Fault::Malformed("nbits"))?,
            ntime: hex_u32(ntime).ok_or(Fault::Malformed("ntime"))?,
            clean: number(clean).ok_or(Fault::Malformed("clean_jobs"))?,
            extranonce1: terms.extranonce1,
            extranonce2_size: terms.extranonce2_size,
            difficulty: terms.difficulty,
            target: terms.target,
        })
    }

    /// The stripped coinbase with the machine's extranonce2.
    ///
    /// # Panics
    /// If `extranonce2` is not [`Job::extranonce2_size`] bytes: the caller rolls it and is at fault.
    pub fn coinbase(&self, extranonce2: &[u8]) -> Vec<u8> {
        self.coinbase_parts(extranonce2).concat()
    }

    /// The merkle root with the machine's extranonce2, in internal byte order.
    ///
    /// # Panics
    /// As [`Job::coinbase`].
    pub fn merkle_root(&self, extranonce2: &[u8]) -> [u8; 32] {
        let mut engine = Sha256d::new();
        for part in self.coinbase_parts(extranonce2) {
            engine.update(part);
        }
        self.merkle_branch.iter().fold(engine.finish(), |node, next| sha256d::sha256d_pair(&node, next))
    }

    fn coinbase_parts<'a>(&'a self, extranonce2: &'a [u8]) -> [&'a [u8]; 4] {
        assert_eq!(extranonce2.len(), self.extranonce2_size, "extranonce2 has the size that was agreed");
        [&self.coinbase1, &self.extranonce1, extranonce2, &self.coinbase2]
    }

    /// The header to hash; `version` is the whole version, rolled bits included.
    ///
    /// # Panics
    /// As [`Job::coinbase`].
    pub fn header(&self, extranonce2: &[u8], ntime: u32, nonce: u32, version: u32) -> [u8; 80] {
        let mut header = [0; 80];
        header[..4].copy_from_slice(&version.to_le_bytes());
        header[4..36].copy_from_slice(self.prev_hash.as_byte_array());
        header[36..68].copy_from_slice(&self.merkle_root(extranonce2));
        header[68..72].copy_from_slice(&ntime.to_le_bytes());
        header[72..76].copy_from_slice(&self.nbits.to_le_bytes());
        header[76..80].copy_from_slice(&nonce.to_le_bytes());
        header
    }
}

/// The wire has each 4-byte word of the internal order reversed (V1-26).
fn prev_hash_of(raw: &RawValue) -> Option<BlockHash> {
    let mut bytes: [u8; 32] = hex(raw, 32)?.try_into().ok()?;
    for word in bytes.chunks_exact_mut(4) {
        word.reverse();
    }
    Some(BlockHash::from_byte_array(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    fn terms(extranonce1: &[u8], extranonce2_size: usize) -> Terms {
        let target = Target::from_nbits(0x1d00_ffff).unwrap();
        Terms { extranonce1: extranonce1.into(), extranonce2_size, difficulty: 1.0, target }
    }

    /// Block 1 of the main network as a pool would have sent it: the coinbase script is the extranonce,
    /// and there are no other transactions.
    fn block_1() -> Box<RawValue> {
        raw(r#"["1",
            "0a8ce26f72b3f1b646a2a6c14ff763ae65831e939c085ae10019d66800000000",
            "01000000010000000000000000000000000000000000000000000000000000000000000000ffffffff07",
            "ffffffff0100f2052a0100000043410496b538e853519c726a2c91e61ec11600ae1390813a627c66fb8be7947be63c52da7589379515d4e0a604f8141781e62294721166bf621e73a82cbf2342c858eeac00000000",
            [], "00000001", "1d00ffff", "4966bc61", true]"#)
    }

    #[test]
    fn the_header_of_main_network_block_1_is_rebuilt_from_its_job() {
        let job = Job::parse(&block_1(), terms(&[0x04, 0xff, 0xff], 4)).unwrap();
        let header = job.header(&[0x00, 0x1d, 0x01, 0x04], 0x4966_bc61, 0x9962_e301, 1);
        let hash = BlockHash::from_byte_array(sha256d::sha256d(&header));
        assert_eq!(hash.to_string(), "00000000839a8e6886ab5951d76f411475428afc90947ee320161bbf18eb6048");
        assert!(job.network_target.is_met_by(hash.as_byte_array()));
        let coinbase = job.coinbase(&[0x00, 0x1d, 0x01, 0x04]);
        let coinbase: bitcoin::Transaction = bitcoin::consensus::deserialize(&coinbase).unwrap();
        assert!(coinbase.is_coinbase());
    }

    #[test]
    fn the_merkle_root_climbs_the_branch_as_rust_bitcoin_computes_it() {
        let siblings = ["11".repeat(32), "22".repeat(32)];
        let params = block_1().get().replace("[],", &format!(r#"["{}","{}"],"#, siblings[0], siblings[1]));
        let job = Job::parse(&raw(&params), terms(&[4, 255, 255], 4)).unwrap();
        let leaf = sha256d::sha256d(&job.coinbase(&[1, 2, 3, 4]));
        let pair = |left, right| {
            let nodes = [left, right].map(bitcoin::hashes::sha256d::Hash::from_byte_array);
            bitcoin::merkle_tree::calculate_root(nodes.into_iter()).unwrap().to_byte_array()
        };
        assert_eq!(job.merkle_root(&[1, 2, 3, 4]), pair(pair(leaf, [0x11; 32]), [0x22; 32]));
    }

    #[test]
    fn n19_hostile_jobs_are_refused_with_the_field_named() {
        let good = block_1().get().to_owned();
        let branches = |n: usize| format!("[{}]", vec![format!("\"{}\"", "00".repeat(32)); n].join(","));
        let with = |from: &str, to: &str| {
            assert!(good.contains(from));
            good.replacen(from, to, 1)
        };
        for (params, what) in [
            ("[]".to_owned(), "mining.notify"),
            ("{}".to_owned(), "mining.notify"),
            ("null".to_owned(), "mining.notify"),
            (format!("[{}]", ["1"; 17].join(",")), "mining.notify"),
            (with("\"1\"", "1"), "job id"),
            (with("\"1\"", &format!("\"{}\"", "x".repeat(129))), "job id"),
            (with("0a8c", "0a8"), "previous hash"),
            (with("0a8c", "0a8cff"), "previous hash"),
            (with("0a8c", "zz8c"), "previous hash"),
            (with("\"0100000001", "\"100000001"), "coinbase 1"),
            (with("\"0100000001", &format!("\"{}", "00".repeat(COINBASE_PART_BYTES_MAX))), "coinbase 1"),
            (with("\"ffffffff0100", "\"ü"), "coinbase 2"),
            (with("[]", &branches(33)), "merkle branch"),
            (with("[]", "[\"00\"]"), "merkle branch"),
            (with("[]", "[1]"), "merkle branch"),
            (with("[]", "\"\""), "merkle branch"),
            (with("\"00000001\"", "\"1\""), "version"),
            (with("\"00000001\"", "\"+0000001\""), "version"),
            (with("\"1d00ffff\"", "\"00000000\""), "nbits"),
            (with("\"1d00ffff\"", "\"ff123456\""), "nbits"),
            (with("\"4966bc61\"", "1231469665"), "ntime"),
            (with("true", "\"true\""), "clean_jobs"),
        ] {
            let params = raw(&params);
            assert_eq!(
                Job::parse(&params, terms(&[], 4)),
                Err(Fault::Malformed(what)),
                "{:.80}",
                params.get()
            );
        }
        assert!(Job::parse(&raw(&with("[]", &branches(32))), terms(&[], 4)).is_ok());
        assert!(Job::parse(&raw(&with("true]", "false, \"extra\"]")), terms(&[], 4)).is_ok());
    }
}
