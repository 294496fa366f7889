use super::*;
use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::consensus::encode::serialize;
use bitcoin::constants::genesis_block;
use bitcoin::hashes::Hash;
use bitcoin::{Amount, CompactTarget, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode, TxOut, Witness};
use tempfile::TempDir;

const KEYS: [Key; 3] = [Key([0; 8]), Key([0xfa, 0, 7, 0, 0x11, 0xbf, 0, 0xff]), Key([9; 8])];

fn regtest() -> Magic {
    Network::Regtest.magic()
}

fn first() -> Block {
    genesis_block(Network::Regtest)
}

/// A block with the work that regtest wants; the tag makes it another one than its siblings.
fn block(parent: &Block, tag: u8, more: Vec<Transaction>) -> Block {
    let coinbase = spending(OutPoint::null(), &[1, tag]);
    let txdata: Vec<_> = [coinbase].into_iter().chain(more).collect();
    let header = Header {
        version: Version::TWO,
        prev_blockhash: parent.block_hash(),
        merkle_root: TxMerkleNode::all_zeros(),
        time: parent.header.time + 1,
        bits: parent.header.bits,
        nonce: 0,
    };
    let mut block = Block { header, txdata };
    block.header.merkle_root = block.compute_merkle_root().unwrap();
    while !block.header.target().is_met_by(block.block_hash()) {
        block.header.nonce += 1;
    }
    block
}

/// A transaction of two outputs, one of which nobody can spend.
fn spending(previous_output: OutPoint, script_sig: &[u8]) -> Transaction {
    let (script_sig, sequence) = (ScriptBuf::from_bytes(script_sig.to_vec()), Sequence::MAX);
    let output = [&[0x51][..], &[0x6a]].map(|script| TxOut {
        value: Amount::from_sat(5),
        script_pubkey: ScriptBuf::from_bytes(script.to_vec()),
    });
    Transaction {
        version: bitcoin::transaction::Version::TWO,
        // So that no block ends with zeros, as room for it does.
        lock_time: LockTime::from_consensus(0x0101_0101),
        input: vec![TxIn { previous_output, script_sig, sequence, witness: Witness::new() }],
        output: output.to_vec(),
    }
}

/// Blocks one on the other.
fn branch(parent: &Block, tag: u8, count: usize) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for _ in 0..count {
        blocks.push(block(blocks.last().unwrap_or(parent), tag, vec![]));
    }
    blocks
}

fn record(magic: Magic, block: &[u8]) -> Vec<u8> {
    [magic.as_ref(), &(block.len() as u32).to_le_bytes(), block].concat()
}

fn records<'a>(blocks: impl IntoIterator<Item = &'a Block>) -> Vec<u8> {
    blocks.into_iter().flat_map(|block| record(regtest(), &serialize(block))).collect()
}

/// A folder of block files, as they are meant.
fn folder(key: Key, files: &[Vec<u8>]) -> TempDir {
    let dir = TempDir::new().unwrap();
    for (number, bytes) in (0..).zip(files) {
        let mut bytes = bytes.clone();
        key.apply(0, &mut bytes);
        fs::write(path(dir.path(), number), bytes).unwrap();
    }
    fs::write(dir.path().join(KEY_FILE), key.0).unwrap();
    dir
}

fn open(dir: &TempDir) -> Result<BlockFiles, BlockFilesError> {
    BlockFiles::open(dir.path(), Network::Regtest, |_, _| ())
}

/// What is said of a folder that cannot be used.
fn refused(dir: &TempDir, network: Network) -> String {
    let words = BlockFiles::open(dir.path(), network, |_, _| ()).unwrap_err().to_string();
    words.replace(&format!("{}/", dir.path().display()), "")
}

