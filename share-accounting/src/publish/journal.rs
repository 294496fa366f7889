//! What a proxy writes down of each share that it forwards: its owner's own books, to be held against a pool's log.

use crate::entry::{Extranonce, Share};
use bitcoin::BlockHash;
use bitcoin::hex::{DisplayHex, FromHex, HexToBytesError};
use serde::{Deserialize, Serialize};

/// One line of a journal (JSON): a share, once it is known what has become of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// When that was known, Unix milliseconds of the proxy's clock.
    pub at: u64,
    /// Who is paid, as the pool was told.
    pub user: String,
    /// Of the share's header.
    pub hash: BlockHash,
    /// What has become of it.
    #[serde(flatten)]
    pub fate: Fate,
    /// What was rolled for it; nothing if it never left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled: Option<Rolled>,
}

/// What has become of a share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "lowercase")]
pub enum Fate {
    /// The pool has acknowledged it.
    Accepted,
    /// The pool does not want it.
    Rejected {
        /// In its own words.
        code: String,
    },
    /// The connection ended before the pool said anything.
    Lost,
}

/// What is rolled for a share, by which its entry in the log is known: no two shares of a log have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Hex", into = "Hex")]
pub struct Rolled {
    /// The channel's prefix and what follows it.
    pub extranonce: Extranonce,
    /// Header time in Unix seconds.
    pub ntime: u32,
    /// Header nonce.
    pub nonce: u32,
    /// The whole header version.
    pub version: u32,
}

/// As it is written.
#[derive(Serialize, Deserialize)]
struct Hex {
    extranonce: String,
    ntime: u32,
    nonce: u32,
    version: u32,
}

#[derive(Debug, thiserror::Error)]
enum HexError {
    #[error("extranonce: {0}")]
    Hex(#[from] HexToBytesError),
    #[error("the extranonce is longer than any in a log")]
    Long,
}

impl From<Rolled> for Hex {
    fn from(Rolled { extranonce, ntime, nonce, version }: Rolled) -> Self {
        Self { extranonce: extranonce.as_bytes().to_lower_hex_string(), ntime, nonce, version }
    }
}

impl TryFrom<Hex> for Rolled {
    type Error = HexError;

    fn try_from(Hex { extranonce, ntime, nonce, version }: Hex) -> Result<Self, HexError> {
        let extranonce = Extranonce::new(&Vec::from_hex(&extranonce)?).ok_or(HexError::Long)?;
        Ok(Self { extranonce, ntime, nonce, version })
    }
}

impl From<&Share> for Rolled {
    fn from(share: &Share) -> Self {
        let Share { extranonce, ntime, nonce, version, .. } = *share;
        Self { extranonce, ntime, nonce, version }
    }
}

impl Line {
    /// The line, with its end.
    pub fn text(&self) -> String {
        let mut text = serde_json::to_string(self).expect("numbers and strings");
        text.push('\n');
        text
    }

    /// Reads a line; `None` if it is none, as one that was torn by a crash.
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::hashes::Hash;

    #[test]
    fn a_line_says_all_of_a_share_and_comes_back_from_its_text() {
        let rolled = Rolled { extranonce: Extranonce::new(&[1, 2]).unwrap(), ntime: 3, nonce: 4, version: 5 };
        let line = Line {
            at: 7,
            user: "tb1q.farm \"1\"\n".to_owned(),
            hash: BlockHash::from_byte_array([9; 32]),
            fate: Fate::Accepted,
            rolled: Some(rolled),
        };
        let hash = "09".repeat(32);
        let expected = format!(
            "{{\"at\":7,\"user\":\"tb1q.farm \\\"1\\\"\\n\",\"hash\":\"{hash}\",\"result\":\"accepted\",\
             \"rolled\":{{\"extranonce\":\"0102\",\"ntime\":3,\"nonce\":4,\"version\":5}}}}\n"
        );
        assert_eq!(line.text(), expected);
        let rejected = Fate::Rejected { code: "stale-share".to_owned() };
        for line in [
            line.clone(),
            Line { fate: rejected, ..line.clone() },
            Line { fate: Fate::Lost, rolled: None, ..line },
        ] {
            assert_eq!(Line::parse(&line.text()), Some(line.clone()));
            let text = line.text();
            assert_eq!(Line::parse(&text[..text.len() - 3]), None);
        }
        assert_eq!(Line::parse(&expected.replace("0102", &"01".repeat(17))), None);
    }
}
