//! Settings: taken from file, environment and flags, checked as a whole, typed from here on.

use crate::cli::Overrides;
use crate::witnesses::Witness;
use bitcoin::address::NetworkUnchecked;
use bitcoin::{Address, Network, ScriptBuf};
use serde::Deserialize;
use share_accounting::payout::{Donation, MIN_PAYOUT_MIN, Params};
use share_accounting::publish::cosign::WitnessVerifier;
use share_accounting::settlement::FEE_BP_MAX;
use share_accounting::window::Span;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use stratum::payee::can_be_paid;
use stratum_net::limits::Limits;
use stratum_net::logging;
use stratum_net::settings::sections::{
    Difficulty, addresses, difficulty, http_listen, limits, log, shards, v1_listen, version_mask,
};
use stratum_net::settings::{Mistakes, Reader};
use template::coinbase::CoinbaseStyle;

/// Witnesses that can be named.
const WITNESSES_MAX: usize = 16;

/// All settings, resolved.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The chain.
    pub network: Network,
    /// Folder for share log, ledger and blocks.
    pub data_dir: PathBuf,
    /// This server's number within a pool of several: part of every coinbase.
    pub site: u16,
    /// Threads that serve miners.
    pub shards: usize,
    /// Longest time to finish after the first signal.
    pub shutdown_grace: Duration,
    /// Plain V1.
    pub v1_listen: Vec<SocketAddr>,
    /// Stratum V2.
    pub v2: V2,
    /// /health, /metrics and /log.
    pub http_listen: SocketAddr,
    /// The share log for everybody.
    pub publish: Publish,
    /// Nodes, best first.
    pub nodes: Vec<Node>,
    /// Who gets what.
    pub payout: Payout,
    /// How what is owed is paid from the reserve.
    pub settlement: Settlement,
    /// Text at the end of the coinbase script.
    pub coinbase_text: String,
    /// Share difficulty.
    pub difficulty: Difficulty,
    /// Shares per second that all miners together are steered to at most: their own aim falls beyond it.
    pub credited_shares_per_s_max: u32,
    /// How long a share for the previous tip still earns credit.
    pub stale_credit: Duration,
    /// A connection without a share this long is closed.
    pub idle_max: Duration,
    /// Version bits that miners may roll.
    pub version_mask: u32,
    /// Whether a share without version bits counts as one with none set, although rolling was agreed.
    pub zero_bits_when_missing: bool,
    /// Connection limits.
    pub limits: Limits,
    /// Logs.
    pub log: logging::Settings,
}

/// Stratum V2.
#[derive(Debug, Clone, Default)]
pub struct V2 {
    /// Where it is served; nowhere if empty.
    pub listen: Vec<SocketAddr>,
    /// The server's own key.
    pub key_file: PathBuf,
    /// What its authority says of it.
    pub certificate_file: PathBuf,
    /// A connection without a share this long is closed.
    pub idle_max: Duration,
    /// Version bits that miners may roll.
    pub version_mask: u32,
    /// Whether clients that ask for it are told where in the log their shares are.
    pub experimental_receipts: bool,
}

/// How the share log is published.
#[derive(Debug, Clone)]
pub struct Publish {
    /// The key that signs it.
    pub key_file: PathBuf,
    /// Its name; without one it is named by its id.
    pub origin: Option<String>,
    /// Who cosigns its heads.
    pub witnesses: Vec<Witness>,
    /// So many of them have to: a rule of the log. None, if 0.
    pub witnesses_needed: u8,
}

/// One Bitcoin node.
#[derive(Debug, Clone)]
pub struct Node {
    /// `host:port` of its RPC server.
    pub rpc: String,
    /// File with `user:password`: the cookie that the node writes at each start, or one of the operator's.
    pub credentials: PathBuf,
    /// Its ZMQ publisher of `hashblock`, if it has one.
    pub zmq_hashblock: Option<String>,
}

/// Who gets what.
#[derive(Debug, Clone)]
pub struct Payout {
    /// PPLNS window in multiples of the network difficulty.
    pub span: Span,
    /// How a reward is split.
    pub params: Params,
}

