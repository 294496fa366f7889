//! An export read again, as the log that it was made of. It may come from a stranger, and be anything.
//!
//! Bounded are the footer, each row group, each page, and what pages would have the decoder reserve. Not bounded by us:
//! what the library makes of the footer, some hundred times its size at worst. Where the library panics, that is an error.

use super::about::About;
use super::columns::{COLUMNS, schema};
use super::pages::Bounded;
use super::{GROUP_BYTES, GROUP_ROWS};
use crate::progress::Shown;
use anyhow::{Context, bail, ensure};
use bitcoin::hex::FromHex;
use parquet::basic::Compression;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use parquet::data_type::{ByteArray, DataType};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use share_accounting::entry::{Entry, Extranonce, Share};
use share_accounting::tree::{Tree, TreeHash, leaves};
use share_accounting::verify::listing::Listing;
use std::array;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use stratum::pot::Pot;
use stratum::target::Work;

/// Longest footer that is read: about a thousand million entries have one.
const FOOTER_BYTES_MAX: u32 = 64 << 20;
/// Longest row group that is read: a group of [`GROUP_BYTES`], one entry more, and what the format adds.
const GROUP_BYTES_MAX: u64 = 2 * GROUP_BYTES as u64; // usize fits u64
/// Rows that are decoded together.
const BATCH_ROWS: usize = 4_096;

/// A file that `export` has written.
pub struct Exported {
    path: PathBuf,
    reader: SerializedFileReader<File>,
    about: About,
    size: u64,
    /// Bytes of the entries that were asked for last, from an index on.
    last: (u64, Vec<Vec<u8>>),
}

/// Does what the library may do badly with hostile bytes.
fn guarded<T>(read: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| bail!("its bytes are none of a Parquet file"))
}

impl Exported {
    /// Opens a file.
    ///
    /// # Errors
    /// It cannot be read, or `export` writes no such file.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        Self::open_file(path).with_context(|| format!("{} is no export of a log", path.display()))
    }

    fn open_file(path: &Path) -> anyhow::Result<Self> {
        let mut file = File::open(path)?;
        let mut tail = [0; 8];
        file.seek(SeekFrom::End(-8))?;
        file.read_exact(&mut tail)?;
        let [length @ .., _, _, _, _] = tail;
        ensure!(u32::from_le_bytes(length) <= FOOTER_BYTES_MAX, "its footer is too long");
        let reader = guarded(|| Ok(SerializedFileReader::new(file)?))?;
        let metadata = reader.metadata();
        ensure!(*metadata.file_metadata().schema() == schema()?, "it has other columns");
        let about = About::read(metadata.file_metadata()).context("it does not say of what chain it is")?;
        metadata.row_groups().iter().try_for_each(check_group)?;
        // Each group was checked: at most 2^16 rows.
        let size = metadata.row_groups().iter().map(|group| group.num_rows().cast_unsigned()).sum();
        let rows = u64::try_from(metadata.file_metadata().num_rows());
        ensure!(rows == Ok(size), "its row groups are not all that it has");
        Ok(Self { path: path.to_owned(), reader, about, size, last: (0, Vec::new()) })
    }

    /// Of what log it is.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// Number of entries.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// When it was made, or came here.
    ///
    /// # Errors
    /// It is not there any more.
    pub fn made_at(&self) -> anyhow::Result<SystemTime> {
        Ok(fs::metadata(&self.path)?.modified()?)
    }

    /// All entries.
    pub fn entries(&self) -> Box<dyn Iterator<Item = anyhow::Result<(u64, Entry)>> + '_> {
        Box::new(self.rows().map(|row| row.map(|row| (row.index, row.entry))))
    }

    /// The bytes of all entries, some at a time.
    pub fn batches(&self) -> Box<dyn Iterator<Item = anyhow::Result<Vec<Vec<u8>>>> + '_> {
        Box::new(Batches::of(self).map(|batch| batch.map(|rows| rows.iter().map(Stored::bytes).collect())))
    }

    /// The bytes of one entry.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn entry(&mut self, index: u64) -> anyhow::Result<Vec<u8>> {
        let at = |(first, entries): &(u64, Vec<Vec<u8>>)| {
            entries.get(usize::try_from(index.checked_sub(*first)?).ok()?).cloned()
        };
        if let Some(entry) = at(&self.last) {
            return Ok(entry);
        }
        let rows = Batches::at(self, index).next().context("it has no such entry")??;
        let first = rows.first().map_or(0, |row| row.index);
        self.last = (first, rows.iter().map(Stored::bytes).collect());
        at(&self.last).context("it has no such entry")
    }

    /// The root over all entries, after a look whether what the file adds to shares, for people, follows from them.
    ///
    /// # Errors
    /// It does not, or the file cannot be read.
    pub fn check(&self) -> anyhow::Result<TreeHash> {
        let (mut listing, mut tree, mut unhashed) = (Listing::default(), Tree::default(), Vec::new());
        for row in Shown::new("comparing", self.size, self.rows()) {
            let row = row?;
            row.compare(&mut listing).with_context(|| self.path.display().to_string())?;
            unhashed.push(row.bytes());
            if unhashed.len() == BATCH_ROWS {
                extend(&mut tree, &unhashed);
                unhashed.clear();
            }
        }
        extend(&mut tree, &unhashed);
        Ok(tree.root())
    }

    fn rows(&self) -> impl Iterator<Item = anyhow::Result<Stored>> {
        Batches::of(self).flat_map(|batch| match batch {
            Ok(rows) => rows.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        })
    }
}