#[test]
fn blocks_in_any_order_with_orphans_and_twice_are_one_chain_under_each_key() {
    let main = branch(&first(), 1, 5);
    let orphans = branch(&main[1], 2, 2);
    let loose = branch(&branch(&main[0], 3, 1)[0], 4, 20);
    let one = records([&main[4], &orphans[1], &main[2], &loose[0]]);
    let two = records(loose[1..].iter().chain([&main[1], &orphans[0], &main[2], &first()]));
    let three = records([&main[0], &main[3]]);
    for key in KEYS {
        let dir = folder(key, &[one.clone(), two.clone(), three.clone()]);
        let files = open(&dir).unwrap();
        assert_eq!(files.best_block(), main[4].block_hash());
        for (height, block) in (1..).zip(&main) {
            let next = main.get(height as usize).map(Block::block_hash);
            let place = Place { height, nbits: 0x207f_ffff, in_chain: true, next };
            assert_eq!(files.place(block.block_hash()), Some(place));
            assert_eq!(files.block(block.block_hash()).unwrap().as_ref(), Some(block));
        }
        for (height, block) in (3..).zip(&orphans) {
            let place = Place { height, nbits: 0x207f_ffff, in_chain: false, next: None };
            assert_eq!(files.place(block.block_hash()), Some(place));
            assert_eq!(files.block(block.block_hash()).unwrap().as_ref(), Some(block));
        }
        for block in &loose {
            assert_eq!(files.place(block.block_hash()), None);
            assert_eq!(files.block(block.block_hash()).unwrap(), None);
        }
    }
}

#[test]
fn of_branches_with_equal_work_the_one_whose_last_block_stands_first_is_the_best() {
    let (one, two) = (branch(&first(), 1, 2), branch(&first(), 2, 2));
    for (order, best) in
        [([&one[0], &one[1], &two[0], &two[1]], &one), ([&one[0], &two[1], &one[1], &two[0]], &two)]
    {
        let file = records([&first()].into_iter().chain(order));
        assert_eq!(open(&folder(KEYS[1], &[file])).unwrap().best_block(), best[1].block_hash());
    }
}

#[test]
fn the_room_that_a_node_makes_beforehand_is_no_block_whatever_the_key() {
    let blocks = branch(&first(), 1, 3);
    for key in KEYS {
        let dir = folder(key, &[records([&first(), &blocks[0]]), records(&blocks[1..])]);
        // Room is not under the key; more than what is looked at in one go.
        for (number, room) in [(0, 9_001), (1, 3), (2, 5_000)] {
            let mut bytes = fs::read(path(dir.path(), number)).unwrap_or_default();
            bytes.resize(bytes.len() + room, 0);
            fs::write(path(dir.path(), number), bytes).unwrap();
        }
        assert_eq!(open(&dir).unwrap().best_block(), blocks[2].block_hash());
    }
}

#[test]
fn a_block_that_is_being_written_is_not_there_yet_wherever_it_ends() {
    let blocks = branch(&first(), 1, 2);
    let (before, whole) = (records([&first(), &blocks[0]]), records([&blocks[1]]));
    for key in KEYS {
        for end in 0..whole.len() {
            let dir = folder(key, &[[&before, &whole[..end]].concat()]);
            assert_eq!(open(&dir).unwrap().best_block(), blocks[0].block_hash(), "{end}");
            // The same where there is room for all of it.
            let file = path(dir.path(), 0);
            let mut bytes = fs::read(&file).unwrap();
            bytes.resize(bytes.len() + 1_000, 0);
            fs::write(&file, bytes).unwrap();
            assert_eq!(open(&dir).unwrap().best_block(), blocks[0].block_hash(), "{end} and room");
        }
    }
}