/// How what is owed is paid from the reserve.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// The most that the network's fee takes of it, in basis points; 0: nothing is settled.
    pub fee_bp: u16,
    /// What must be owed, in satoshis, so that it is worth a transaction.
    pub at_least_sats: u64,
    /// The fee; without it the node is asked.
    pub fee_rate_sats_per_vb: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DonationText {
    bp: u16,
    address: String,
}

impl Settings {
    /// Reads and checks everything.
    ///
    /// # Errors
    /// All mistakes at once, each with key, value and remedy.
    pub fn load(overrides: &Overrides) -> Result<Self, Mistakes> {
        let mut reader = Reader::file(&overrides.config);
        let layers = [
            ("http.listen", &overrides.http_listen),
            ("network", &overrides.network),
            ("data_dir", &overrides.data_dir),
            ("log.filter", &overrides.log),
        ];
        for (key, value) in layers {
            if let Some(value) = value {
                reader.lay_over(key, value.as_str());
            }
        }
        if let Some(listen) = &overrides.listen {
            reader.lay_over("v1.listen", vec![listen.as_str()]);
        }
        Self::resolve(reader)
    }

    /// Resolves what a reader holds.
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub fn resolve(mut reader: Reader) -> Result<Self, Mistakes> {
        let r = &mut reader;
        let network = network(r);
        let data_dir = data_dir(r);
        let settings = Self {
            network,
            v2: v2(r, &data_dir),
            publish: publish(r, &data_dir),
            data_dir,
            site: r.or("site", 0),
            shards: shards(r),
            shutdown_grace: Duration::from_secs(r.in_range("shutdown_grace_s", 10, 1..=300)),
            v1_listen: v1_listen(r),
            http_listen: http_listen(r, 3380),
            nodes: nodes(r),
            payout: payout(r, network),
            settlement: settlement(r),
            coinbase_text: coinbase_text(r),
            difficulty: difficulty(r),
            // 500 a second are 3 GB of share log a day.
            credited_shares_per_s_max: r.in_range("difficulty.credited_shares_per_s_max", 500, 1..=1_000_000)
                as u32, // fits
            stale_credit: Duration::from_millis(r.in_range("shares.stale_credit_ms", 0, 0..=2_000)),
            idle_max: Duration::from_secs(r.in_range("v1.idle_max_s", 900, 60..=86_400)),
            version_mask: version_mask(r, "v1.version_mask", "1fffe000"),
            zero_bits_when_missing: r.or("v1.zero_bits_when_missing", false),
            limits: limits(r),
            log: log(r),
        };
        reader.finish()?;
        Ok(settings)
    }
}

impl Settings {
    /// Version bits that any miner may roll.
    pub fn rolled_bits(&self) -> u32 {
        if self.v2.listen.is_empty() { self.version_mask } else { self.version_mask | self.v2.version_mask }
    }
}

fn network(r: &mut Reader) -> Network {
    let Some(name) = r.optional::<String>("network") else {
        let all = "missing: set it to \"bitcoin\", \"signet\", \"regtest\", \"testnet\" or \"testnet4\"";
        r.mistake("network", all);
        return Network::Regtest;
    };
    match name.as_str() {
        "signet" => Network::Signet,
        "regtest" => Network::Regtest,
        "testnet" => Network::Testnet,
        "testnet4" => Network::Testnet4,
        "bitcoin" | "main" | "mainnet" => Network::Bitcoin,
        other => {
            r.mistake(
                "network",
                format!("\"{other}\" is no network: use bitcoin, signet, regtest, testnet or testnet4"),
            );
            Network::Regtest
        }
    }
}

fn data_dir(r: &mut Reader) -> PathBuf {
    r.optional("data_dir").unwrap_or_else(|| {
        r.mistake("data_dir", "missing: name a folder for share log, ledger and blocks");
        PathBuf::new()
    })
}

