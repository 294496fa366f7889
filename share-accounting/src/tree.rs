//! The log as a Merkle tree: its root stands for every entry so far, in this order (RFC 6962 §2.1).
//!
//! A leaf is the hash of an entry's bytes, all of them. Nothing is added to the log for it, so logs written before
//! there was a tree have one too. Kept are the roots of the complete subtrees alone: O(log n) memory, O(1) amortised
//! per entry.

/// A leaf, an inner node or a root.
pub type TreeHash = [u8; 32];

/// Root of the tree that has no leaves: the hash of nothing (RFC 6962 §2.1).
pub(crate) const EMPTY: TreeHash = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27,
    0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

/// The leaves of entries: the hash of each one's bytes.
pub fn leaves(entries: &[&[u8]]) -> Vec<TreeHash> {
    let mut leaves = vec![EMPTY; entries.len()];
    sha256d::log_leaves(entries.len(), |nth| entries[nth], &mut leaves);
    leaves
}

/// A tree that grows at its right end.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    size: u64,
    /// Roots of the complete subtrees, largest first: one for each bit that is set in `size`.
    peaks: Vec<TreeHash>,
}

impl Tree {
    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Roots of the complete subtrees, largest first: one for each bit that is set in the size.
    pub(crate) fn peaks(&self) -> &[TreeHash] {
        &self.peaks
    }

    /// The tree of this size with these roots of complete subtrees; `None` if these are not as many as it has.
    pub(crate) fn restore(size: u64, peaks: Vec<TreeHash>) -> Option<Self> {
        (peaks.len() == size.count_ones() as usize).then_some(Self { size, peaks }) // at most 64
    }

    /// What stands for all of them.
    pub fn root(&self) -> TreeHash {
        self.peaks.iter().rev().copied().reduce(|right, left| node([left, right])).unwrap_or(EMPTY)
    }
}

impl Extend<TreeHash> for Tree {
    /// Adds leaves, one level of the tree after the other: so many nodes are hashed at once.
    fn extend<I: IntoIterator<Item = TreeHash>>(&mut self, leaves: I) {
        let mut nodes: Vec<TreeHash> = leaves.into_iter().collect();
        let added = nodes.len() as u64; // usize fits u64
        let mut new_peaks: Vec<TreeHash> = Vec::new();
        // Of the old size, from this level up.
        let mut bits = self.size;
        while !nodes.is_empty() {
            if bits & 1 == 1 {
                nodes.insert(0, self.peaks.pop().expect("there is a peak for each bit that is set"));
            }
            let (pairs, odd) = nodes.as_chunks::<2>();
            new_peaks.extend(odd);
            let mut above = vec![EMPTY; pairs.len()];
            sha256d::log_nodes(pairs, &mut above);
            nodes = above;
            bits >>= 1;
        }
        self.peaks.extend(new_peaks.into_iter().rev());
        self.size += added;
    }
}

impl FromIterator<TreeHash> for Tree {
    fn from_iter<I: IntoIterator<Item = TreeHash>>(leaves: I) -> Self {
        let mut tree = Self::default();
        tree.extend(leaves);
        tree
    }
}

fn node(children: [TreeHash; 2]) -> TreeHash {
    let mut node = [EMPTY];
    sha256d::log_nodes(&[children], &mut node);
    node[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::hex::{DisplayHex, FromHex};
    use proptest::prelude::*;
    use tlog_tiles::{EMPTY_HASH, Hash, node_hash, record_hash};

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
            let entry = Vec::from_hex(entry).unwrap();
            tree.extend(leaves(&[&entry]));
            assert_eq!(tree.root().to_lower_hex_string(), root);
        }
    }

    proptest! {
        #[test]
        fn the_root_is_the_one_of_the_definition(
            leaves in prop::collection::vec(any::<[u8; 32]>(), 0..300),
            cuts in prop::collection::vec(0_usize..100, 0..10),
        ) {
            let mut tree = Tree::default();
            let mut rest = leaves.as_slice();
            for cut in cuts {
                let (some, others) = rest.split_at(cut.min(rest.len()));
                tree.extend(some.iter().copied());
                rest = others;
            }
            tree.extend(rest.iter().copied());
            prop_assert_eq!(tree.size(), leaves.len() as u64);
            prop_assert_eq!(tree.root(), by_definition(&leaves));
        }

        #[test]
        fn leaves_are_those_of_the_library(
            entries in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..40),
        ) {
            let entries: Vec<&[u8]> = entries.iter().map(Vec::as_slice).collect();
            let expected: Vec<TreeHash> = entries.iter().map(|entry| record_hash(entry).0).collect();
            prop_assert_eq!(leaves(&entries), expected);
        }
    }
}