#[test]
fn what_is_no_block_is_an_error_with_its_place_unless_the_last_file_ends_there() {
    let blocks = branch(&first(), 1, 2);
    let good = records([&first()]);
    let at = good.len();
    let bytes = serialize(&blocks[0]);
    let mut without_work = blocks[0].clone();
    while without_work.header.target().is_met_by(without_work.block_hash()) {
        without_work.header.nonce += 1;
    }
    let mut no_target = blocks[0].clone();
    no_target.header.bits = CompactTarget::from_consensus(0x2180_0001);
    let long = [&regtest().to_bytes()[..], &4_000_001_u32.to_le_bytes(), &bytes].concat();
    let cases = [
        (vec![1; 9], "neither a block nor padding".to_owned()),
        (record(regtest(), &bytes[..80]), "a block of 80 bytes".to_owned()),
        (long, "a block of 4000001 bytes".to_owned()),
        (record(regtest(), &bytes)[..99].to_vec(), "the file ends within a block".to_owned()),
        (record(regtest(), &bytes)[..3].to_vec(), "the file ends within a block".to_owned()),
        (
            records([&without_work]),
            format!("block {} has not the work that it names", without_work.block_hash()),
        ),
        (
            records([&no_target]),
            format!("block {}: compact target 0x21800001 is negative", no_target.block_hash()),
        ),
    ];
    for (bad, words) in cases {
        let file = [&good[..], &bad].concat();
        let dir = folder(KEYS[1], &[file.clone(), records(&blocks)]);
        assert_eq!(refused(&dir, Network::Regtest), format!("blk00000.dat, at byte {at}: {words}"));
        assert_eq!(open(&folder(KEYS[1], &[file])).unwrap().best_block(), first().block_hash(), "{words}");
    }
}

#[test]
fn transactions_that_are_not_those_of_the_header_are_not_believed() {
    let mut bad = block(&first(), 1, vec![spending(OutPoint::null(), &[3])]);
    bad.txdata[1].output[0].value += Amount::from_sat(1);
    let hash = bad.block_hash();
    let next = block(&bad, 1, vec![]);
    let dir = folder(KEYS[0], &[records([&first(), &bad, &next])]);
    let files = open(&dir).unwrap();
    assert_eq!(files.best_block(), next.block_hash());
    let words = format!(
        "blk00000.dat, at byte 301: the transactions of block {hash} are not those of its Merkle root"
    );
    assert!(files.block(hash).unwrap_err().to_string().ends_with(&words));
    let asked = HashSet::from([OutPoint::null()]);
    assert!(files.unspent(&asked, 0).unwrap_err().to_string().ends_with(&words));
    assert!(files.unspent(&asked, 2).unwrap().is_empty());
    assert!(files.unspent(&HashSet::new(), 0).unwrap().is_empty());
    // Bytes too many, none at all, and another block.
    let bytes = [&serialize(&next)[..], &[0]].concat();
    assert!(matches!(decode(&bytes, next.block_hash()), Err(Fault::Transactions(..))));
    assert!(matches!(decode(&[], next.block_hash()), Err(Fault::Other(_))));
    assert!(matches!(decode(&serialize(&next), hash), Err(Fault::Other(_))));
}

#[test]
fn another_network_is_refused_in_words_and_a_signet_has_one_magic_of_its_own() {
    let dir = folder(KEYS[1], &[records([&first()])]);
    let words = "blk00000.dat begins with fabfb5da, as regtest does; blocks of bitcoin begin with f9beb4d9";
    assert_eq!(refused(&dir, Network::Bitcoin), words);
    let words = "blk00000.dat begins with fabfb5da, as regtest does; blocks of signet begin with 0a03cf40";
    assert_eq!(refused(&dir, Network::Signet), words);
    fs::remove_file(dir.path().join(KEY_FILE)).unwrap();
    let words = "blk00000.dat begins with 00bfb2da, as no network does; perhaps xor.dat is not theirs; blocks of regtest \
                 begin with fabfb5da";
    assert_eq!(refused(&dir, Network::Regtest), words);

    let genesis = genesis_block(Network::Signet);
    let (own, other) = (Magic::from_bytes([1, 2, 3, 4]), Magic::from_bytes([1, 2, 3, 5]));
    let [own, other] = [own, other].map(|magic| record(magic, &serialize(&genesis)));
    let dir = folder(KEYS[1], &[own.clone(), own.clone()]);
    let files = BlockFiles::open(dir.path(), Network::Signet, |_, _| ()).unwrap();
    assert_eq!(files.best_block(), genesis.block_hash());
    let words = "blk00001.dat begins with 01020305, as no network does; perhaps xor.dat is not theirs; blocks of signet \
                 begin with 01020304";
    assert_eq!(refused(&folder(KEYS[1], &[own.clone(), other]), Network::Signet), words);
    // Blocks of whatever chain, under a magic that no network has.
    let dir = folder(KEYS[1], &[record(Magic::from_bytes([1; 4]), &serialize(&first()))]);
    assert!(refused(&dir, Network::Signet).ends_with("the first block of signet is not there"));
}

