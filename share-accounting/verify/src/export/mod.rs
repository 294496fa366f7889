//! A log as a Parquet file: a row for each entry, in the log's order, with what is needed to have the log again, byte for
//! byte. Nothing is checked on the way.
//!
//! - `columns`: what a row holds; `about`: what the file says of the log
//! - `read`: the way back; `pages`: its bounds

mod about;
mod columns;
mod pages;
mod read;
#[cfg(test)]
mod tests;

pub use read::Exported;

use crate::cli::ExportArgs;
use crate::holder::Holder;
use crate::mirror::Mirror;
use about::About;
use anyhow::Context;
use columns::{COLUMNS, Row, encodings, schema};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use share_accounting::entry::Entry;
use share_accounting::log::Reader;
use share_accounting::publish::key::LogVerifier;
use share_accounting::verify::listing::Listing;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

/// Rows of a group: so many are in memory.
const GROUP_ROWS: usize = 1 << 16;
/// Bytes of a group, about, behind which the next one begins.
const GROUP_BYTES: usize = 32 << 20;

/// Writes the file.
///
/// # Errors
/// The log cannot be read, or the file not be written.
pub fn export(args: &ExportArgs) -> anyhow::Result<()> {
    let counts = match &args.key {
        Some(key) => export_copy(args, key)?,
        None => export_log(args)?,
    };
    eprintln!("{} shares and {} other entries are in {}", counts.shares, counts.others, args.out.display());
    if args.key.is_none() && !args.newest {
        eprintln!("the newest segment, which is not full yet, is not: --newest writes it, too");
    }
    Ok(())
}

/// What a pool has published.
fn export_copy(args: &ExportArgs, verifier: &LogVerifier) -> anyhow::Result<Counts> {
    let mirror = Mirror::open(&args.dir, None, verifier)?;
    let checkpoint = String::from_utf8(mirror.checkpoint()?)?;
    anyhow::ensure!(
        verifier.head(checkpoint.as_bytes())?.0 == mirror.head(),
        "the copy has changed meanwhile"
    );
    let about = About {
        network: mirror.network(),
        log_id: verifier.log_id(),
        checkpoint: Some(checkpoint),
        cosigned: mirror.cosigned().and_then(|note| String::from_utf8(note).ok()),
    };
    let (counts, file) = write(mirror.entries(), &about, &args.out)?;
    // What witnesses say is held against the time of the copy.
    file.set_modified(mirror.kept_at()?).with_context(|| args.out.display().to_string())?;
    Ok(counts)
}

/// A pool's own files.
fn export_log(args: &ExportArgs) -> anyhow::Result<Counts> {
    let log = Reader::open(&args.dir)?;
    let first = log.headers().next().with_context(|| {
        format!("there is no share log in {}; a copy of a published one needs --key", args.dir.display())
    })?;
    let about =
        About { network: first.network, log_id: Some(first.log_id), checkpoint: None, cosigned: None };
    // A commit that fails is written again elsewhere: where a segment ends is told by the next one.
    let sealed = log.headers().last().map_or(0, |newest| newest.start.index);
    let end = if args.newest { u64::MAX } else { sealed };
    let entries = log.take_while(|entry| !entry.as_ref().is_ok_and(|(index, _)| *index >= end));
    Ok(write(entries.map(|entry| Ok(entry?)), &about, &args.out)?.0)
}

/// What was written.
#[derive(Default)]
struct Counts {
    shares: u64,
    others: u64,
}

/// Whole or not at all.
fn write(
    entries: impl Iterator<Item = anyhow::Result<(u64, Entry)>>,
    about: &About,
    out: &Path,
) -> anyhow::Result<(Counts, File)> {
    let context = || format!("cannot write {}", out.display());
    let unfinished = out.with_extension("new");
    let mut writer = begin(&unfinished, about).with_context(context)?;
    let (mut listing, mut rows, mut bytes) = (Listing::default(), Vec::new(), 0);
    let mut counts = Counts::default();
    for entry in entries {
        let (index, entry) = entry?;
        let row = match listing.take(index, &entry) {
            Some(listed) => {
                counts.shares += 1;
                Row::of_share(index, &listed)
            }
            None => {
                counts.others += 1;
                Row::of_other(index, &entry)
            }
        };
        bytes += row.bytes();
        rows.push(row);
        if rows.len() >= GROUP_ROWS || bytes >= GROUP_BYTES {
            write_group(&mut writer, &rows).with_context(context)?;
            rows.clear();
            bytes = 0;
        }
    }
    if !rows.is_empty() {
        write_group(&mut writer, &rows).with_context(context)?;
    }
    let file = writer.into_inner().with_context(context)?;
    file.sync_all().and_then(|()| fs::rename(&unfinished, out)).with_context(context)?;
    Ok((counts, file))
}

fn begin(path: &Path, about: &About) -> anyhow::Result<SerializedFileWriter<File>> {
    let settings = WriterProperties::builder()
        .set_key_value_metadata(Some(about.key_values()))
        .set_statistics_enabled(EnabledStatistics::Chunk);
    let settings = encodings(settings).build();
    Ok(SerializedFileWriter::new(File::create(path)?, Arc::new(schema()?), Arc::new(settings))?)
}

fn write_group(writer: &mut SerializedFileWriter<File>, rows: &[Row]) -> anyhow::Result<()> {
    let mut group = writer.next_row_group()?;
    for (_, values) in COLUMNS {
        let column = group.next_column()?.context("the schema has a column for each")?;
        values(rows).write(column)?;
    }
    group.close()?;
    Ok(())
}
