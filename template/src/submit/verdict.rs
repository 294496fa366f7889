//! What a node's answer to a block means (BIP 22).

use std::fmt;

/// What a node's answer to a block means. Its words are kept beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// It is, or may be, the new tip.
    Accepted,
    /// The node had it already, and it is valid.
    Duplicate,
    /// The node had it already, and it is invalid.
    DuplicateInvalid,
    /// Stored but not judged, as when it is not on the best chain: the node is asked again.
    Inconclusive,
    /// Not valid yet: its parent is unknown, or its time is ahead of the node's clock. Offered again.
    Early,
    /// Its hash does not meet the target: our own check is wrong.
    HighHash,
    /// Invalid.
    Refused,
    /// The node could not decode it: our own serializer is wrong.
    Undecodable,
    /// Another block has won its height, and six or more are built on that.
    Lost,
}

impl Verdict {
    /// One of each kind.
    pub const ALL: [Verdict; 9] = [
        Self::Accepted,
        Self::Duplicate,
        Self::DuplicateInvalid,
        Self::Inconclusive,
        Self::Early,
        Self::HighHash,
        Self::Refused,
        Self::Undecodable,
        Self::Lost,
    ];

    /// What `submitblock` returned; `None` is its `null`.
    pub(super) fn of(words: Option<&str>) -> Self {
        match words {
            None => Self::Accepted,
            Some("duplicate") => Self::Duplicate,
            Some("duplicate-invalid") => Self::DuplicateInvalid,
            Some("duplicate-inconclusive") => Self::Inconclusive,
            Some(words) if words.starts_with("inconclusive") => Self::Inconclusive,
            Some("prev-blk-not-found" | "time-too-new") => Self::Early,
            Some("high-hash") => Self::HighHash,
            Some(_) => Self::Refused,
        }
    }

    /// Whether the node will not say anything else about the block.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Inconclusive | Self::Early)
    }

    /// Whether the node has taken the block as valid.
    pub fn is_success(self) -> bool {
        matches!(self, Self::Accepted | Self::Duplicate)
    }

    /// The verdict as it stands in metrics and files.
    pub fn label(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
            Self::DuplicateInvalid => "duplicate_invalid",
            Self::Inconclusive => "inconclusive",
            Self::Early => "early",
            Self::HighHash => "high_hash",
            Self::Refused => "refused",
            Self::Undecodable => "undecodable",
            Self::Lost => "lost",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}