fn extend(tree: &mut Tree, entries: &[Vec<u8>]) {
    tree.extend(leaves(&entries.iter().map(Vec::as_slice).collect::<Vec<_>>()));
}

/// That a group is as `export` writes them, by what the footer says of it.
fn check_group(group: &RowGroupMetaData) -> anyhow::Result<()> {
    let is_bounded = (1..=GROUP_ROWS as i64).contains(&group.num_rows()); // 2^16
    let is_plain = group.columns().iter().all(|column| column.compression() == Compression::UNCOMPRESSED);
    let sizes = group.columns().iter().map(|column| u64::try_from(column.compressed_size()).ok());
    let bytes = sizes.sum::<Option<u64>>();
    let is_short = bytes.is_some_and(|bytes| bytes <= GROUP_BYTES_MAX);
    ensure!(is_bounded && is_plain && is_short, "its row groups are not as they should be");
    Ok(())
}

/// A row as it was read.
struct Stored {
    index: u64,
    entry: Entry,
    script: Option<ByteArray>,
    hash: Option<ByteArray>,
}

impl Stored {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.entry.encode(&mut bytes);
        bytes
    }

    fn compare(&self, listing: &mut Listing) -> anyhow::Result<()> {
        let Some(listed) = listing.take(self.index, &self.entry) else { return Ok(()) };
        let is_so = |said: &Option<ByteArray>, known: Option<String>| match (said, known) {
            (None, None) => true,
            (Some(said), Some(known)) => said.as_utf8().is_ok_and(|said| said == known),
            _ => false,
        };
        let script = listed.script.map(|script| script.to_hex_string());
        let index = self.index;
        ensure!(
            is_so(&self.script, script),
            "the row of entry {index} has another payee_script than its payee"
        );
        let hash = listed.hash.map(|hash| hash.to_string());
        ensure!(is_so(&self.hash, hash), "the row of entry {index} has another header_hash than its share");
        Ok(())
    }
}

/// Reads rows, some at a time; ends at the first error.
struct Batches<'a> {
    exported: &'a Exported,
    /// Index of the next entry.
    next: u64,
    group: usize,
    open: Option<Group>,
    failed: bool,
}

/// A row group that is being read.
struct Group {
    columns: Vec<ColumnReader>,
    rows_left: usize,
}

impl<'a> Batches<'a> {
    fn of(exported: &'a Exported) -> Self {
        Self { exported, next: 0, group: 0, open: None, failed: false }
    }

