//! What the file says of its log, beside the entries.

use bitcoin::Network;
use bitcoin::hex::{DisplayHex, FromHex};
use parquet::file::metadata::{FileMetaData, KeyValue};

const NETWORK: &str = "sluice.network";
const LOG_ID: &str = "sluice.log_id";
const CHECKPOINT: &str = "sluice.checkpoint";
const COSIGNED: &str = "sluice.cosigned";

/// Of what log the entries are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// Its chain.
    pub network: Network,
    /// Its id, if it is known.
    pub log_id: Option<[u8; 16]>,
    /// The note with the signed head that they are under, if they are of a published log.
    pub checkpoint: Option<String>,
    /// The newest note that witnesses have signed, too, if there was one.
    pub cosigned: Option<String>,
}

impl About {
    /// As the file bears it.
    pub fn key_values(&self) -> Vec<KeyValue> {
        let all = [
            (NETWORK, Some(self.network.to_string())),
            (LOG_ID, self.log_id.map(|id| id.to_lower_hex_string())),
            (CHECKPOINT, self.checkpoint.clone()),
            (COSIGNED, self.cosigned.clone()),
        ];
        all.into_iter().filter_map(|(key, value)| Some(KeyValue::new(key.to_owned(), value?))).collect()
    }

    /// What a file bears; `None` if it does not say of what chain it is.
    pub fn read(file: &FileMetaData) -> Option<Self> {
        let all = file.key_value_metadata()?;
        let value = |key: &str| all.iter().find(|pair| pair.key == key)?.value.clone();
        Some(Self {
            network: value(NETWORK)?.parse().ok()?,
            log_id: value(LOG_ID).and_then(|id| FromHex::from_hex(&id).ok()),
            checkpoint: value(CHECKPOINT),
            cosigned: value(COSIGNED),
        })
    }
}
