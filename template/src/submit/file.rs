//! Blocks on disk: `HEIGHT-HASH.block`, and `HEIGHT-HASH.verdict` beside it once there is one.
//! `HEIGHT-HASH.torn` is one whose write was cut off: by a crash, before anybody was told of it, or by a full
//! disk, and then the block went to the nodes all the same and the log has its note.
//!
//! A block file is the raw block ‖ note ‖ trailer { `SLBK` ‖ block bytes (4) ‖ note bytes (4) ‖ CRC-32C of
//! all before (4) }, numbers little-endian. No block is ever deleted.

use bitcoin::BlockHash;
use bitcoin::consensus::Decodable;
use bitcoin::hashes::Hash;
use serde_json::value::RawValue;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const MAGIC: [u8; 4] = *b"SLBK";
const TRAILER_BYTES: usize = 4 + 4 + 4 + 4;

/// Why a block file cannot be written or used.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: it holds no whole block", .0.display())]
    Torn(PathBuf),
}

impl FileError {
    /// Whether space or quota is used up.
    pub(super) fn is_disk_full(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, Self::Io { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded))
    }
}

/// A block with the caller's note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredBlock {
    pub(super) hash: BlockHash,
    pub(super) height: u32,
    pub(super) block: Vec<u8>,
    pub(super) note: Vec<u8>,
}

/// A block's place on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BlockFile {
    dir: PathBuf,
    hash: BlockHash,
    height: u32,
}

impl BlockFile {
    /// Writes a block and its name durably, over what an earlier attempt has left. After an error what is
    /// there stays: it may be the whole block without its note.
    pub(super) fn write(dir: &Path, stored: &StoredBlock) -> Result<Self, FileError> {
        let file = Self { dir: dir.to_owned(), hash: stored.hash, height: stored.height };
        let path = file.path("block");
        file.write_durably(&path, &encode(stored)).map_err(|source| FileError::Io { path, source })?;
        Ok(file)
    }

    /// Reads the block back.
    pub(super) fn read(&self) -> Result<StoredBlock, FileError> {
        let path = self.path("block");
        let bytes = std::fs::read(&path).map_err(|source| FileError::Io { path: path.clone(), source })?;
        let (block, note) = decode(&bytes).ok_or(FileError::Torn(path))?;
        Ok(StoredBlock { hash: self.hash, height: self.height, block: block.to_vec(), note: note.to_vec() })
    }

    /// The file of the block that this one builds on, if that was ours too.
    pub(super) fn parent(&self) -> Option<Self> {
        let stored = self.read().ok()?;
        let hash = BlockHash::from_byte_array(stored.block.get(4..36)?.try_into().ok()?);
        let parent = Self { dir: self.dir.clone(), hash, height: self.height.checked_sub(1)? };
        parent.path("block").is_file().then_some(parent)
    }

    /// Writes the verdict durably; from then on the block is not submitted again. After an error it is.
    pub(super) fn write_verdict(&self, text: &str) -> Result<(), FileError> {
        let path = self.path("verdict");
        self.write_durably(&path, text.as_bytes()).map_err(|source| {
            // A file that is there counts, even an empty one. If it stays, the node has judged, and only its words
            // are lost.
            let _ = std::fs::remove_file(&path);
            FileError::Io { path, source }
        })
    }

    fn path(&self, kind: &str) -> PathBuf {
        self.dir.join(format!("{}-{}.{kind}", self.height, self.hash))
    }

    fn write_durably(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        File::open(&self.dir)?.sync_all()
    }
}

fn encode(stored: &StoredBlock) -> Vec<u8> {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).expect("blocks and notes are below 4 GiB");
    let mut bytes = Vec::with_capacity(stored.block.len() + stored.note.len() + TRAILER_BYTES);
    bytes.extend_from_slice(&stored.block);
    bytes.extend_from_slice(&stored.note);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&length(&stored.block).to_le_bytes());
    bytes.extend_from_slice(&length(&stored.note).to_le_bytes());
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