    /// Begins with the batch that an entry is in.
    fn at(exported: &'a Exported, index: u64) -> impl Iterator<Item = anyhow::Result<Vec<Stored>>> {
        let mut batches = Self::of(exported);
        let mut skipped = Ok(());
        for group in exported.reader.metadata().row_groups() {
            let rows = group.num_rows().cast_unsigned();
            if index - batches.next < rows {
                let into = (index - batches.next) as usize / BATCH_ROWS * BATCH_ROWS; // below 2^16
                skipped = guarded(|| batches.pass(into));
                break;
            }
            batches.next += rows;
            batches.group += 1;
        }
        skipped.err().map(Err).into_iter().chain(batches)
    }

    /// Passes rows of the next group.
    fn pass(&mut self, rows: usize) -> anyhow::Result<()> {
        let mut group = Group::open(&self.exported.reader, self.group)?;
        self.group += 1;
        for column in &mut group.columns {
            ensure!(skip(column, rows)? == rows, "a column ends before its rows");
        }
        group.rows_left = group.rows_left.saturating_sub(rows);
        self.next += rows as u64; // usize fits u64
        self.open = Some(group);
        Ok(())
    }

    fn read(&mut self) -> anyhow::Result<Option<Vec<Stored>>> {
        let reader = &self.exported.reader;
        let group = match &mut self.open {
            Some(group) => group,
            None if self.group == reader.num_row_groups() => return Ok(None),
            None => {
                let group = Group::open(reader, self.group)?;
                self.group += 1;
                self.open.insert(group)
            }
        };
        let count = group.rows_left.min(BATCH_ROWS);
        let mut columns = Vec::with_capacity(group.columns.len());
        for column in &mut group.columns {
            columns.push(read(column, count)?.into_iter());
        }
        group.rows_left -= count;
        if group.rows_left == 0 {
            // Whoever reads on would find rows that are not audited.
            for column in &mut group.columns {
                ensure!(skip(column, 1)? == 0, "a column goes on behind its rows");
            }
            self.open = None;
        }
        let mut rows = Vec::with_capacity(count);
        for index in (self.next..).take(count) {
            let cells = array::from_fn(|at| columns.get_mut(at)?.next().flatten());
            rows.push(
                stored(index, cells).with_context(|| format!("row {index} is no entry of that index"))?,
            );
        }
        self.next += count as u64; // usize fits u64
        Ok(Some(rows))
    }
}

impl Iterator for Batches<'_> {
    type Item = anyhow::Result<Vec<Stored>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let rows = guarded(|| self.read()).with_context(|| self.exported.path.display().to_string());
        self.failed = rows.is_err();
        rows.transpose()
    }
}

impl Group {
    fn open(reader: &SerializedFileReader<File>, number: usize) -> ParquetResult<Self> {
        let group = reader.get_row_group(number)?;
        let open = |(at, column): (usize, &parquet::file::metadata::ColumnChunkMetaData)| {
            let pages = Box::new(Bounded(group.get_column_page_reader(at)?));
            Ok(get_column_reader(column.column_descr_ptr(), pages))
        };
        let columns = group.metadata().columns().iter().enumerate().map(open);
        let columns = columns.collect::<ParquetResult<_>>()?;
        Ok(Self { columns, rows_left: usize::try_from(group.metadata().num_rows())? })
    }
}

/// One value.
#[derive(Debug, Clone)]
enum Cell {
    Long(i64),
    Int(i32),
    Flag(bool),
    Bytes(ByteArray),
}

impl Cell {
    fn long(self) -> Option<u64> {
        if let Self::Long(value) = self { Some(value.cast_unsigned()) } else { None }
    }

    fn int(self) -> Option<i32> {
        if let Self::Int(value) = self { Some(value) } else { None }
    }

    fn flag(self) -> Option<bool> {
        if let Self::Flag(value) = self { Some(value) } else { None }
    }

    fn bytes(self) -> Option<ByteArray> {
        if let Self::Bytes(value) = self { Some(value) } else { None }
    }