#[test]
fn a_folder_that_lacks_files_is_refused() {
    let blocks = branch(&first(), 1, 2);
    let files = [records([&first()]), records([&blocks[0]]), records([&blocks[1]])];
    for (missing, name) in [(0, "blk00000.dat"), (1, "blk00001.dat")] {
        let dir = folder(KEYS[0], &files);
        fs::remove_file(path(dir.path(), missing)).unwrap();
        assert!(
            refused(&dir, Network::Regtest).starts_with(&format!("{name} is missing; a node that prunes"))
        );
    }
    let dir = folder(KEYS[0], &files[1..]);
    assert!(refused(&dir, Network::Regtest).ends_with("the first block of regtest is not there"));
    let dir = folder(KEYS[0], &[]);
    assert!(
        refused(&dir, Network::Regtest).ends_with("holds no block files (blk00000.dat and further ones)")
    );
    for size in [0, 7, 9] {
        let dir = folder(KEYS[0], &files);
        fs::write(dir.path().join(KEY_FILE), vec![0; size]).unwrap();
        assert_eq!(refused(&dir, Network::Regtest), "xor.dat is no key, which has 8 bytes");
    }
    // Older nodes have none.
    let dir = folder(KEYS[0], &files);
    fs::remove_file(dir.path().join(KEY_FILE)).unwrap();
    assert_eq!(open(&dir).unwrap().best_block(), blocks[1].block_hash());
}

#[test]
fn an_output_is_unspent_if_the_best_chain_makes_it_from_a_height_on_and_does_not_spend_it() {
    let outpoint =
        |block: &Block, place: usize, vout| OutPoint { txid: block.txdata[place].compute_txid(), vout };
    let one = block(&first(), 1, vec![]);
    let spent = outpoint(&one, 0, 0);
    let two = block(&one, 1, vec![spending(spent, &[])]);
    let passed_on = outpoint(&two, 1, 0);
    // Made and spent in one block.
    let three = block(&two, 1, vec![spending(passed_on, &[])]);
    let orphan = block(&two, 2, vec![spending(outpoint(&two, 0, 0), &[])]);
    let four = block(&three, 1, vec![]);
    let dir = folder(KEYS[2], &[records([&first(), &orphan, &one, &two, &three, &four])]);
    let files = open(&dir).unwrap();
    let left = [outpoint(&two, 0, 0), outpoint(&three, 1, 0), outpoint(&four, 0, 0)];
    let gone = [spent, passed_on, outpoint(&orphan, 0, 0), outpoint(&orphan, 1, 0)];
    // Nobody can spend the one, and there is no such as the other.
    let none = [outpoint(&four, 0, 1), outpoint(&four, 0, 2)];
    let asked: HashSet<_> = left.into_iter().chain(gone).chain(none).collect();
    assert_eq!(files.unspent(&asked, 0).unwrap(), left.into());
    assert_eq!(files.unspent(&asked, 3).unwrap(), left[1..].iter().copied().collect());
    assert!(files.unspent(&asked, 5).unwrap().is_empty());
    assert!(files.unspent(&asked, u32::MAX).unwrap().is_empty());
}

