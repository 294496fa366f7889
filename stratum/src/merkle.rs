//! The merkle tree of a block's transactions, with the coinbase's slot left open.

use sha256d::sha256d_pair;

/// Siblings of the first leaf from the bottom up, when `others` are the leaves behind it.
///
/// Hashes are in internal byte order. An odd level repeats its last node, as consensus does (CB-11).
pub fn branch(others: &[[u8; 32]]) -> Vec<[u8; 32]> {
    let mut level = others.to_vec();
    let mut branch = Vec::new();
    while let Some((&sibling, rest)) = level.split_first() {
        branch.push(sibling);
        level = rest
            .chunks(2)
            .map(|pair| sha256d_pair(&pair[0], pair.last().expect("a chunk is not empty")))
            .collect();
    }
    branch
}

/// The root over `first` and the leaves that `branch` stands for.
pub fn root(first: [u8; 32], branch: &[[u8; 32]]) -> [u8; 32] {
    branch.iter().fold(first, |node, sibling| sha256d_pair(&node, sibling))
}

/// BIP 141 commitment to the witnesses: the coinbase counts as zeros, and so does its reserved value.
pub fn witness_commitment(wtxids: &[[u8; 32]]) -> [u8; 32] {
    sha256d_pair(&root([0; 32], &branch(wtxids)), &[0; 32])
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::hashes::{Hash, sha256d::Hash as Sha256d};
    use proptest::prelude::*;

    fn reference(leaves: &[[u8; 32]]) -> [u8; 32] {
        bitcoin::merkle_tree::calculate_root(leaves.iter().map(|leaf| Sha256d::from_byte_array(*leaf)))
            .unwrap()
            .to_byte_array()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]

        #[test]
        fn cb_11_branch_gives_the_root_of_another_implementation(seed: u64) {
            for count in [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 63, 64, 65, 128, 129, 255, 1_000] {
                let leaves: Vec<[u8; 32]> = (0..count)
                    .map(|i: u64| sha256d::sha256d(&[seed.to_le_bytes(), i.to_le_bytes()].concat()))
                    .collect();
                prop_assert_eq!(root(leaves[0], &branch(&leaves[1..])), reference(&leaves), "{} leaves", count);
            }
        }
    }

    #[test]
    fn cb_11_a_block_of_the_real_chain_with_four_transactions() {
        // Block 100,000 of the main chain.
        let ids = [
            "8c14f0db3df150123e6f3dbbf30f8b955a8249b62ac1d1ff16284aefa3d06d87",
            "fff2525b8931402dd09222c50775608f75787bd2b87e56995a7bdd30f79702c4",
            "6359f0868171b1d194cbee1af2f16ea598ae8fad666d9b012c8ed2b79a236ec4",
            "e9a66845e05d5abc0ad04ec80f774a7e585c6e8db975962d069a522137b80c1d",
        ]
        .map(|id| id.parse::<bitcoin::Txid>().unwrap().to_byte_array());
        let expected: bitcoin::TxMerkleNode =
            "f3e94742aca4b5ef85488dc37c06c3282295ffec960994b2c0d5ac2a25a95766".parse().unwrap();
        assert_eq!(root(ids[0], &branch(&ids[1..])), expected.to_byte_array());
    }
}
