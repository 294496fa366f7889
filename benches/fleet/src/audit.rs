//! Reads blocks back from a node: who was paid what, and whether every coinbase pays exactly the reward.
//!
//! Amounts are whole satoshis throughout: outputs come from the block's own bytes, subsidy and fees from
//! `getblockstats`. Nothing here asks the pool.

use crate::cli::{AuditArgs, Named, NodeArgs};
use anyhow::{Context, ensure};
use bitcoin::address::NetworkUnchecked;
use bitcoin::{Address, Amount, Block, ScriptBuf};
use bitcoincore_rpc::{Auth, Client, RpcApi};
use serde_json::json;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

/// How often the tip is looked at.
const POLL: Duration = Duration::from_millis(300);

/// One block as the node has it.
struct Audited {
    height: u64,
    hash: String,
    /// Outputs that carry money, in order.
    paid: Vec<(Amount, ScriptBuf)>,
    outputs_sum: Amount,
    /// Subsidy and fees.
    reward: Amount,
}

impl Audited {
    fn exact(&self) -> bool {
        self.outputs_sum == self.reward
    }
}

struct Payee {
    name: String,
    script: ScriptBuf,
}

/// Prints `blocks=B payees=P exact=yes|no`, or with `--follow` a line per block until stopped.
///
/// # Errors
/// The node does not answer, or an address is none.
pub fn run(args: &AuditArgs) -> anyhow::Result<ExitCode> {
    let payees = args.payees.iter().map(Payee::parse).collect::<anyhow::Result<Vec<_>>>()?;
    let node = connect(&args.node)?;
    if args.follow {
        follow(&node, args.from_height, &payees)
    } else {
        audit(&node, args.from_height, &payees)
    }
}

/// Prints the height of the best chain.
///
/// # Errors
/// The node does not answer.
#[expect(clippy::print_stdout, reason = "the height is the result of the command")]
pub fn print_tip(args: &NodeArgs) -> anyhow::Result<ExitCode> {
    println!("{}", tip(&connect(args)?)?);
    Ok(ExitCode::SUCCESS)
}

fn connect(args: &NodeArgs) -> anyhow::Result<Client> {
    let cookie = Auth::CookieFile(args.cookie.clone());
    Client::new(&args.rpc, cookie)
        .with_context(|| format!("cannot use {} with {}", args.rpc, args.cookie.display()))
}