/// Block and note; a file whose end is torn still gives its block if that is whole.
fn decode(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    decode_sealed(bytes).or_else(|| {
        let mut rest = bytes;
        bitcoin::Block::consensus_decode(&mut rest).ok()?;
        Some((&bytes[..bytes.len() - rest.len()], &[]))
    })
}

fn decode_sealed(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (content, trailer) = bytes.split_at_checked(bytes.len().checked_sub(TRAILER_BYTES)?)?;
    let number = |at: usize| Some(u32::from_le_bytes(*trailer[at..].first_chunk()?));
    if trailer[..4] != MAGIC || crc32c::crc32c(&bytes[..bytes.len() - 4]) != number(12)? {
        return None;
    }
    let (block, note) = content.split_at_checked(number(4)? as usize)?; // a u32 fits a usize here
    (note.len() == number(8)? as usize).then_some((block, note)) // as above
}

/// All blocks of a folder that have no verdict, lowest first. Torn ones are set aside: they are told once, not at
/// every start.
pub(super) fn without_verdict(dir: &Path) -> io::Result<Vec<(BlockFile, StoredBlock)>> {
    let (found, torn) = list(dir, |file| !file.path("verdict").exists())?;
    for file in torn {
        let (from, to) = (file.path("block"), file.path("torn"));
        tracing::warn!(file = %to.display(), "set aside a block file whose write was cut off: by a crash, and then its share was not acknowledged, or by a full disk, and then the block went to the nodes and the log of that time has its note");
        if let Err(error) = std::fs::rename(&from, &to) {
            tracing::error!(%error, file = %from.display(), "a torn block file cannot be renamed");
        }
    }
    Ok(found)
}

/// The blocks of a folder that have a verdict and are wanted, lowest first; `wanted` is asked before a file
/// is read.
pub(super) fn with_verdict(
    dir: &Path,
    mut wanted: impl FnMut(BlockHash) -> bool,
) -> io::Result<Vec<(BlockFile, StoredBlock)>> {
    list(dir, |file| file.path("verdict").exists() && wanted(file.hash)).map(|(found, _)| found)
}

/// What a folder holds: blocks, lowest first, and files that hold no whole one.
type Listing = (Vec<(BlockFile, StoredBlock)>, Vec<BlockFile>);

/// A file that the system does not give out is left alone and told.
fn list(dir: &Path, mut keep: impl FnMut(&BlockFile) -> bool) -> io::Result<Listing> {
    let (mut found, mut torn) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let Some(file) = name.to_str().and_then(|name| named(dir, name)) else { continue };
        if !keep(&file) {
            continue;
        }
        match file.read() {
            Ok(stored) => found.push((file, stored)),
            Err(FileError::Torn(_)) => torn.push(file),
            Err(e) => tracing::error!(error = %e, "a block file cannot be used; it stays where it is"),
        }
    }
    found.sort_by_key(|(file, _)| (file.height, file.hash));
    Ok((found, torn))
}

fn named(dir: &Path, name: &str) -> Option<BlockFile> {
    let (height, hash) = name.strip_suffix(".block")?.split_once('-')?;
    Some(BlockFile { dir: dir.to_owned(), hash: hash.parse().ok()?, height: height.parse().ok()? })
}