fn v2(r: &mut Reader, data_dir: &Path) -> V2 {
    let below = |name: &str| data_dir.join(name);
    V2 {
        listen: addresses(r, "v2.listen", &[]),
        key_file: r.or("v2.key_file", below("v2.key")),
        certificate_file: r.or("v2.certificate_file", below("v2.certificate")),
        idle_max: Duration::from_secs(r.in_range("v2.idle_max_s", 900, 60..=86_400)),
        version_mask: version_mask(r, "v2.version_mask", "1fffffe0"),
        experimental_receipts: r.or("v2.experimental_receipts", false),
    }
}

fn publish(r: &mut Reader, data_dir: &Path) -> Publish {
    let origin: Option<String> = r.optional("publish.origin");
    let is_name = |name: &str| {
        (1..=200).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'+')
    };
    if let Some(name) = origin.as_deref().filter(|name| !is_name(name)) {
        let text = format!("\"{name}\" is no name of a log: up to 200 letters, no spaces, no plus");
        r.mistake("publish.origin", text);
    }
    let key_file = r.or("publish.key_file", data_dir.join("log.key"));
    let witnesses = witnesses(r);
    let witnesses_needed = r.in_range("publish.witnesses_needed", 0, 0..=WITNESSES_MAX as u64); // 16
    let witnesses_needed = u8::try_from(witnesses_needed).expect("at most 16");
    if usize::from(witnesses_needed) > witnesses.len() {
        let text = format!("{witnesses_needed} are more than publish.witnesses names");
        r.mistake("publish.witnesses_needed", text);
    }
    Publish { key_file, origin, witnesses, witnesses_needed }
}

fn witnesses(r: &mut Reader) -> Vec<Witness> {
    const KEY: &str = "publish.witnesses";
    let texts = r.or(KEY, Vec::<String>::new());
    if texts.len() > WITNESSES_MAX {
        r.mistake(KEY, format!("{} are too many: at most {WITNESSES_MAX}", texts.len()));
    }
    let mut witnesses = Vec::<Witness>::new();
    for text in texts {
        let parts = text.split_once(' ').filter(|(url, _)| url.starts_with("http://"));
        let Some((url, key)) = parts else {
            r.mistake(KEY, format!("\"{text}\" is none: \"http://HOST:PORT KEY\" is wanted"));
            continue;
        };
        match key.parse::<WitnessVerifier>() {
            Ok(key) if witnesses.iter().any(|known| known.key.has_key_of(&key)) => {
                r.mistake(KEY, format!("{key} is there twice: one witness counts once"));
            }
            Ok(key) => witnesses.push(Witness { url: url.to_owned(), key }),
            Err(error) => r.mistake(KEY, error.to_string()),
        }
    }
    witnesses
}

fn nodes(r: &mut Reader) -> Vec<Node> {
    let mut nodes = Vec::new();
    let tables = r.tables("node");
    if tables.is_empty() {
        r.mistake("node", "missing: add a [[node]] table with rpc and cookie_file");
    }
    for mut table in tables {
        let rpc: Option<String> = table.optional("rpc");
        if rpc.is_none() {
            table.mistake("rpc", "missing: name the node's RPC server, for example \"127.0.0.1:38332\"");
        }
        let credentials = credentials(&mut table);
        let zmq_hashblock = table.optional("zmq_hashblock");
        r.merge("node", table);
        if let (Some(rpc), Some(credentials)) = (rpc, credentials) {
            nodes.push(Node { rpc, credentials, zmq_hashblock });
        }
    }
    nodes
}

fn credentials(table: &mut Reader) -> Option<PathBuf> {
    let cookie: Option<PathBuf> = table.optional("cookie_file");
    let own: Option<PathBuf> = table.optional("credentials_file");
    match (cookie, own) {
        (Some(cookie), None) => Some(cookie),
        (None, Some(own)) => {
            if let Err(text) = owner_only(&own) {
                table.mistake("credentials_file", text);
            }
            Some(own)
        }
        _ => {
            let text = "name the node's cookie_file, or a credentials_file that holds user:password";
            table.mistake("cookie_file", text);
            None
        }
    }
}

