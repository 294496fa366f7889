use super::*;
use crate::testing::headers::StandIn;
use bitcoin::hashes::Hash;
use bitcoin::{Amount, ScriptBuf, TxOut};
use proptest::prelude::*;
use share_accounting::ledger::fold;
use std::collections::HashMap;
use template::bitcoind::rpc::{Node, Purpose, Timeouts};

/// Books on the disk and the nodes that they ask.
struct Scene {
    dir: tempfile::TempDir,
    nodes: Vec<StandIn>,
    books: Books,
    made: u64,
}

impl Scene {
    fn new(nodes: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("cookie"), "user:password\n").unwrap();
        let nodes: Vec<StandIn> = (0..nodes).map(|_| StandIn::start()).collect();
        let books = open(&dir, &nodes);
        Self { dir, nodes, books, made: 0 }
    }

    /// As after a restart of the pool.
    fn reopen(&mut self) {
        self.books = open(&self.dir, &self.nodes);
    }

    /// Adds blocks up to a height.
    fn grow(&mut self, branch: &mut Vec<BlockHash>, height: u32) {
        while branch.len() <= height as usize {
            self.made += 1;
            branch.push(BlockHash::hash(&self.made.to_le_bytes()));
        }
    }

    /// What is owed there, and what has happened.
    fn at(&mut self, tip: BlockHash) -> Result<(Credits, Vec<ChainEvent>), BooksError> {
        let (top, events) = self.books.at(tip)?;
        Ok((self.books.credits(top, &Moves::default())?, events))
    }

    fn state(&self, block: &PoolBlock) -> BlockState {
        self.books.ledger.block(block.hash).unwrap().unwrap().1
    }
}

fn open(dir: &tempfile::TempDir, nodes: &[StandIn]) -> Books {
    let ledger = Ledger::open(&dir.path().join("ledger.sqlite")).unwrap();
    let rpc = |node: &StandIn| {
        let credentials = dir.path().join("cookie");
        let node = Node { address: node.address.clone(), credentials, timeouts: Timeouts::default() };
        Rpc::new(&node, Purpose::Other)
    };
    Books::new(ledger, nodes.iter().map(rpc).collect())
}

fn script(payee: u8) -> ScriptBuf {
    ScriptBuf::from_bytes(vec![0x51, payee])
}

/// The block at a height of a branch, as one of the pool's.
fn pool_block(branch: &[BlockHash], height: u32, delta: &[(u8, i64)]) -> PoolBlock {
    let reserve = delta.iter().map(|(_, sats)| sats).sum::<i64>();
    let reserve = Amount::from_sat(u64::try_from(reserve).unwrap());
    PoolBlock {
        hash: branch[height as usize],
        height,
        prev_hash: branch[height as usize - 1],
        found_unix_ms: 1_700_000_000_000,
        outputs: vec![TxOut { value: reserve, script_pubkey: script(0) }],
        credit_delta: delta.iter().map(|(payee, sats)| (script(*payee), *sats)).collect(),
        reserve,
        coinbase: None,
    }
}

/// A chain of 1400 blocks after the first: at 1160 payee 1 is credited, at 1300 it is paid.
fn given_and_spent(scene: &mut Scene) -> (Vec<BlockHash>, PoolBlock, PoolBlock) {
    let mut branch = Vec::new();
    scene.grow(&mut branch, 1_400);
    let given = pool_block(&branch, 1_160, &[(1, 100)]);
    let spent = pool_block(&branch, 1_300, &[(1, -100), (2, 130)]);
    scene.nodes[0].view().follow(&branch);
    scene.books.found(given.clone());
    scene.books.found(spent.clone());
    (branch, given, spent)
}