/// Headers of one branch, named by their heights; nobody looks at their work here.
fn headers(network: Network, count: u32, spacing: u32) -> Vec<Found> {
    let first = genesis_block(network);
    let name = |height: u32| match height {
        0 => first.block_hash(),
        _ => BlockHash::from_byte_array(std::array::from_fn(|at| height.to_be_bytes()[at % 4])),
    };
    let found = |height: u32| Found {
        hash: name(height),
        prev_hash: height.checked_sub(1).map_or(BlockHash::all_zeros(), name),
        time: first.header.time + height * spacing,
        nbits: first.header.bits.to_consensus(),
        spot: Spot { file: 0, offset: 0, length: 0 },
    };
    (0..count).map(found).collect()
}

#[test]
fn each_block_has_the_target_that_the_rules_of_its_network_give() {
    // As between the blocks 30240 and 32255 of the main network, before its first change.
    let mut main = headers(Network::Bitcoin, 2_018, 1);
    main[2_015].time = main[0].time + 1_022_578;
    main[2_016].nbits = 0x1d00_d86a;
    main[2_017].nbits = 0x1d00_d86a;
    let refused = |found: &[Found], network| match HeaderTree::connect(found.to_vec(), network) {
        Ok(tree) => {
            assert_eq!(tree.tip(), found.last().unwrap());
            None
        }
        Err(TreeError::Target { height, named, rules, .. }) => Some((height, named, rules)),
        Err(error) => panic!("{error}"),
    };
    assert_eq!(refused(&main, Network::Bitcoin), None);
    main[2_017].nbits = 0x1d00_ffff;
    assert_eq!(refused(&main, Network::Bitcoin), Some((2_017, 0x1d00_ffff, 0x1d00_d86a)));
    main[2_016].nbits = 0x1d00_ffff;
    assert_eq!(refused(&main[..2_017], Network::Bitcoin), Some((2_016, 0x1d00_ffff, 0x1d00_d86a)));

    // A day a block, and time that runs backwards.
    assert_eq!(refused(&headers(Network::Signet, 2_017, 86_400), Network::Signet), None);
    let mut backwards = headers(Network::Signet, 2_017, 600);
    backwards[2_015].time = 5;
    assert_eq!(refused(&backwards, Network::Signet), Some((2_016, 0x1e03_77ae, 0x1e00_ddeb)));

    // What is easy there is by exceptions; none is easier than any.
    for network in [Network::Testnet, Network::Testnet4] {
        let mut test = headers(network, 2_018, 1);
        test[5].nbits = 0x1c00_ffff;
        assert_eq!(refused(&test, network), None);
        test[6].nbits = 0x1d01_0000;
        assert_eq!(refused(&test, network), Some((6, 0x1d01_0000, 0x1d00_ffff)));
    }
    assert_eq!(refused(&headers(Network::Regtest, 2_018, 1), Network::Regtest), None);
    let mut hard = headers(Network::Regtest, 3, 1);
    hard[2].nbits = 0x1d00_ffff;
    assert_eq!(refused(&hard, Network::Regtest), Some((2, 0x1d00_ffff, 0x207f_ffff)));
}

#[test]
fn more_work_is_the_better_chain_however_few_its_blocks_are() {
    let mut found = headers(Network::Testnet, 9, 1);
    let hard = Found {
        hash: BlockHash::from_byte_array([0xee; 32]),
        prev_hash: found[2].hash,
        nbits: 0x1c00_ffff,
        ..found[3]
    };
    found.push(hard);
    let tree = HeaderTree::connect(found, Network::Testnet).unwrap();
    assert_eq!((tree.tip().hash, tree.get(hard.hash).unwrap().1.height), (hard.hash, 3));
}