/// A secret that others can read is no secret.
pub(crate) fn owner_only(file: &Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = std::fs::metadata(file).map_err(|e| format!("cannot read {}: {e}", file.display()))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(format!("others can read {0}: run chmod 600 {0}", file.display()));
    }
    Ok(())
}

fn script_of(r: &mut Reader, key: &str, text: &str, network: Network) -> Option<ScriptBuf> {
    let parsed = text.parse::<Address<NetworkUnchecked>>();
    match parsed.map(|address| address.require_network(network)) {
        Ok(Ok(address)) if !can_be_paid(&address.script_pubkey()) => {
            r.mistake(key, format!("{text} can be spent by anybody: its witness version is not in use yet"));
            None
        }
        Ok(Ok(address)) => Some(address.script_pubkey()),
        Ok(Err(_)) => {
            r.mistake(key, format!("{text} is not an address of {network}"));
            None
        }
        Err(_) => {
            r.mistake(key, format!("\"{text}\" is not a Bitcoin address: check it for a typo"));
            None
        }
    }
}

fn address(r: &mut Reader, key: &str, network: Network) -> Option<ScriptBuf> {
    let text: String = r.optional(key)?;
    script_of(r, key, &text, network)
}

fn payout(r: &mut Reader, network: Network) -> Payout {
    let span = span(r);
    let fee_bp = r.in_range("payout.fee_bp", 0, 0..=5_000) as u16; // at most 5,000
    let fee_script = address(r, "payout.fee_address", network);
    if fee_bp > 0 && fee_script.is_none() {
        r.mistake("payout.fee_address", "missing or wrong: a fee needs an address");
    }
    let reserve_script = address(r, "payout.reserve_address", network);
    if reserve_script.is_none() {
        let text = "missing or wrong: name an address that holds what is owed to miners whose output is too \
                    small or does not fit";
        r.mistake("payout.reserve_address", text);
    }
    let mut donations = Vec::new();
    for DonationText { bp, address } in r.or::<Vec<DonationText>>("payout.donations", Vec::new()) {
        if let Some(script) = script_of(r, "payout.donations", &address, network) {
            donations.push(Donation { bp, script });
        }
    }
    let params = Params {
        fee_bp,
        fee_script: fee_script.unwrap_or_default(),
        donations,
        min_payout: r.in_range("payout.min_payout_sats", 5_000, MIN_PAYOUT_MIN..=100_000_000),
        reserve_script: reserve_script.clone().unwrap_or_default(),
    };
    // Missing scripts have been reported above.
    let complete = reserve_script.is_some() && (fee_bp == 0 || !params.fee_script.is_empty());
    if complete && let Err(error) = params.check() {
        r.mistake("payout", error.to_string());
    }
    Payout { span, params }
}

fn settlement(r: &mut Reader) -> Settlement {
    let fee_rate_sats_per_vb = r.optional::<u64>("settlement.fee_rate_sats_per_vb");
    if fee_rate_sats_per_vb.is_some_and(|rate| !(1..=10_000).contains(&rate)) {
        r.mistake("settlement.fee_rate_sats_per_vb", "from 1 to 10,000 satoshis for a virtual byte");
    }
    Settlement {
        fee_bp: r.in_range("settlement.fee_bp", 200, 0..=u64::from(FEE_BP_MAX)) as u16, // at most 1,000
        at_least_sats: r.in_range("settlement.at_least_sats", 1_000_000, 1..=2_100_000_000_000_000),
        fee_rate_sats_per_vb,
    }
}

/// N of the window as an exact fraction: a float has turned 0.5 into nothing elsewhere.
fn span(r: &mut Reader) -> Span {
    let text: String = r.or("payout.window", "8".to_owned());
    let (numerator, denominator) = text.split_once('/').unwrap_or((&text, "1"));
    let whole = |text: &str| text.trim().parse::<u64>().ok();
    let parsed = whole(numerator).zip(whole(denominator)).and_then(|(n, d)| Span::new(n, d));
    parsed.unwrap_or_else(|| {
        let text = format!("\"{text}\" is no window: write a whole number or a fraction, \"8\" or \"17/2\"");
        r.mistake("payout.window", text);
        Span::new(8, 1).expect("eight is a window")
    })
}