#[test]
fn ch_02_a_tip_far_below_and_back_loses_no_credit() {
    let mut scene = Scene::new(2);
    let (branch, given, spent) = given_and_spent(&mut scene);
    let (before, events) = scene.at(branch[1_400]).unwrap();
    assert_eq!(before.by_script, [(script(2), 130)].into());
    assert_eq!(events.len(), 4, "{events:?}");
    // The first node goes away; the second has stopped at 1150.
    scene.nodes[0].view().away = true;
    scene.nodes[1].view().follow(&branch[..=1_150]);
    let (below, events) = scene.at(branch[1_150]).unwrap();
    assert_eq!(below, fold([], &Moves::default()).unwrap());
    // It has not got to them: it says nothing about them.
    assert_eq!(events, []);
    assert_eq!((scene.state(&given), scene.state(&spent)), (BlockState::Matured, BlockState::Matured));
    scene.nodes[0].view().away = false;
    let (after, events) = scene.at(branch[1_400]).unwrap();
    assert_eq!((after, events), (before, vec![]));
}

#[test]
fn ch_02_a_node_that_is_built_anew_block_by_block_turns_no_block_around() {
    let mut scene = Scene::new(1);
    let (branch, given, _) = given_and_spent(&mut scene);
    let (before, _) = scene.at(branch[1_400]).unwrap();
    for tip in [1, 150, 350, 351, 960, 1_159, 1_160, 1_161, 1_299, 1_300, 1_301, 1_400] {
        scene.nodes[0].view().restart_on(&branch[..=tip]);
        let (credits, events) = scene.at(branch[tip]).unwrap();
        let expected = match tip {
            1_300.. => before.clone(),
            1_160.. => fold([&given], &Moves::default()).unwrap(),
            _ => fold([], &Moves::default()).unwrap(),
        };
        assert_eq!((credits, events), (expected, vec![]), "at {tip}");
    }
}

#[test]
fn ch_02_a_branch_that_was_left_step_by_step_is_orphaned_at_once() {
    let mut scene = Scene::new(1);
    let (mut branch, mut other) = (Vec::new(), Vec::new());
    scene.grow(&mut branch, 4);
    let block = pool_block(&branch, 4, &[(1, 100)]);
    scene.nodes[0].view().follow(&branch);
    scene.books.found(block.clone());
    scene.at(branch[4]).unwrap();
    assert_eq!(scene.state(&block), BlockState::InChain);
    // The node goes back first, and takes the other branch then. That has more work, and is not as high.
    other.extend_from_slice(&branch[..=1]);
    scene.grow(&mut other, 2);
    scene.nodes[0].view().follow(&branch[..=1]);
    assert_eq!(scene.at(branch[1]).unwrap().1, []);
    scene.nodes[0].view().follow(&other);
    let (credits, events) = scene.at(other[2]).unwrap();
    assert_eq!(
        (credits, events),
        (fold([], &Moves::default()).unwrap(), vec![ChainEvent::BlockOrphaned(block.hash)])
    );
}

#[test]
fn ch_02_an_orphaned_block_comes_back_at_any_depth() {
    let mut scene = Scene::new(1);
    let (branch, given, _) = given_and_spent(&mut scene);
    let (before, _) = scene.at(branch[1_400]).unwrap();
    // A branch from below both, long enough that they are deep.
    let mut other = branch[..=1_100].to_vec();
    scene.grow(&mut other, 1_700);
    scene.nodes[0].view().follow(&other);
    let (credits, _) = scene.at(other[1_700]).unwrap();
    assert_eq!((credits, scene.state(&given)), (fold([], &Moves::default()).unwrap(), BlockState::Orphaned));
    let mut longer = branch.clone();
    scene.grow(&mut longer, 1_701);
    scene.nodes[0].view().follow(&longer);
    let (credits, _) = scene.at(longer[1_701]).unwrap();
    assert_eq!((credits, scene.state(&given)), (before.clone(), BlockState::Matured));
    // Also while the pool was away.
    scene.nodes[0].view().follow(&other);
    scene.at(other[1_700]).unwrap();
    scene.reopen();
    scene.nodes[0].view().follow(&longer);
    assert_eq!(scene.at(longer[1_701]).unwrap().0, before);
}

