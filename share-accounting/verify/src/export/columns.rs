//! The columns: names, types and values, in one table. A row is an entry: a share in columns of its own, whatever else
//! is in the log as its bytes.

use bitcoin::BlockHash;
use bitcoin::hex::DisplayHex;
use parquet::basic::Encoding;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterPropertiesBuilder;
use parquet::file::writer::SerializedColumnWriter;
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::{ColumnPath, Type};
use share_accounting::entry::{Entry, Share};
use share_accounting::verify::listing::Listed;

/// Bytes of a share's row, but for its script.
const SHARE_ROW_BYTES: usize = 300;

/// An entry.
pub struct Row {
    index: u64,
    held: Held,
}

enum Held {
    Share(ShareRow),
    /// What is no share, encoded.
    Other(Vec<u8>),
}

struct ShareRow {
    share: Share,
    script: Option<String>,
    hash: Option<BlockHash>,
}

impl Row {
    pub fn of_share(index: u64, listed: &Listed<'_>) -> Self {
        let script = listed.script.map(|script| script.to_hex_string());
        let share = ShareRow { share: listed.share.clone(), script, hash: listed.hash };
        Self { index, held: Held::Share(share) }
    }

    pub fn of_other(index: u64, entry: &Entry) -> Self {
        let mut bytes = Vec::new();
        entry.encode(&mut bytes);
        Self { index, held: Held::Other(bytes) }
    }

    /// The one share under the hash of another.
    #[cfg(test)]
    pub fn showing(mut self, other: &Self) -> Self {
        if let (Held::Share(share), Held::Share(other)) = (&mut self.held, &other.held) {
            share.hash = other.hash;
        }
        self
    }

    /// How much of a file it takes, about.
    pub fn bytes(&self) -> usize {
        match &self.held {
            Held::Share(share) => SHARE_ROW_BYTES + share.script.as_ref().map_or(0, String::len),
            Held::Other(bytes) => bytes.len(),
        }
    }

    fn share(&self) -> Option<&ShareRow> {
        match &self.held {
            Held::Share(share) => Some(share),
            Held::Other(_) => None,
        }
    }

    fn other(&self) -> Option<Vec<u8>> {
        match &self.held {
            Held::Share(_) => None,
            Held::Other(bytes) => Some(bytes.clone()),
        }
    }
}

/// Values of one column for some rows.
pub enum Values {
    Longs(Cells<i64>),
    Ints(Cells<i32>),
    Flags(Cells<bool>),
    Bytes(Cells<ByteArray>),
}

/// Those that are there, and for each row whether one is; without that if all are.
pub struct Cells<T>(Vec<T>, Option<Vec<i16>>);