/// A block as the one parameter of `submitblock`.
pub(super) fn submit_params(block: &[u8]) -> Box<RawValue> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut json = Vec::with_capacity(2 * block.len() + 4);
    json.extend_from_slice(b"[\"");
    json.extend(
        block.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]),
    );
    json.extend_from_slice(b"\"]");
    let json = String::from_utf8(json).expect("hex digits are ASCII");
    RawValue::from_string(json).expect("a list of one string is JSON")
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::hashes::Hash;
    use proptest::prelude::*;

    fn stored(block: Vec<u8>, note: Vec<u8>) -> StoredBlock {
        StoredBlock { hash: BlockHash::all_zeros(), height: 7, block, note }
    }

    proptest! {
        #[test]
        fn a_file_gives_back_block_and_note(block: Vec<u8>, note: Vec<u8>) {
            let dir = tempfile::tempdir().unwrap();
            let stored = stored(block, note);
            let file = BlockFile::write(dir.path(), &stored).unwrap();
            prop_assert_eq!(file.read().unwrap(), stored);
        }

        #[test]
        fn d03_a_cut_or_flipped_file_is_never_taken_for_whole(cut in 0_usize..300, bit in 0_usize..2_400) {
            let genesis = bitcoin::consensus::serialize(&bitcoin::constants::genesis_block(bitcoin::Network::Regtest));
            let whole = encode(&stored(genesis.clone(), b"note".to_vec()));
            let cut = &whole[..cut.min(whole.len() - 1)];
            prop_assert!(decode_sealed(cut).is_none());
            // A torn end costs the note, not the block.
            prop_assert_eq!(decode(cut).map(|(block, _)| block), (cut.len() >= genesis.len()).then_some(&genesis[..]));
            let mut flipped = whole.clone();
            flipped[bit / 8 % whole.len()] ^= 1 << (bit % 8);
            prop_assert!(decode_sealed(&flipped).is_none());
        }
    }

    #[test]
    fn blocks_without_a_verdict_are_found_and_others_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let genesis =
            bitcoin::consensus::serialize(&bitcoin::constants::genesis_block(bitcoin::Network::Regtest));
        let mut blocks: Vec<StoredBlock> = (0..3_u8)
            .map(|i| StoredBlock {
                hash: BlockHash::from_byte_array([i; 32]),
                height: 10 - u32::from(i),
                ..stored(genesis.clone(), vec![i])
            })
            .collect();
        let files: Vec<BlockFile> = blocks.iter().map(|b| BlockFile::write(dir.path(), b).unwrap()).collect();
        files[1].write_verdict("node: accepted: null\n").unwrap();
        std::fs::write(dir.path().join("12-nonsense.block"), b"x").unwrap();
        let torn = format!("12-{}", BlockHash::from_byte_array([9; 32]));
        std::fs::write(dir.path().join(format!("{torn}.block")), b"torn").unwrap();
        let found: Vec<StoredBlock> =
            without_verdict(dir.path()).unwrap().into_iter().map(|(_, b)| b).collect();
        blocks.remove(1);
        blocks.reverse();
        assert_eq!(found, blocks);
        assert!(!dir.path().join(format!("{torn}.block")).exists());
        assert_eq!(std::fs::read(dir.path().join(format!("{torn}.torn"))).unwrap(), b"torn");
        let judged = |wanted: bool| with_verdict(dir.path(), |_| wanted).unwrap();
        assert_eq!(judged(true).len(), 1);
        assert_eq!(judged(true)[0].1.note, [1]);
        assert!(judged(false).is_empty());
    }

    #[test]
    fn d04_a_verdict_that_a_full_disk_cuts_off_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let genesis =
            bitcoin::consensus::serialize(&bitcoin::constants::genesis_block(bitcoin::Network::Regtest));
        let file = BlockFile::write(dir.path(), &stored(genesis, Vec::new())).unwrap();
        std::os::unix::fs::symlink("/dev/full", file.path("verdict")).unwrap();
        let failure = file.write_verdict("node: accepted: null\n").unwrap_err();
        assert!(failure.is_disk_full(), "{failure}");
        assert_eq!(without_verdict(dir.path()).unwrap().len(), 1);
    }

    #[test]
    fn submitblock_gets_lower_case_hex() {
        assert_eq!(submit_params(&[0x00, 0x1f, 0xab]).get(), "[\"001fab\"]");
    }
}
