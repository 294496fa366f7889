//! The columns: names, types and values, in one table.

use bitcoin::BlockHash;
use bitcoin::hex::DisplayHex;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::writer::SerializedColumnWriter;
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::Type;
use share_accounting::entry::Share;
use share_accounting::verify::listing::Listed;

/// A share.
pub struct Row {
    index: u64,
    share: Share,
    script: Option<String>,
    hash: Option<BlockHash>,
}

impl Row {
    pub fn of(index: u64, listed: &Listed<'_>) -> Self {
        let script = listed.script.map(|script| script.to_hex_string());
        Self { index, share: listed.share.clone(), script, hash: listed.hash }
    }
}

/// Values of one column for some rows.
pub enum Values {
    Longs(Vec<i64>),
    Ints(Vec<i32>),
    Flags(Vec<bool>),
    Bytes(Vec<ByteArray>),
    /// Those that are there, and for each row whether one is.
    Maybe(Vec<ByteArray>, Vec<i16>),
}

/// A column's declaration, and its values for some rows.
type Column = (&'static str, fn(&[Row]) -> Values);

/// All of them. Numbers without a sign have the same bits as those of the file that have one. Hashes are
/// written as block explorers do, work as a decimal number: it has up to 128 bits.
pub const COLUMNS: &[Column] = &[
    ("required int64 index (INTEGER(64,false))", |rows| longs(rows, |row| row.index)),
    ("required int32 pot (INTEGER(8,true))", |rows| ints(rows, |row| i32::from(row.share.pot.get()))),
    ("required int32 site (INTEGER(16,false))", |rows| ints(rows, |row| row.share.site.into())),
    ("required int32 payee (INTEGER(32,false))", |rows| ints(rows, |row| row.share.payee.cast_signed())),
    ("optional binary payee_script (STRING)", |rows| maybe(rows, |row| row.script.clone())),
    ("required int64 job (INTEGER(64,false))", |rows| longs(rows, |row| row.share.job)),
    ("required int32 ntime (INTEGER(32,false))", |rows| ints(rows, |row| row.share.ntime.cast_signed())),
    ("required int32 nonce (INTEGER(32,false))", |rows| ints(rows, |row| row.share.nonce.cast_signed())),
    ("required int32 version (INTEGER(32,false))", |rows| ints(rows, |row| row.share.version.cast_signed())),
    ("required binary extranonce (STRING)", |rows| {
        bytes(rows, |row| row.share.extranonce.as_bytes().to_lower_hex_string())
    }),
    ("required boolean credited", |rows| flags(rows, |row| row.share.credited)),
    ("required boolean block_candidate", |rows| flags(rows, |row| row.share.block_candidate)),
    ("required int64 received (TIMESTAMP(MILLIS,true))", |rows| {
        longs(rows, |row| row.share.received_unix_ms)
    }),
    ("required binary total_work (STRING)", |rows| bytes(rows, |row| row.share.total_work.0.to_string())),
    ("optional binary header_hash (STRING)", |rows| maybe(rows, |row| row.hash.map(|hash| hash.to_string()))),
];

fn longs(rows: &[Row], of: fn(&Row) -> u64) -> Values {
    Values::Longs(rows.iter().map(|row| of(row).cast_signed()).collect())
}

fn ints(rows: &[Row], of: fn(&Row) -> i32) -> Values {
    Values::Ints(rows.iter().map(of).collect())
}

fn flags(rows: &[Row], of: fn(&Row) -> bool) -> Values {
    Values::Flags(rows.iter().map(of).collect())
}

fn bytes(rows: &[Row], of: fn(&Row) -> String) -> Values {
    Values::Bytes(rows.iter().map(|row| of(row).into_bytes().into()).collect())
}

fn maybe(rows: &[Row], of: fn(&Row) -> Option<String>) -> Values {
    let values: Vec<_> = rows.iter().map(of).collect();
    let there = values.iter().map(|value| i16::from(value.is_some())).collect();
    Values::Maybe(values.into_iter().flatten().map(|value| value.into_bytes().into()).collect(), there)
}

impl Values {
    pub fn write(&self, mut column: SerializedColumnWriter<'_>) -> Result<(), ParquetError> {
        match self {
            Self::Longs(values) => column.typed::<Int64Type>().write_batch(values, None, None),
            Self::Ints(values) => column.typed::<Int32Type>().write_batch(values, None, None),
            Self::Flags(values) => column.typed::<BoolType>().write_batch(values, None, None),
            Self::Bytes(values) => column.typed::<ByteArrayType>().write_batch(values, None, None),
            Self::Maybe(values, there) => {
                column.typed::<ByteArrayType>().write_batch(values, Some(there), None)
            }
        }?;
        column.close()
    }
}

/// The file's schema.
pub fn schema() -> Result<Type, ParquetError> {
    let columns: String = COLUMNS.iter().map(|(declared, _)| format!("{declared};\n")).collect();
    parse_message_type(&format!("message shares {{\n{columns}}}"))
}
