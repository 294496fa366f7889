//! Where the word of the chain comes from: a node that answers, or the block files that one has written. Whoever asks
//! does not see which.

use crate::chain::State;
use crate::cli::Common;
use crate::progress::Bar;
use anyhow::{Context, anyhow};
use bitcoin::{Block, BlockHash, Network, OutPoint};
use std::collections::{HashMap, HashSet};
use template::bitcoind::ask::{self, Header};
use template::bitcoind::blockfiles::tree::Place;
use template::bitcoind::blockfiles::{BlockFiles, BlockFilesError};
use template::bitcoind::rpc::{Node, Purpose, Rpc, RpcError, Timeouts};

/// RPC error of a node that does not know a block.
const UNKNOWN_BLOCK: i32 = -5;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The node gives none.
    #[error("node {address}: {error}")]
    Node { address: String, error: RpcError },
    /// The files give none.
    #[error(transparent)]
    Files(#[from] BlockFilesError),
}

/// Who is asked.
pub enum Source {
    Node(Asked),
    Files(BlockFiles),
}

/// A node, and what it has said of blocks: each is asked for once.
pub struct Asked {
    address: String,
    rpc: Rpc,
    known: HashMap<BlockHash, Option<Place>>,
}

impl Source {
    /// The one that the command line names, if it names one.
    ///
    /// # Errors
    /// It does not answer, or follows another chain.
    pub fn named(args: &Common, network: Network) -> anyhow::Result<Option<Self>> {
        if let Some(dir) = &args.blocks {
            let mut bar: Option<Bar> = None;
            let tell = |file: u32, files: u32| {
                bar.get_or_insert_with(|| Bar::new("reading", "block files", files.into()))
                    .is_at(file.into());
            };
            let files = BlockFiles::open(dir, network, tell).context("block files")?;
            return Ok(Some(Self::Files(files)));
        }
        let Some(named) = &args.node else { return Ok(None) };
        let node = Node {
            address: named.rpc.clone(),
            credentials: named.cookie_file.clone(),
            timeouts: Timeouts::default(),
        };
        let mut rpc = Rpc::new(&node, Purpose::Other);
        let address = node.address;
        ask::check_chain(&mut rpc, network).map_err(|error| anyhow!("node {address}: {error}"))?;
        Ok(Some(Self::Node(Asked { address, rpc, known: HashMap::new() })))
    }

    /// Forgets what a node has said, as its chain has changed; files are as they were when they were opened.
    pub fn forget(&mut self) {
        match self {
            Self::Node(asked) => asked.known.clear(),
            Self::Files(_) => {}
        }
    }

    /// The last block of the best chain.
    pub fn best_block(&mut self) -> Result<BlockHash, SourceError> {
        match self {
            Self::Node(asked) => asked.ask(ask::best_block),
            Self::Files(files) => Ok(files.best_block()),
        }
    }

    /// Where a block is; `None` if it is not known.
    pub fn place(&mut self, hash: BlockHash) -> Result<Option<Place>, SourceError> {
        match self {
            Self::Node(asked) => asked.place(hash),
            Self::Files(files) => Ok(files.place(hash)),
        }
    }

    /// The same, as far as most want to know.
    pub fn state(&mut self, hash: BlockHash) -> Result<State, SourceError> {
        Ok(match self.place(hash)? {
            Some(Place { height, in_chain: true, .. }) => State::InChain { height },
            Some(_) => State::Orphaned,
            None => State::Unknown,
        })
    }

    /// A block; `None` if it has been pruned, or is not known.
    pub fn block(&mut self, hash: BlockHash) -> Result<Option<Block>, SourceError> {
        match self {
            Self::Node(asked) => asked.block(hash),
            Self::Files(files) => Ok(files.block(hash)?),
        }
    }

    /// Which of some outputs are there and unspent in the best chain. Ask for all at once: block files are read through
    /// for them, from a height on below which none of them was made.
    pub fn unspent(
        &mut self,
        outpoints: &HashSet<OutPoint>,
        from: u32,
    ) -> Result<HashSet<OutPoint>, SourceError> {
        match self {
            Self::Node(asked) => asked.unspent(outpoints),
            Self::Files(files) => Ok(files.unspent(outpoints, from)?),
        }
    }
}

impl Asked {
    fn ask<T>(&mut self, question: impl FnOnce(&mut Rpc) -> Result<T, RpcError>) -> Result<T, SourceError> {
        let address = &self.address;
        question(&mut self.rpc).map_err(|error| SourceError::Node { address: address.clone(), error })
    }

    fn place(&mut self, hash: BlockHash) -> Result<Option<Place>, SourceError> {
        if let Some(known) = self.known.get(&hash) {
            return Ok(*known);
        }
        let place = self.ask(|rpc| match ask::header(rpc, hash) {
            Ok(header) => place(&header).map(Some),
            Err(RpcError::Node { code: UNKNOWN_BLOCK, .. }) => Ok(None),
            Err(error) => Err(error),
        })?;
        self.known.insert(hash, place);
        Ok(place)
    }

    fn block(&mut self, hash: BlockHash) -> Result<Option<Block>, SourceError> {
        self.ask(|rpc| match ask::block(rpc, hash) {
            Ok(block) => Ok(Some(block)),
            Err(RpcError::Node { .. }) => Ok(None),
            Err(error) => Err(error),
        })
    }

    fn unspent(&mut self, outpoints: &HashSet<OutPoint>) -> Result<HashSet<OutPoint>, SourceError> {
        let mut unspent = HashSet::new();
        for outpoint in outpoints {
            if self.ask(|rpc| ask::is_unspent(rpc, *outpoint))? {
                unspent.insert(*outpoint);
            }
        }
        Ok(unspent)
    }
}

fn place(header: &Header) -> Result<Place, RpcError> {
    let Header { height, confirmations, nextblockhash: next, .. } = *header;
    let nbits = header.nbits().ok_or_else(|| RpcError::Answer("getblockheader: no target".to_owned()))?;
    Ok(Place { height, nbits, in_chain: confirmations > 0, next })
}
