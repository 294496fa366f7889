//! What an earlier run has left of its blocks: submitted again, put into the books, and their shares into the log.

use crate::blocks::{Noted, read_note};
use crate::books::Books;
use crate::director::News;
use anyhow::Context;
use share_accounting::{Accounting, BlockShare, Restored};
use std::path::Path;
use std::sync::mpsc::SyncSender;
use template::bitcoind::rpc;
use template::submit::{self, Recovered, Submitter};
use tracing::{info, warn};

/// Opens the block folder; what is not known of it goes into the books and the log first: blocks without a verdict, and
/// those judged just before a crash.
///
/// # Errors
/// The folder cannot be used, or the log cannot be read or written.
pub fn open_submitter(
    dir: &Path,
    nodes: &[rpc::Node],
    news: &SyncSender<News>,
    accounting: &Accounting,
    books: &mut Books,
) -> anyhow::Result<Submitter> {
    let director = news.clone();
    let on_event = move |event| {
        // Fails only while stopping; the verdict is beside the block's file.
        let _ = director.send(News::Submitted(event));
    };
    let dir = dir.join("blocks");
    let (submitter, recovered) = Submitter::open(&dir, nodes, on_event)?;
    for Recovered { height, hash, .. } in &recovered {
        info!(height, %hash, "block of an earlier run is submitted again");
    }
    let missed = submit::judged(&dir, |hash| !books.knows(hash) || !books.is_logged(hash))?;
    let blocks = recovered.into_iter().chain(missed);
    // Plans name a block once it is in the chain; what it has paid is in the log by then.
    let shares: Vec<BlockShare> = blocks.filter_map(|block| note(block, books)).collect();
    let mut hashes: Vec<_> = shares.iter().map(BlockShare::hash).collect();
    let Restored { logged, elsewhere } =
        accounting.restore(shares).context("the shares of blocks cannot be put into the share log")?;
    if logged > 0 {
        warn!(
            restored = logged,
            "logged shares that solve blocks and were not in the share log: they earn nothing"
        );
    }
    // Those of a longer log are looked for again, should that come back.
    hashes.retain(|hash| !elsewhere.contains(hash));
    hashes.into_iter().for_each(|hash| books.logged(hash));
    Ok(submitter)
}

/// Puts a block into the books. Gives its share if that may be missing in the log.
fn note(block: Recovered, books: &mut Books) -> Option<BlockShare> {
    let Recovered { hash, height, note } = block;
    let Some(Noted { block, share }) = read_note(hash, height, &note) else {
        warn!(
            height,
            %hash,
            "its note is damaged: the ledger does not know whom it paid; if the disk was full, the log of then has the note"
        );
        books.logged(hash);
        return None;
    };
    books.found(block);
    if books.is_logged(hash) {
        return None;
    }
    if share.is_none() {
        // Found by an earlier version. There is nothing to look for at the next start either.
        warn!(height, %hash, "its file does not have its share: if that is not in the share log, it never will be");
        books.logged(hash);
    }
    share
}
