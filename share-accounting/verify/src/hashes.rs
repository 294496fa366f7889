//! The hashes of a copy, in files beside its entries (c2sp.org/tlog-tiles): with them any server of files can carry it on,
//! and who wants a part of it can check that.

use crate::kept::write;
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

/// Writes those that are missing; `bundle` gives entries.
///
/// # Errors
/// The entries cannot be read, or a file not be written.
pub fn write_missing(
    dir: &Path,
    size: u64,
    bundle: impl Fn(&Place) -> anyhow::Result<Vec<Vec<u8>>>,
) -> anyhow::Result<()> {
    for (row, count) in rows(size) {
        let Row::Level(level) = row else { continue };
        for place in row.places(count) {
            let path = dir.join(place.path());
            if path.exists() {
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