#[expect(clippy::print_stdout, reason = "the line is the result of the command")]
fn audit(node: &Client, from_height: u64, payees: &[Payee]) -> anyhow::Result<ExitCode> {
    let tip = tip(node)?;
    let (mut blocks, mut exact, mut paid) = (0_u64, true, BTreeSet::new());
    for height in from_height..=tip {
        let block = read(node, height)?;
        blocks += 1;
        exact &= block.exact();
        paid.extend(block.paid.into_iter().map(|(_, script)| script));
    }
    let paid = payees.iter().filter(|payee| paid.contains(&payee.script)).count();
    println!("blocks={blocks} payees={paid} exact={}", if exact { "yes" } else { "no" });
    Ok(if blocks > 0 && exact { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[expect(clippy::print_stdout, reason = "the lines are the result of the command")]
fn follow(node: &Client, mut next: u64, payees: &[Payee]) -> anyhow::Result<ExitCode> {
    loop {
        let tip = tip(node)?;
        while next <= tip {
            println!("{}", line(&read(node, next)?, payees));
            next += 1;
        }
        std::thread::sleep(POLL);
    }
}

fn tip(node: &Client) -> anyhow::Result<u64> {
    node.call("getblockcount", &[]).context("the node does not answer getblockcount")
}

fn read(node: &Client, height: u64) -> anyhow::Result<Audited> {
    let asked = || format!("the node does not give block {height}");
    let hash: String = node.call("getblockhash", &[json!(height)]).with_context(asked)?;
    let hex: String = node.call("getblock", &[json!(hash), json!(0)]).with_context(asked)?;
    let stats: Stats =
        node.call("getblockstats", &[json!(hash), json!(["subsidy", "totalfee"])]).with_context(asked)?;
    let block: Block = bitcoin::consensus::encode::deserialize_hex(&hex).with_context(asked)?;
    ensure!(block.block_hash().to_string() == hash, "block {height} is not what its hash says");
    let coinbase =
        block.txdata.first().filter(|tx| tx.is_coinbase()).context("a block begins with a coinbase")?;
    let outputs = coinbase.output.iter().map(|output| (output.value, output.script_pubkey.clone()));
    let paid: Vec<_> = outputs.filter(|(value, _)| *value > Amount::ZERO).collect();
    let outputs_sum = paid.iter().try_fold(Amount::ZERO, |sum, (value, _)| sum.checked_add(*value));
    let reward = Amount::from_sat(stats.subsidy).checked_add(Amount::from_sat(stats.totalfee));
    Ok(Audited {
        height,
        hash,
        paid,
        outputs_sum: outputs_sum.context("outputs exceed all money")?,
        reward: reward.context("reward exceeds all money")?,
    })
}

#[derive(serde::Deserialize)]
struct Stats {
    /// In satoshis.
    subsidy: u64,
    /// In satoshis.
    totalfee: u64,
}

fn line(block: &Audited, payees: &[Payee]) -> String {
    let sum = |wanted: &dyn Fn(&ScriptBuf) -> bool| -> Amount {
        let mine = block.paid.iter().filter(|(_, script)| wanted(script));
        mine.map(|(value, _)| *value).sum() // at most outputs_sum, which did not overflow
    };
    // The leading zeros tell nothing apart.
    let short = block.hash.trim_start_matches('0');
    let mut line = format!("block {} …{}: ", block.height, &short[..short.len().min(12)]);
    for payee in payees {
        let amount = sum(&|script| *script == payee.script);
        if amount > Amount::ZERO {
            let _ = write!(line, "{} {:.8}, ", payee.name, amount.display_in(bitcoin::Denomination::Bitcoin));
        }
    }
    let other = sum(&|script| payees.iter().all(|payee| payee.script != *script));
    if other > Amount::ZERO {
        let _ = write!(line, "others {:.8}, ", other.display_in(bitcoin::Denomination::Bitcoin));
    }
    let verdict = if block.exact() { "==" } else { "IS NOT" };
    let (outputs, reward) = (block.outputs_sum.to_btc(), block.reward.to_btc()); // for people only
    let _ = write!(line, "sum {outputs:.8} {verdict} reward {reward:.8}");
    line
}

impl Payee {
    fn parse(named: &Named) -> anyhow::Result<Self> {
        let address: Address<NetworkUnchecked> =
            named.address.parse().with_context(|| format!("\"{}\" is no address", named.address))?;
        Ok(Self { name: named.name.clone(), script: address.assume_checked().script_pubkey() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address;

    fn payee(name: &str, seed: u64) -> Payee {
        let address = address::derive(bitcoin::Network::Signet, seed).unwrap().to_string();
        Payee::parse(&Named { name: name.to_owned(), address }).unwrap()
    }

    #[test]
    fn a_block_is_one_line_that_says_who_got_what_and_whether_it_sums_up() {
        let (alice, bob, other) = (payee("alice", 1), payee("bob", 2), payee("x", 3));
        let sat = Amount::from_sat;
        let mut block = Audited {
            height: 7,
            hash: format!("00000{}", "ab".repeat(29)),
            paid: vec![(sat(3_000_000_001), alice.script.clone()), (sat(5), other.script)],
            outputs_sum: sat(3_000_000_006),
            reward: sat(3_000_000_006),
        };
        let payees = [alice, bob];
        let expected = "block 7 …abababababab: alice 30.00000001, others 0.00000005, sum 30.00000006 == reward 30.00000006";
        assert_eq!(line(&block, &payees), expected);
        block.reward += sat(1);
        assert!(!block.exact() && line(&block, &payees).contains("IS NOT"));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        assert!(Payee::parse(&Named { name: "a".to_owned(), address: "tb1qnope".to_owned() }).is_err());
    }
}