/// A column's declaration, and its values for some rows.
type Column = (&'static str, fn(&[Row]) -> Values);

/// All of them. Numbers without a sign have the same bits as those of the file that have one. Hashes are
/// written as block explorers do, work as a decimal number: it has up to 128 bits.
pub const COLUMNS: &[Column; 16] = &[
    ("required int64 index (INTEGER(64,false))", |rows| {
        Values::Longs(Cells(rows.iter().map(|row| row.index.cast_signed()).collect(), None))
    }),
    ("optional int32 pot (INTEGER(8,true))", |rows| ints(rows, |row| i32::from(row.share.pot.get()))),
    ("optional int32 site (INTEGER(16,false))", |rows| ints(rows, |row| row.share.site.into())),
    ("optional int32 payee (INTEGER(32,false))", |rows| ints(rows, |row| row.share.payee.cast_signed())),
    ("optional binary payee_script (STRING)", |rows| texts(rows, |row| row.script.clone())),
    ("optional int64 job (INTEGER(64,false))", |rows| longs(rows, |row| row.share.job)),
    ("optional int32 ntime (INTEGER(32,false))", |rows| ints(rows, |row| row.share.ntime.cast_signed())),
    ("optional int32 nonce (INTEGER(32,false))", |rows| ints(rows, |row| row.share.nonce.cast_signed())),
    ("optional int32 version (INTEGER(32,false))", |rows| ints(rows, |row| row.share.version.cast_signed())),
    ("optional binary extranonce (STRING)", |rows| {
        texts(rows, |row| Some(row.share.extranonce.as_bytes().to_lower_hex_string()))
    }),
    ("optional boolean credited", |rows| flags(rows, |row| row.share.credited)),
    ("optional boolean block_candidate", |rows| flags(rows, |row| row.share.block_candidate)),
    ("optional int64 received (TIMESTAMP(MILLIS,true))", |rows| {
        longs(rows, |row| row.share.received_unix_ms)
    }),
    ("optional binary total_work (STRING)", |rows| {
        texts(rows, |row| Some(row.share.total_work.0.to_string()))
    }),
    ("optional binary header_hash (STRING)", |rows| texts(rows, |row| row.hash.map(|hash| hash.to_string()))),
    ("optional binary entry", |rows| {
        Values::Bytes(cells(rows.iter().map(|row| row.other().map(ByteArray::from))))
    }),
];

/// Columns of numbers that grow from row to row.
const GROWING: [&str; 2] = ["index", "received"];

fn cells<T>(values: impl Iterator<Item = Option<T>>) -> Cells<T> {
    let values: Vec<_> = values.collect();
    let there = values.iter().map(|value| i16::from(value.is_some())).collect();
    Cells(values.into_iter().flatten().collect(), Some(there))
}

fn of_shares<T>(rows: &[Row], of: impl Fn(&ShareRow) -> Option<T>) -> Cells<T> {
    cells(rows.iter().map(|row| row.share().and_then(&of)))
}

fn longs(rows: &[Row], of: fn(&ShareRow) -> u64) -> Values {
    Values::Longs(of_shares(rows, |share| Some(of(share).cast_signed())))
}

fn ints(rows: &[Row], of: fn(&ShareRow) -> i32) -> Values {
    Values::Ints(of_shares(rows, |share| Some(of(share))))
}

fn flags(rows: &[Row], of: fn(&ShareRow) -> bool) -> Values {
    Values::Flags(of_shares(rows, |share| Some(of(share))))
}

fn texts(rows: &[Row], of: fn(&ShareRow) -> Option<String>) -> Values {
    Values::Bytes(of_shares(rows, |share| Some(of(share)?.into_bytes().into())))
}

impl Values {
    pub fn write(&self, mut column: SerializedColumnWriter<'_>) -> Result<(), ParquetError> {
        match self {
            Self::Longs(Cells(values, there)) => {
                column.typed::<Int64Type>().write_batch(values, there.as_deref(), None)
            }
            Self::Ints(Cells(values, there)) => {
                column.typed::<Int32Type>().write_batch(values, there.as_deref(), None)
            }
            Self::Flags(Cells(values, there)) => {
                column.typed::<BoolType>().write_batch(values, there.as_deref(), None)
            }
            Self::Bytes(Cells(values, there)) => {
                column.typed::<ByteArrayType>().write_batch(values, there.as_deref(), None)
            }
        }?;
        column.close()
    }
}

/// How columns are encoded: all of it can be read in bounded memory, which no compression is.
pub fn encodings(settings: WriterPropertiesBuilder) -> WriterPropertiesBuilder {
    GROWING.into_iter().fold(settings, |settings, name| {
        let column = || ColumnPath::from(name);
        settings
            .set_column_dictionary_enabled(column(), false)
            .set_column_encoding(column(), Encoding::DELTA_BINARY_PACKED)
    })
}

/// The file's schema.
pub fn schema() -> Result<Type, ParquetError> {
    let columns: String = COLUMNS.iter().map(|(declared, _)| format!("{declared};\n")).collect();
    parse_message_type(&format!("message shares {{\n{columns}}}"))
}
