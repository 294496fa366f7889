//! What a proxy writes down of each share that it forwards: its owner's own books, to be held against a pool's log.

use bitcoin::BlockHash;
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
        let line = Line {
            at: 7,
            user: "tb1q.farm \"1\"\n".to_owned(),
            hash: BlockHash::from_byte_array([9; 32]),
            fate: Fate::Accepted,
        };
        let hash = "09".repeat(32);
        let expected = format!(
            "{{\"at\":7,\"user\":\"tb1q.farm \\\"1\\\"\\n\",\"hash\":\"{hash}\",\"result\":\"accepted\"}}\n"
        );
        assert_eq!(line.text(), expected);
        let rejected = Fate::Rejected { code: "stale-share".to_owned() };
        for line in [line.clone(), Line { fate: rejected, ..line.clone() }, Line { fate: Fate::Lost, ..line }]
        {
            assert_eq!(Line::parse(&line.text()), Some(line.clone()));
            let text = line.text();
            assert_eq!(Line::parse(&text[..text.len() - 3]), None);
        }
        assert_eq!(Line::parse(&expected.replace("accepted", "liked")), None);
    }
}
