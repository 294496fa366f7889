//! A log's shares as a Parquet file: one row each, in the log's order. Nothing is checked on the way.
//!
//! - [`columns`]: what a row holds

mod columns;
#[cfg(test)]
mod tests;

use crate::cli::ExportArgs;
use crate::mirror::Mirror;
use anyhow::Context;
use columns::{COLUMNS, Row, schema};
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
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

/// Writes the file.
///
/// # Errors
/// The log cannot be read, or the file not be written.
pub fn export(args: &ExportArgs) -> anyhow::Result<()> {
    let shares = match &args.key {
        Some(key) => {
            let mirror = Mirror::open(&args.dir, None, &LogVerifier::parse(key)?)?;
            write(mirror.entries(), &args.out)?
        }
        None => {
            let log = Reader::open(&args.dir)?;
            // A commit that fails is written again elsewhere: where a segment ends is told by the next one.
            let sealed = log.headers().last().map_or(0, |newest| newest.start.index);
            let end = if args.newest { u64::MAX } else { sealed };
            let entries = log.take_while(|entry| !entry.as_ref().is_ok_and(|(index, _)| *index >= end));
            write(entries.map(|entry| Ok(entry?)), &args.out)?
        }
    };
    eprintln!("{shares} shares are in {}", args.out.display());
    Ok(())
}

/// Whole or not at all; says how many there are.
fn write(entries: impl Iterator<Item = anyhow::Result<(u64, Entry)>>, out: &Path) -> anyhow::Result<u64> {
    let context = || format!("cannot write {}", out.display());
    let unfinished = out.with_extension("new");
    let file = File::create(&unfinished).with_context(context)?;
    let settings = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut writer = SerializedFileWriter::new(file, Arc::new(schema()?), Arc::new(settings))?;
    let (mut listing, mut rows, mut count) = (Listing::default(), Vec::new(), 0);
    for entry in entries {
        let (index, entry) = entry?;
        if let Some(listed) = listing.take(index, &entry) {
            rows.push(Row::of(index, &listed));
            count += 1;
        }
        if rows.len() >= GROUP_ROWS {
            write_group(&mut writer, &rows).with_context(context)?;
            rows.clear();
        }
    }
    if !rows.is_empty() {
        write_group(&mut writer, &rows).with_context(context)?;
    }
    let file = writer.into_inner().with_context(context)?;
    file.sync_all().and_then(|()| fs::rename(&unfinished, out)).with_context(context)?;
    Ok(count)
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
