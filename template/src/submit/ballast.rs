//! Space kept back for blocks: a file beside them that goes when a block finds the disk full.

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What is kept back where there is room: four of the largest blocks.
const BALLAST_BYTES: u64 = 16 << 20;
/// No more is kept back than what is free divided by this.
const FREE_DIVISOR: u64 = 4;
/// Unit of [`MetadataExt::blocks`].
const SECTOR_BYTES: u64 = 512;

/// The file of a folder of blocks that keeps space back for them.
#[derive(Debug)]
pub(super) struct Ballast {
    path: PathBuf,
}

impl Ballast {
    pub(super) fn of(dir: &Path) -> Self {
        Self { path: dir.join("ballast") }
    }

    /// Keeps back as much as there is room for. It is no error if that is little or nothing: a block may still
    /// find room.
    pub(super) fn keep(&self) {
        match self.grow() {
            Ok(BALLAST_BYTES..) => {}
            Ok(bytes) => tracing::warn!(
                bytes,
                wanted = BALLAST_BYTES,
                "the disk is nearly full: little can be kept back for blocks; make room"
            ),
            Err(error) => {
                tracing::warn!(%error, file = %self.path.display(), "no space can be kept back for blocks");
            }
        }
    }

    /// Gives the space back; `false` if there was none.
    pub(super) fn give_up(&self) -> bool {
        fs::remove_file(&self.path).is_ok()
    }

    /// Brings the file to the length that the disk allows; gives its length.
    fn grow(&self) -> io::Result<u64> {
        let disk = statvfs(self.path.parent().expect("the path was made from a folder"))?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let mut file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        let kept = file.metadata()?.len();
        let wanted = BALLAST_BYTES.min(free.saturating_add(kept) / FREE_DIVISOR);
        if kept >= wanted {
            return Ok(kept);
        }
        let grown = lengthen(&mut file, kept, wanted - kept);
        if grown.is_err() {
            file.set_len(kept)?;
        }
        grown.map(|()| wanted)
    }
}

/// Makes a file longer by space that is really its own.
fn lengthen(file: &mut File, from: u64, bytes: u64) -> io::Result<()> {
    match fallocate(&*file, FallocateFlags::empty(), from, bytes) {
        // ZFS says yes and takes nothing.
        Ok(()) if file.metadata()?.blocks() * SECTOR_BYTES >= from + bytes => {}
        Ok(()) => {
            file.set_len(from)?;
            append_noise(file, bytes)?;
        }
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => append_noise(file, bytes)?,
        Err(error) => return Err(error.into()),
    }
    file.sync_all()
}

/// Appends what no file system can compress: zeros would take no space on some.
fn append_noise(file: &mut File, bytes: u64) -> io::Result<()> {
    let mut file = BufWriter::with_capacity(64 << 10, file);
    let mut word = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..bytes.div_ceil(8) {
        // Xorshift: never zero.
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        file.write_all(&word.to_le_bytes())?;
    }
    file.flush()
}

#[cfg(test)]
#[path = "ballast_tests.rs"]
mod tests;
