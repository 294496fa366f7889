//! The hashes of a copy, in files beside its entries (c2sp.org/tlog-tiles): with them any server of files can carry it on,
//! and who wants a part of it can check that.

use crate::kept::write;
use crate::progress::Bar;
use anyhow::{Context, ensure};
use share_accounting::publish::tiles::{Place, Row, WIDTH};
use share_accounting::tree::{Tree, TreeHash, leaves};
use std::fs;
use std::path::Path;

/// All files of a log of so many entries, by their rows.
pub fn rows(size: u64) -> impl Iterator<Item = (Row, u64)> {
    let counts = std::iter::successors(Some(size), |count| Some(count / WIDTH as u64));
    let levels = (0..).map(Row::Level).zip(counts.take_while(|count| *count > 0));
    [(Row::Entries, size)].into_iter().chain(levels)
}

/// Writes those that are missing, or not as long as they should be; `bundle` gives entries.
///
/// # Errors
/// The entries cannot be read, or a file not be written.
pub fn write_missing(
    dir: &Path,
    size: u64,
    bundle: impl Fn(&Place) -> anyhow::Result<Vec<Vec<u8>>>,
) -> anyhow::Result<()> {
    let mut bar = Bar::new("writing hashes of", "entries", size);
    for (row, count) in rows(size) {
        let Row::Level(level) = row else { continue };
        for place in row.places(count) {
            if level == 0 {
                bar.is_at(place.number * WIDTH as u64);
            }
            let path = dir.join(place.path());
            if has_length(&path, place.width * size_of::<TreeHash>()) {
                continue;
            }
            let hashes: Vec<TreeHash> = match level.checked_sub(1) {
                None => {
                    let entries = bundle(&Place { row: Row::Entries, ..place })?;
                    leaves(&entries.iter().map(Vec::as_slice).collect::<Vec<_>>())
                }
                Some(below) => {
                    let first = place.number * WIDTH as u64;
                    let tiles = (first..).take(place.width);
                    tiles.map(|number| root(dir, below, number)).collect::<anyhow::Result<_>>()?
                }
            };
            write(&path, hashes.as_flattened())?;
        }
    }
    Ok(())
}

/// What was cut off by a crash has another one.
fn has_length(path: &Path, bytes: usize) -> bool {
    fs::metadata(path).is_ok_and(|file| file.len() == bytes as u64) // usize fits u64
}

/// Of a full tile.
fn root(dir: &Path, level: u8, number: u64) -> anyhow::Result<TreeHash> {
    let path = dir.join(Place { row: Row::Level(level), number, width: WIDTH }.path());
    let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
    let (hashes, rest) = bytes.as_chunks();
    ensure!(hashes.len() == WIDTH && rest.is_empty(), "{} is damaged: remove it", path.display());
    let mut tree = Tree::default();
    tree.extend(hashes.iter().copied());
    Ok(tree.root())
}

#[cfg(test)]
mod tests {
    use super::*;
    use share_accounting::publish::tiles::Tiles;

    /// Entries that are all different.
    fn bundle(place: &Place) -> anyhow::Result<Vec<Vec<u8>>> {
        let first = place.number * WIDTH as u64;
        Ok((first..).take(place.width).map(|index| index.to_be_bytes().to_vec()).collect())
    }

    fn level_files(size: u64) -> Vec<Place> {
        let levels = rows(size).filter(|(row, _)| *row != Row::Entries);
        levels.flat_map(|(row, count)| row.places(count)).collect()
    }

    /// That the hashes are those that a pool publishes of the same entries.
    fn assert_right(dir: &Path, size: u64) {
        let pool = tempfile::tempdir().unwrap();
        let mut tiles = Tiles::open(pool.path()).unwrap();
        for place in Row::Entries.places(size) {
            let entries = bundle(&place).unwrap();
            tiles.append(&entries.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
        }
        for place in level_files(size) {
            let ours = fs::read(dir.join(place.path())).unwrap();
            assert!(ours == tiles.read(&place).unwrap(), "{} of {size} entries", place.path());
        }
    }

    #[test]
    fn a_growing_copy_has_the_hashes_that_its_pool_publishes() {
        let dir = tempfile::tempdir().unwrap();
        for (size, files) in
            [(0, 0), (1, 1), (255, 1), (256, 2), (257, 3), (65_535, 257), (65_536, 258), (65_793, 261)]
        {
            assert_eq!(level_files(size).len(), files, "{size} entries");
            write_missing(dir.path(), size, bundle).unwrap();
            assert_right(dir.path(), size);
        }
    }

    #[test]
    fn what_a_crash_has_cut_off_is_written_again() {
        let dir = tempfile::tempdir().unwrap();
        write_missing(dir.path(), 600, bundle).unwrap();
        for place in level_files(600) {
            let path = dir.path().join(place.path());
            for length in [0, 32, place.width as u64 * 32 - 1] {
                fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length).unwrap();
                write_missing(dir.path(), 600, bundle).unwrap();
                assert_right(dir.path(), 600);
            }
        }
    }
}
