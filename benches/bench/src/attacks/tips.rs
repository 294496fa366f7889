//! A new tip each second, without the work of finding blocks: two of one height take turns.

use crate::stage::{Block, Node};
use anyhow::Context;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

const EVERY: Duration = Duration::from_secs(1);

/// The two blocks.
#[derive(Debug)]
pub struct Tips([Block; 2]);

impl Tips {
    /// Finds both.
    ///
    /// # Errors
    /// The node fails.
    pub fn prepare(node: &Node) -> anyhow::Result<Self> {
        let first = node.solve()?;
        let mut second = node.solve()?;
        while second.hash == first.hash {
            // Found within the same second, from the same start.
            second = node.solve()?;
        }
        node.submit(&first)?;
        node.submit(&second)?;
        Ok(Self([first, second]))
    }

    /// Makes tips while there is `work`; gives what it gave, and how many there were.
    ///
    /// # Errors
    /// The node fails.
    pub fn during<T>(&self, node: &Node, work: impl FnOnce() -> T) -> anyhow::Result<(T, u32)> {
        thread::scope(|scope| {
            let (end, ended) = sync_channel::<()>(0);
            let making = scope.spawn(move || {
                let mut made = 0;
                let mut turns = self.0.iter().rev().cycle();
                while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(EVERY) {
                    node.prefer(turns.next().context("they take turns for ever")?)?;
                    made += 1;
                }
                anyhow::Ok(made)
            });
            let given = work();
            drop(end);
            let made = making.join().map_err(|_| anyhow::anyhow!("tips are made no more"))??;
            Ok((given, made))
        })
    }
}