    fn text<T>(self, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        parse(self.bytes()?.as_utf8().ok()?)
    }
}

/// The next values of a column, all that were asked for.
fn read(column: &mut ColumnReader, count: usize) -> ParquetResult<Vec<Option<Cell>>> {
    fn typed<T: DataType>(
        column: &mut ColumnReaderImpl<T>,
        count: usize,
        cell: fn(T::T) -> Cell,
    ) -> ParquetResult<Vec<Option<Cell>>> {
        let (mut values, mut there) = (Vec::new(), Vec::new());
        let (records, _, _) = column.read_records(count, Some(&mut there), None, &mut values)?;
        if records != count {
            return Err(ParquetError::EOF("a column ends before its rows".to_owned()));
        }
        let mut values = values.into_iter().map(cell);
        if there.is_empty() {
            return Ok(values.map(Some).collect());
        }
        Ok(there.into_iter().map(|level| if level == 0 { None } else { values.next() }).collect())
    }
    match column {
        ColumnReader::Int64ColumnReader(column) => typed(column, count, Cell::Long),
        ColumnReader::Int32ColumnReader(column) => typed(column, count, Cell::Int),
        ColumnReader::BoolColumnReader(column) => typed(column, count, Cell::Flag),
        ColumnReader::ByteArrayColumnReader(column) => typed(column, count, Cell::Bytes),
        _ => Err(ParquetError::General("no column of an export".to_owned())),
    }
}

/// Passes values of a column; says how many there were.
fn skip(column: &mut ColumnReader, count: usize) -> ParquetResult<usize> {
    match column {
        ColumnReader::Int64ColumnReader(column) => column.skip_records(count),
        ColumnReader::Int32ColumnReader(column) => column.skip_records(count),
        ColumnReader::BoolColumnReader(column) => column.skip_records(count),
        ColumnReader::ByteArrayColumnReader(column) => column.skip_records(count),
        _ => Err(ParquetError::General("no column of an export".to_owned())),
    }
}

/// The entry of a row, in the order of [`COLUMNS`]; `None` if it is none, or not just one.
fn stored(index: u64, cells: [Option<Cell>; COLUMNS.len()]) -> Option<Stored> {
    let [said_index, of_share @ .., entry] = cells;
    if said_index?.long()? != index {
        return None;
    }
    let Some(bytes) = entry else { return stored_share(index, of_share) };
    if of_share.iter().any(Option::is_some) {
        return None;
    }
    let bytes = bytes.bytes()?;
    match Entry::decode(bytes.data()).ok()? {
        // It would be missing in the table.
        (Entry::Share(_), _) => None,
        (entry, length) => {
            (length == bytes.len()).then_some(Stored { index, entry, script: None, hash: None })
        }
    }
}

fn stored_share(index: u64, cells: [Option<Cell>; COLUMNS.len() - 2]) -> Option<Stored> {
    let [
        pot,
        site,
        payee,
        script,
        job,
        ntime,
        nonce,
        version,
        extranonce,
        credited,
        block_candidate,
        received,
        total_work,
        hash,
    ] = cells;
    let share = Share {
        pot: Pot::try_from(i8::try_from(pot?.int()?).ok()?).ok()?,
        site: u16::try_from(site?.int()?).ok()?,
        payee: payee?.int()?.cast_unsigned(),
        job: job?.long()?,
        ntime: ntime?.int()?.cast_unsigned(),
        nonce: nonce?.int()?.cast_unsigned(),
        version: version?.int()?.cast_unsigned(),
        extranonce: extranonce?.text(|hex| Extranonce::new(&Vec::from_hex(hex).ok()?))?,
        credited: credited?.flag()?,
        block_candidate: block_candidate?.flag()?,
        received_unix_ms: received?.long()?,
        total_work: Work(total_work?.text(|number| number.parse().ok())?),
    };
    let (script, hash) = (script.and_then(Cell::bytes), hash.and_then(Cell::bytes));
    Some(Stored { index, entry: Entry::Share(share), script, hash })
}