#[test]
fn ch_02_a_shorter_chain_with_more_work_orphans_what_lies_above_its_tip() {
    let mut scene = Scene::new(1);
    let (branch, given, spent) = given_and_spent(&mut scene);
    scene.at(branch[1_301]).unwrap();
    let mut other = branch[..=1_297].to_vec();
    scene.grow(&mut other, 1_299);
    scene.nodes[0].view().follow(&other);
    let (credits, events) = scene.at(other[1_299]).unwrap();
    assert_eq!(credits, fold([&given], &Moves::default()).unwrap());
    assert_eq!(events, [ChainEvent::BlockOrphaned(spent.hash)]);
}

#[test]
fn ch_02_a_deep_block_is_judged_only_by_a_node_on_the_chain_of_the_tip() {
    let mut scene = Scene::new(2);
    let (branch, given, spent) = given_and_spent(&mut scene);
    let before = scene.at(branch[1_400]).unwrap().0;
    scene.reopen();
    // It has all headers already, but only the first blocks.
    scene.nodes[0].view().best.truncate(1_000);
    let error = scene.at(branch[1_400]).unwrap_err();
    assert!(matches!(error, BooksError::OtherChain(_)), "{error}");
    assert_eq!((scene.state(&given), scene.state(&spent)), (BlockState::Matured, BlockState::Matured));
    // The other node can tell.
    scene.nodes[1].view().follow(&branch);
    let (credits, events) = scene.at(branch[1_400]).unwrap();
    assert_eq!((credits, events), (before, vec![]));
}

#[test]
fn a_deep_block_that_is_recorded_late_is_judged() {
    let mut scene = Scene::new(1);
    let (branch, ..) = given_and_spent(&mut scene);
    scene.at(branch[1_400]).unwrap();
    let late = pool_block(&branch, 700, &[(3, 7)]);
    let mut orphan = pool_block(&branch, 701, &[(4, 8)]);
    orphan.hash = BlockHash::hash(b"another");
    scene.books.found(late.clone());
    scene.books.found(orphan.clone());
    let (credits, _) = scene.at(branch[1_400]).unwrap();
    assert_eq!(credits.by_script, [(script(2), 130), (script(3), 7)].into());
    assert_eq!((scene.state(&late), scene.state(&orphan)), (BlockState::Matured, BlockState::Orphaned));
}

#[test]
fn nodes_are_asked_about_a_block_only_when_its_fate_can_have_changed() {
    let mut scene = Scene::new(1);
    let (branch, ..) = given_and_spent(&mut scene);
    for height in 100..140 {
        scene.books.found(pool_block(&branch, height, &[(3, 1)]));
        let orphan =
            PoolBlock { hash: BlockHash::hash(&height.to_le_bytes()), ..pool_block(&branch, height, &[]) };
        scene.books.found(orphan);
    }
    scene.at(branch[1_390]).unwrap();
    scene.nodes[0].asked();
    scene.at(branch[1_390]).unwrap();
    assert_eq!(scene.nodes[0].asked(), 0, "nothing new");
    scene.at(branch[1_391]).unwrap();
    assert_eq!(scene.nodes[0].asked(), 1, "the tip");
    scene.at(branch[1_300]).unwrap();
    assert_eq!(scene.nodes[0].asked(), 1, "the tip");
    scene.at(branch[1_400]).unwrap();
    assert_eq!(scene.nodes[0].asked(), 100, "the tip and what is before it");
}

#[test]
fn books_that_do_not_add_up_are_an_error_that_says_what_to_do() {
    let mut scene = Scene::new(1);
    let (branch, given, spent) = given_and_spent(&mut scene);
    let other = pool_block(&branch, 1_310, &[(1, -30), (2, 30)]);
    scene.books.found(other);
    for _ in 0..2 {
        let error = scene.at(branch[1_400]).unwrap_err().to_string();
        assert!(error.contains("5101") && error.contains("-30 satoshis"), "{error}");
        assert!(error.contains("at height 1400") && error.contains("backup"), "{error}");
    }
    assert_eq!(scene.at(branch[1_309]).unwrap().0, fold([&given, &spent], &Moves::default()).unwrap());
}

