//! Pages of a column before they are decoded. A file may be hostile: what its pages declare, and would have the decoder
//! reserve memory for, is bounded here.

use super::GROUP_ROWS;
use parquet::basic::Encoding;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};

/// Bytes of the shortest value that a dictionary can hold.
const VALUE_BYTES_MIN: usize = 4;

/// Passes the pages that an export has, and no others.
pub struct Bounded(pub Box<dyn PageReader>);

pub fn check(page: &Page) -> Result<()> {
    let is_bounded = match page {
        Page::DictionaryPage { buf, num_values, encoding, .. } => {
            let values = *num_values as usize; // u32 fits usize
            let is_plain = matches!(encoding, Encoding::PLAIN | Encoding::PLAIN_DICTIONARY);
            is_plain && values <= GROUP_ROWS.min(buf.len() / VALUE_BYTES_MIN)
        }
        Page::DataPage { num_values, encoding, def_level_encoding, .. } => {
            let is_known = matches!(
                encoding,
                Encoding::PLAIN
                    | Encoding::PLAIN_DICTIONARY
                    | Encoding::RLE_DICTIONARY
                    | Encoding::DELTA_BINARY_PACKED
            );
            is_known && *def_level_encoding == Encoding::RLE && *num_values as usize <= GROUP_ROWS
        }
        Page::DataPageV2 { .. } => false,
    };
    is_bounded.then_some(()).ok_or_else(|| ParquetError::General("no page of an export".to_owned()))
}

impl PageReader for Bounded {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.0.get_next_page()?;
        page.iter().try_for_each(check)?;
        Ok(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.0.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.0.skip_next_page()
    }
}

impl Iterator for Bounded {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}
