//! The log as a Merkle tree: its root stands for every entry so far, in this order (RFC 6962 §2.1).
//!
//! A leaf is the hash of an entry's bytes, all of them. Nothing is added to the log for it, so logs written before
//! there was a tree have one too. Kept are the roots of the complete subtrees alone: O(log n) memory, O(1) amortised
//! per entry.

use tlog_tiles::{EMPTY_HASH, Hash, node_hash, record_hash};

/// A leaf, an inner node or a root.
pub type TreeHash = [u8; 32];

/// The leaf of an entry's bytes.
pub fn leaf(entry: &[u8]) -> TreeHash {
    record_hash(entry).0
}

/// A tree that grows at its right end.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    size: u64,
    /// Roots of the complete subtrees, largest first: one for each bit that is set in `size`.
    peaks: Vec<TreeHash>,
}

impl Tree {
    /// Adds a leaf.
    pub fn push(&mut self, leaf: TreeHash) {
        let mut root = Hash(leaf);
        for _ in 0..self.size.trailing_ones() {
            let left = self.peaks.pop().expect("there is a peak for each bit that is set");
            root = node_hash(Hash(left), root);
        }
        self.peaks.push(root.0);
        self.size += 1;
    }

    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What stands for all of them.
    pub fn root(&self) -> TreeHash {
        let peaks = self.peaks.iter().rev().map(|peak| Hash(*peak));
        peaks.reduce(|right, left| node_hash(left, right)).unwrap_or(EMPTY_HASH).0
    }
}

impl FromIterator<TreeHash> for Tree {
    fn from_iter<I: IntoIterator<Item = TreeHash>>(leaves: I) -> Self {
        let mut tree = Self::default();
        leaves.into_iter().for_each(|leaf| tree.push(leaf));
        tree
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::hex::{DisplayHex, FromHex};
    use proptest::prelude::*;

    /// The definition: the largest power of two below the size to the left, the rest to the right.
    fn by_definition(leaves: &[TreeHash]) -> TreeHash {
        match leaves {
            [] => EMPTY_HASH.0,
            [leaf] => *leaf,
            _ => {
                let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
                node_hash(Hash(by_definition(left)), Hash(by_definition(right))).0
            }
        }
    }

    #[test]
    fn roots_are_those_that_certificate_transparency_publishes() {
        // Test data of the reference log server: eight entries, and the roots of the first one, two, and so on.
        let entries = [
            "",
            "00",
            "10",
            "2021",
            "3031",
            "40414243",
            "5051525354555657",
            "606162636465666768696a6b6c6d6e6f",
        ];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let mut tree = Tree::default();
        assert_eq!(
            tree.root().to_lower_hex_string(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        for (entry, root) in entries.into_iter().zip(roots) {
            tree.push(leaf(&Vec::from_hex(entry).unwrap()));
            assert_eq!(tree.root().to_lower_hex_string(), root);
        }
    }

    proptest! {
        #[test]
        fn the_root_is_the_one_of_the_definition(leaves in prop::collection::vec(any::<[u8; 32]>(), 0..300)) {
            let tree: Tree = leaves.iter().copied().collect();
            prop_assert_eq!(tree.size(), leaves.len() as u64);
            prop_assert_eq!(tree.root(), by_definition(&leaves));
        }
    }
}
