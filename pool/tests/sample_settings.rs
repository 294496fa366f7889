//! `deploy/sluice-pool.toml` says the truth: its defaults are the defaults, and it names every setting.

use pool::settings::Settings;
use stratum_net::settings::Reader;

const SAMPLE: &str = include_str!("../../deploy/sluice-pool.toml");
const RESERVE: &str = "reserve_address = \"tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx\"";

/// The sample as an operator would complete it.
fn completed() -> String {
    SAMPLE.replace("# reserve_address = \"tb1q…\"", RESERVE)
}

fn mistakes(text: &str) -> String {
    Settings::resolve(Reader::text(text)).expect_err("these settings have a mistake").to_string()
}

/// Whether a line, in use or commented out, sets the key.
fn explains(text: &str, key: &str) -> bool {
    text.lines()
        .any(|line| line.trim_start_matches("# ").starts_with(&format!("{key} = ")) && line.contains(" # "))
}

#[test]
fn only_the_reserve_address_is_left_to_the_operator() {
    let text = mistakes(SAMPLE);
    assert!(text.starts_with("payout.reserve_address: missing") && text.lines().count() == 1, "{text}");
}

#[test]
fn every_default_in_the_sample_is_the_default() {
    let own = "network = \"signet\"\ndata_dir = \"data\"\n[[node]]\nrpc = \"127.0.0.1:38332\"\n\
               cookie_file = \"/var/lib/bitcoind/signet/.cookie\"\nzmq_hashblock = \"tcp://127.0.0.1:28332\"\n";
    let short = format!("{own}[payout]\n{RESERVE}\n");
    let resolve = |text: &str| Settings::resolve(Reader::text(text)).unwrap();
    assert_eq!(format!("{:#?}", resolve(&completed())), format!("{:#?}", resolve(&short)));
}

#[test]
fn every_setting_is_explained_in_the_sample() {
    let (mut tables, mut keys) = (Vec::from([String::new()]), 0);
    while let Some(table) = tables.pop() {
        // A misspelt setting makes the reader name those it knows beside it.
        let header = if table == "node" { "[[node]]".to_owned() } else { format!("[{table}]") };
        let text = if table.is_empty() {
            format!("nonsense = 1\n{}", completed())
        } else {
            completed().replace(&header, &format!("{header}\nnonsense = 1"))
        };
        let text = mistakes(&text);
        let (_, known) = text.split_once("known here: ").unwrap_or_else(|| panic!("{table}: {text}"));
        for key in known.split(", ") {
            if SAMPLE.contains(&format!("[{key}]")) {
                tables.push(key.to_owned());
            } else {
                keys += 1;
                assert!(explains(SAMPLE, key), "{table}.{key} is not in deploy/sluice-pool.toml");
            }
        }
    }
    assert_eq!(keys, SAMPLE.lines().filter(|line| line.contains(" = ") && line.contains(" # ")).count());
}