/// What happens between two looks at the chain.
#[derive(Debug, Clone)]
struct Step {
    /// The branch is left so many blocks below its tip …
    back: u32,
    /// … and new blocks come there; with none the tip only goes back.
    forward: u32,
    /// Or an earlier branch returns instead, by its number.
    earlier: Option<usize>,
    /// The node knows nothing but its best chain.
    anew: bool,
    /// The pool starts again.
    reopen: bool,
    /// Pool blocks among the new ones: distance to the one before, who is paid what is owed, who is credited
    /// what.
    found: Vec<(u32, u8, u8, u32)>,
}

fn step() -> impl Strategy<Value = Step> {
    let found = proptest::collection::vec((1_u32..150, 1_u8..5, 1_u8..5, 1_u32..1_000), 0..6);
    let back = prop_oneof![0_u32..4, 1_u32..=400];
    let forward = prop_oneof![0_u32..4, 0_u32..=400];
    let earlier = proptest::option::of(0_usize..16);
    (back, forward, earlier, any::<bool>(), proptest::bool::weighted(0.2), found).prop_map(
        |(back, forward, earlier, anew, reopen, found)| Step { back, forward, earlier, anew, reopen, found },
    )
}

proptest! {
    // Every case writes a real database and asks a node about long chains. That of the ledger alone is made more often.
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn i9_credits_at_a_tip_depend_on_the_chain_of_that_tip_alone(
        steps in proptest::collection::vec(step(), 1..12),
    ) {
        let mut scene = Scene::new(1);
        let mut branch = Vec::new();
        scene.grow(&mut branch, 500);
        let mut branches = vec![branch.clone()];
        let mut pool: HashMap<BlockHash, PoolBlock> = HashMap::new();
        for step in steps {
            if let Some(earlier) = step.earlier {
                branch = branches[earlier % branches.len()].clone();
            } else {
                let fork = (branch.len() as u32 - 1).saturating_sub(step.back).max(1);
                branch.truncate(fork as usize + 1);
                scene.grow(&mut branch, fork + step.forward);
                let mut height = fork;
                for (distance, paid, credited, sats) in step.found {
                    height += distance;
                    if height as usize >= branch.len() {
                        break;
                    }
                    let owed = fold(branch.iter().take(height as usize).filter_map(|hash| pool.get(hash)), &Moves::default());
                    let owed = owed.unwrap().by_script.get(&script(paid)).map_or(0, |sats| *sats as i64);
                    let delta = match paid == credited {
                        true => vec![(credited, i64::from(sats))],
                        false => vec![(paid, -owed), (credited, owed + i64::from(sats))],
                    };
                    let block = pool_block(&branch, height, &delta);
                    scene.books.found(block.clone());
                    pool.insert(block.hash, block);
                }
                branches.push(branch.clone());
            }
            match step.anew {
                true => scene.nodes[0].view().restart_on(&branch),
                false => scene.nodes[0].view().follow(&branch),
            }
            if step.reopen {
                scene.reopen();
            }
            let (credits, _) = scene.at(*branch.last().unwrap()).unwrap();
            let expected = fold(branch.iter().filter_map(|hash| pool.get(hash)), &Moves::default()).unwrap();
            prop_assert_eq!(credits, expected, "tip at {}", branch.len() - 1);
            // No block up to the tip is called what it is not.
            for block in pool.values().filter(|block| (block.height as usize) < branch.len()) {
                let in_chain = branch[block.height as usize] == block.hash;
                prop_assert_eq!(scene.state(block).is_in_chain(), in_chain);
            }
        }
    }
}