fn coinbase_text(r: &mut Reader) -> String {
    let text: String = r.or("coinbase_text", "/sluice/".to_owned());
    if let Err(error) = CoinbaseStyle::new(0, 0, &text) {
        r.mistake("coinbase_text", error.to_string());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
network = "signet"
data_dir = "pool-data"
[[node]]
rpc = "127.0.0.1:38332"
cookie_file = "node/signet/.cookie"
[payout]
reserve_address = "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx"
"#;

    fn mistakes(text: &str) -> String {
        Settings::resolve(Reader::text(text)).unwrap_err().to_string()
    }

    #[test]
    fn what_anybody_can_spend_is_no_address_of_the_pool() {
        // Pay to anchor (BIP 433), and witness version 2 from BIP 350 for this network.
        for anybodys in ["tb1pfees9rn5nz", "tb1zw508d6qejxtdg4y5r3zarvaryv5p829g"] {
            let text = GOOD.replace("tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx", anybodys);
            let told = mistakes(&text);
            assert!(told.contains(&format!("{anybodys} can be spent by anybody")), "{told}");
        }
    }

    #[test]
    fn a_short_file_is_enough_and_the_rest_has_defaults() {
        let settings = Settings::resolve(Reader::text(GOOD)).unwrap();
        assert_eq!(settings.network, Network::Signet);
        assert_eq!(settings.v1_listen, ["127.0.0.1:3333".parse().unwrap()]);
        assert_eq!(settings.payout.span, Span::new(8, 1).unwrap());
        assert_eq!(settings.version_mask, 0x1fff_e000);
    }

    #[test]
    fn all_mistakes_come_at_once() {
        let text = mistakes(
            "network = \"sgnet\"\ncolour = 1\n[payout]\nwindow = \"0.5\"\nfee_bp = 6000\nmin_payout_sats = 1\n[publish]\norigin = \"my log\"\nwitnesses = [\"x\", \"http://a y\"]\nwitnesses_needed = 1\n",
        );
        for part in [
            "network: \"sgnet\" is no network",
            "data_dir: missing",
            "node: missing",
            "payout.window: \"0.5\" is no window",
            "payout.fee_bp: 6000 is outside 0 to 5000",
            "payout.min_payout_sats: 1 is outside",
            "payout.fee_address: missing",
            "payout.reserve_address: missing",
            "publish.origin: \"my log\" is no name of a log",
            "publish.witnesses: \"x\" is none",
            "publish.witnesses: \"y\" is no key of a witness",
            "publish.witnesses_needed: 1 are more than",
            "colour: unknown setting (value 1)",
        ] {
            assert!(text.contains(part), "{part} not in:\n{text}");
        }
    }

    #[test]
    fn public_plain_listeners_are_refused() {
        let public = format!("{GOOD}[v1]\nlisten = [\"0.0.0.0:3333\"]\n");
        assert!(mistakes(&public).contains("v1.allow_plain_public = true"));
        let allowed = format!("{public}allow_plain_public = true\n");
        assert!(Settings::resolve(Reader::text(&allowed)).is_ok());
        assert!(mistakes(&format!("{GOOD}[http]\nlisten = \"0.0.0.0:80\"\n")).contains("not loopback"));
    }

    #[test]
    fn addresses_of_other_networks_and_typos_are_told_apart() {
        let mainnet = GOOD.replace(
            "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx",
            "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
        );
        assert!(mistakes(&mainnet).contains("is not an address of signet"));
        let mainnet = mainnet.replace("network = \"signet\"", "network = \"bitcoin\"");
        assert_eq!(Settings::resolve(Reader::text(&mainnet)).unwrap().network, Network::Bitcoin);
        let typo = GOOD.replace("tb1qw508", "tb1qw509");
        assert!(mistakes(&typo).contains("check it for a typo"));
    }
}
