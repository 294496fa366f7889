//! Window and payouts against the model in Python, on random histories: two programs that share nothing but the rules.
#![forbid(unsafe_code)]

use bitcoin::{Amount, ScriptBuf};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use share_accounting::payout::{Donation, Params, Room, plan};
use share_accounting::window::Window;
use sluice_tests::support::rounds;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::thread;
use stratum::pot::Pot;
use stratum::target::Work;

/// What happens to a pool.
struct History {
    window: u128,
    steps: Vec<Step>,
    params: Params,
    room: Room,
    /// Rewards, and whether the block is orphaned.
    blocks: Vec<(u64, bool)>,
}

enum Step {
    Share(u32, Pot),
    Resize(u128),
}

/// Payees and others, with scripts of two lengths.
fn script(n: u32) -> ScriptBuf {
    let (head, length) = if n.is_multiple_of(3) { ([0x51, 0x20], 32) } else { ([0, 0x14], 20) };
    let mut bytes = head.to_vec();
    bytes.extend((0..length).map(|i| (n.wrapping_mul(0x9e37_79b9) >> (i % 4 * 8)) as u8 ^ i as u8)); // any bytes
    ScriptBuf::from_bytes(bytes)
}

impl History {
    fn draw(random: &mut StdRng) -> Self {
        let window = |random: &mut StdRng| {
            let bits = *[14, 20, 60, 90].choose(random).unwrap();
            random.random_range(1..1_u128 << bits)
        };
        let steps = (0..random.random_range(0..80)).map(|_| match random.random_range(0..10) {
            0 => Step::Resize(window(random)),
            _ => {
                let pot = random.random_range(-32..44);
                Step::Share(random.random_range(0..12), Pot::try_from(pot).unwrap())
            }
        });
        let steps = steps.collect();
        // Sometimes the operator mines, too.
        let fee_script = script(if random.random_bool(0.1) { 3 } else { 9_001 });
        let donation = Donation { bp: random.random_range(1..300), script: script(9_003) };
        let params = Params {
            fee_bp: *[0, 50, 200, 5_000].choose(random).unwrap(),
            fee_script,
            donations: if random.random_bool(0.5) { vec![donation] } else { Vec::new() },
            min_payout: *[546, 5_000, 1_000_000].choose(random).unwrap(),
            reserve_script: script(9_002),
        };
        let out_bytes = *[0, 31, 43, 100, 400, 16_000].choose(random).unwrap();
        let room = Room { out_bytes, fee_inline: random.random_bool(0.7) };
        let reward = |random: &mut StdRng| match random.random_range(0..4) {
            0 => *[1, 17, 10_000].choose(random).unwrap(),
            1 => random.random_range(1..10_000_000_000),
            _ => 312_500_000,
        };
        let blocks = (0..random.random_range(1..8)).map(|_| (reward(random), random.random_bool(0.2)));
        let blocks = blocks.collect();
        Self { window: window(random), steps, params, room, blocks }
    }

    /// As the model reads it.
    fn line(&self) -> String {
        let step = |step: &Step| match step {
            Step::Share(payee, pot) => json!(["share", script(*payee).to_hex_string(), pot.get()]),
            Step::Resize(window) => json!(["resize", window.to_string()]),
        };
        let donations = self.params.donations.iter().map(|d| json!([d.bp, d.script.to_hex_string()]));
        json!({
            "window": self.window.to_string(),
            "steps": self.steps.iter().map(step).collect::<Value>(),
            "params": {
                "fee_bp": self.params.fee_bp,
                "fee_script": self.params.fee_script.to_hex_string(),
                "donations": donations.collect::<Value>(),
                "min_payout": self.params.min_payout,
                "out_bytes": self.room.out_bytes,
                "reserve_script": self.params.reserve_script.to_hex_string(),
                "fee_inline": self.room.fee_inline,
            },
            "blocks": self.blocks.iter().map(|(reward, orphaned)| json!([reward, orphaned])).collect::<Value>(),
        })
        .to_string()
    }

    /// As our code lives it; in the words of the model's answer.
    fn live(&self) -> Value {
        let mut window = Window::new(Work(self.window));
        let mut shares = Vec::new();
        for step in &self.steps {
            match step {
                Step::Share(payee, pot) => {
                    window.append(*payee, *pot);
                    shares.push((*payee, *pot));
                }
                Step::Resize(size) => {
                    if !window.resize(Work(*size)) {
                        // As from the log: it reaches back to what was let go.
                        window = Window::new(Work(*size));
                        shares.iter().for_each(|(payee, pot)| window.append(*payee, *pot));
                    }
                }
            }
        }
        let weights: BTreeMap<_, _> =
            window.weights().into_iter().map(|(payee, work)| (script(payee), work)).collect();
        let mut credits = BTreeMap::new();
        let mut blocks = Vec::new();
        for (reward, orphaned) in &self.blocks {
            let Some(plan) = plan(Amount::from_sat(*reward), &weights, &credits, &self.params, self.room)
            else {
                break;
            };
            let outputs = plan
                .outputs
                .iter()
                .map(|output| json!([output.script_pubkey.to_hex_string(), output.value.to_sat()]));
            let owed = plan.credit_after.iter().map(|(script, sats)| json!([script.to_hex_string(), sats]));
            blocks.push(json!({"outputs": outputs.collect::<Value>(), "owed": owed.collect::<Value>()}));
            if !orphaned {
                credits = plan.credit_after;
            }
        }
        let weights = weights.iter().map(|(script, work)| json!([script.to_hex_string(), work.to_string()]));
        json!({"weights": weights.collect::<Value>(), "blocks": blocks})
    }
}

#[test]
fn random_histories_pay_what_the_model_pays() {
    let mut random = StdRng::seed_from_u64(1);
    let histories: Vec<_> = (0..rounds(2_000, 100_000)).map(|_| History::draw(&mut random)).collect();
    let mut model = Command::new("python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/model/ppa1.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is there: tests/run installs it");
    let mut input = model.stdin.take().unwrap();
    let lines: Vec<String> = histories.iter().map(History::line).collect();
    let writer = thread::spawn(move || {
        for line in lines {
            writeln!(input, "{line}").unwrap();
        }
    });
    let mut answers = BufReader::new(model.stdout.take().unwrap()).lines();
    let (mut paid, mut carried) = (0, 0);
    for (nth, history) in histories.iter().enumerate() {
        let answer = answers.next().unwrap_or_else(|| panic!("no answer to {}", history.line())).unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(history.live(), answer, "history {nth}: {}", history.line());
        let blocks = answer["blocks"].as_array().unwrap();
        paid += blocks.len();
        carried += blocks.iter().filter(|block| block["owed"] != json!([])).count();
    }
    writer.join().unwrap();
    assert!(model.wait().unwrap().success());
    // The histories are worth the name.
    assert!(paid > 2 * histories.len() && carried > histories.len(), "{paid} blocks, {carried} with credits");
}
