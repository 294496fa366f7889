//! Settings: taken from file, environment and flags, checked as a whole, typed from here on.

use crate::cli::Overrides;
use crate::link::Upstream;
use crate::receipts::witnessed::Witnesses;
use crate::receipts::{self, LogAddress};
use share_accounting::publish::cosign::WitnessVerifier;
use share_accounting::publish::key::LogVerifier;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use stratum::v2::codec::Str255;
use stratum_net::limits::Limits;
use stratum_net::logging;
use stratum_net::outbound::Server;
use stratum_net::settings::sections::{
    Difficulty, difficulty, http_listen, limits, log, shards, v1_listen, version_mask,
};
use stratum_net::settings::{Mistakes, Reader};
use toml::{Table, Value};

/// Upstreams that can be named.
const UPSTREAMS_MAX: usize = 16;
/// Witnesses that can be named for one.
const WITNESSES_MAX: usize = 16;

/// All settings, resolved.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Threads that serve machines.
    pub shards: usize,
    /// Longest time to finish after the first signal.
    pub shutdown_grace: Duration,
    /// Plain V1.
    pub v1_listen: Vec<SocketAddr>,
    /// /health and /metrics.
    pub http_listen: SocketAddr,
    /// Whether machines' own users say who is paid, instead of the upstreams'.
    pub pass_users: bool,
    /// Where shares are written down, and receipts kept.
    pub data_dir: Option<PathBuf>,
    /// How often logs are asked for receipts, while shares wait for theirs.
    pub receipts_every: Duration,
    /// Pools, best first.
    pub upstreams: Vec<Upstream>,
    /// Share difficulty of machines; never harder than upstream needs.
    pub difficulty: Difficulty,
    /// A machine without a share this long is closed.
    pub idle_max: Duration,
    /// Version bits that machines may roll.
    pub version_mask: u32,
    /// Whether a share without version bits counts as one with none set, although rolling was agreed.
    pub zero_bits_when_missing: bool,
    /// Connection limits.
    pub limits: Limits,
    /// Logs.
    pub log: logging::Settings,
}

impl Settings {
    /// Reads and checks everything.
    ///
    /// # Errors
    /// All mistakes at once, each with key, value and remedy.
    pub fn load(overrides: &Overrides) -> Result<Self, Mistakes> {
        let mut reader = match &overrides.config {
            Some(file) => Reader::file(file),
            None => Reader::text(""),
        };
        let layers = [("http.listen", &overrides.http_listen), ("log.filter", &overrides.log)];
        for (key, value) in layers {
            if let Some(value) = value {
                reader.lay_over(key, value.as_str());
            }
        }
        if let Some(listen) = &overrides.listen {
            reader.lay_over("v1.listen", vec![listen.as_str()]);
        }
        if let Some(dir) = &overrides.data_dir {
            reader.lay_over("data_dir", dir.as_str());
        }
        if overrides.pass_users {
            reader.lay_over("pass_users", true);
        }
        if !overrides.upstream.is_empty() {
            let one = |url: &String| {
                let user = overrides.user.iter().map(|user| ("user".to_owned(), Value::from(user.as_str())));
                Value::Table(
                    [("url".to_owned(), Value::from(url.as_str()))]
                        .into_iter()
                        .chain(user)
                        .collect::<Table>(),
                )
            };
            reader.lay_over("upstream", overrides.upstream.iter().map(one).collect::<Vec<_>>());
        }
        Self::resolve(reader)
    }

    /// Resolves what a reader holds.
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub fn resolve(mut reader: Reader) -> Result<Self, Mistakes> {
        let r = &mut reader;
        let pass_users = r.or("pass_users", false);
        let data_dir = r.optional("data_dir");
        let settings = Self {
            pass_users,
            shards: shards(r),
            shutdown_grace: Duration::from_secs(r.in_range("shutdown_grace_s", 10, 1..=300)),
            v1_listen: v1_listen(r),
            http_listen: http_listen(r, 3381),
            upstreams: upstreams(r, pass_users, data_dir.is_some()),
            data_dir,
            receipts_every: Duration::from_secs(r.in_range("receipts_every_s", 60, 1..=3_600)),
            difficulty: difficulty(r),
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

fn upstreams(r: &mut Reader, pass_users: bool, has_data_dir: bool) -> Vec<Upstream> {
    let tables = r.tables("upstream");
    if tables.is_empty() {
        r.mistake("upstream", "missing: add an [[upstream]] table with url and user");
    }
    if tables.len() > UPSTREAMS_MAX {
        r.mistake("upstream", format!("{} are too many: at most {UPSTREAMS_MAX}", tables.len()));
    }
    let mut upstreams = Vec::new();
    for mut table in tables {
        let server = table.parsed::<Server>("url");
        let user = user(&mut table, pass_users);
        let log = log_address(&mut table, has_data_dir);
        let is_named = user.as_ref().is_none_or(|user| receipts::payee_of(&user.to_string()).is_some());
        if log.is_some() && !is_named {
            table.mistake(
                "user",
                "receipts go by the address in front of it: begin with one, as in tb1q….farm",
            );
        }
        if server.is_none() {
            // A wrong one has been noted.
            table.or_missing(
                "url",
                "write it as stratum2+tcp://HOST:PORT/KEY, with the key that the pool gives out",
            );
        }
        r.merge("upstream", table);
        if let Some(server) = server {
            upstreams.push(Upstream { server, user, log });
        }
    }
    upstreams
}

fn user(table: &mut Reader, pass_users: bool) -> Option<Str255> {
    let user = table.optional::<String>("user");
    let text = user.clone().map(Str255::new);
    match (text, pass_users) {
        (None, true) => None,
        (Some(_), true) => {
            table.mistake("user", "with pass_users machines say themselves who is paid: leave it out");
            None
        }
        (None, false) => {
            let remedy = "name whom the pool pays, as it wants it written: often an address, a dot, and a name; \
                          or set pass_users = true";
            table.or_missing("user", remedy);
            None
        }
        (Some(Ok(text)), false) if user.is_some_and(|user| !user.is_empty()) => Some(text),
        (Some(_), false) => {
            table.mistake("user", "it has 1 to 255 bytes");
            None
        }
    }
}

fn log_address(table: &mut Reader, has_data_dir: bool) -> Option<LogAddress> {
    let (url, key) = (table.optional::<String>("log_url"), table.optional::<String>("log_key"));
    if let Some(url) = url.as_ref().filter(|url| !url.starts_with("http://")) {
        table.mistake("log_url", format!("{url} is no http:// address, as in http://HOST:PORT/log"));
    }
    if let Some(Err(error)) = key.as_deref().map(LogVerifier::parse) {
        table.mistake("log_key", error.to_string());
    }
    let witnesses = witnesses(table);
    if url.is_none() && witnesses.needed > 0 {
        table.mistake("log_witnesses", "of no log: set log_url and log_key, too");
    }
    match (url, key) {
        (Some(_), Some(_)) if !has_data_dir => {
            table.mistake("log_url", "receipts need a place: set data_dir, too");
            None
        }
        (Some(url), Some(key)) => Some(LogAddress { url, key, witnesses }),
        (Some(_), None) => {
            table.mistake(
                "log_key",
                "missing: the key that signs the log, as the pool gives it out on /log/key",
            );
            None
        }
        (None, Some(_)) => {
            table.mistake("log_url", "missing: where the pool publishes its log, as in http://HOST:PORT/log");
            None
        }
        (None, None) => None,
    }
}

/// All of them are needed, unless fewer are.
fn witnesses(table: &mut Reader) -> Witnesses {
    let mut keys = Vec::<WitnessVerifier>::new();
    let texts = table.or("log_witnesses", Vec::<String>::new());
    if texts.len() > WITNESSES_MAX {
        table.mistake("log_witnesses", format!("{} are too many: at most {WITNESSES_MAX}", texts.len()));
    }
    for text in &texts {
        match text.parse::<WitnessVerifier>() {
            Ok(key) if keys.iter().any(|known| known.has_key_of(&key)) => {
                table.mistake("log_witnesses", format!("{key} is there twice: one witness counts once"));
            }
            Ok(key) => keys.push(key),
            Err(error) => table.mistake("log_witnesses", error.to_string()),
        }
    }
    let all = texts.len().min(WITNESSES_MAX) as u64; // 16
    let needed = table.in_range("log_witnesses_needed", all, all.min(1)..=all);
    Witnesses { keys, needed: usize::try_from(needed).expect("at most 16") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use share_accounting::publish::cosign::WitnessKey;
    use share_accounting::publish::key::LogKey;

    /// From BIP 173.
    const PAYEE: &str = "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx";
    const KEY: &str = "9bXiEd8boQVhq7WddEcERUL5tyyJVFYdU8th3HfbNXK3Yw6GRXh";

    fn good() -> String {
        format!("[[upstream]]\nurl = \"stratum2+tcp://127.0.0.1:3336/{KEY}\"\nuser = \"tb1q.proxy\"\n")
    }

    fn mistakes(text: &str) -> String {
        Settings::resolve(Reader::text(text)).unwrap_err().to_string()
    }

    #[test]
    fn a_short_file_is_enough_and_the_rest_has_defaults() {
        let settings = Settings::resolve(Reader::text(&good())).unwrap();
        assert_eq!(settings.v1_listen, ["127.0.0.1:3333".parse().unwrap()]);
        assert_eq!(settings.http_listen, "127.0.0.1:3381".parse().unwrap());
        assert_eq!(settings.upstreams[0].server.port, 3336);
        assert_eq!(settings.version_mask, 0x1fff_e000);
    }

    #[test]
    fn all_mistakes_come_at_once() {
        let text =
            mistakes("colour = 1\n[[upstream]]\nurl = \"stratum+tcp://x:1\"\n[[upstream]]\nuser = \"\"\n");
        for part in [
            "upstream.url: \"stratum+tcp://x:1\" does not fit: it is spoken to over Stratum V2 only",
            "upstream.user: missing",
            "upstream.url: missing",
            "upstream.user: it has 1 to 255 bytes",
            "colour: unknown setting (value 1)",
        ] {
            assert!(text.contains(part), "{part} not in:\n{text}");
        }
        assert!(mistakes("").contains("upstream: missing"));
        assert!(mistakes(&good().repeat(17)).contains("17 are too many"));
        let typo = good().replace(KEY, &KEY.replace("9bX", "9cX"));
        assert!(mistakes(&typo).contains("checksum of the key is wrong"));
    }

    #[test]
    fn receipts_need_an_address_a_key_and_a_place() {
        let key = LogKey::generate("sluice/x").0.public().to_owned();
        let with = |more: &str| good().replace("tb1q.proxy", &format!("{PAYEE}.proxy")) + more;
        let address = format!("log_url = \"http://pool:3380/log\"\nlog_key = \"{key}\"\n");
        let settings = Settings::resolve(Reader::text(&format!("data_dir = \"x\"\n{}", with(&address))));
        assert_eq!(settings.unwrap().upstreams[0].log.as_ref().unwrap().key, key);
        assert!(mistakes(&with(&address)).contains("upstream.log_url: receipts need a place: set data_dir"));
        let nobody = format!("data_dir = \"x\"\n{}", with(&address).replace(PAYEE, "tb1q"));
        assert!(mistakes(&nobody).contains("upstream.user: receipts go by the address"));
        assert!(mistakes(&with("log_url = \"https://x\"\n")).contains("upstream.log_key: missing"));
        let wrong = mistakes(&with("log_url = \"https://x\"\nlog_key = \"x\"\n"));
        assert!(
            wrong.contains("https://x is no http:// address") && wrong.contains("is no key of a log"),
            "{wrong}"
        );
        assert!(mistakes(&with(&format!("log_key = \"{key}\"\n"))).contains("upstream.log_url: missing"));
    }

    #[test]
    fn witnesses_belong_to_a_log_and_each_counts_once() {
        let log_key = LogKey::generate("sluice/x").0.public().to_owned();
        let key = |name: &str| WitnessKey::generate(name).0.verifier().to_string();
        let (a, b) = (key("a"), key("b"));
        let with = |more: &str| {
            let good = good().replace("tb1q.proxy", PAYEE);
            format!("data_dir = \"x\"\n{good}log_url = \"http://x/log\"\nlog_key = \"{log_key}\"\n{more}")
        };
        let needed = |more: &str| {
            let settings = Settings::resolve(Reader::text(&with(more))).unwrap();
            let witnesses = settings.upstreams[0].log.as_ref().unwrap().witnesses.clone();
            (witnesses.keys.len(), witnesses.needed)
        };
        let both = format!("log_witnesses = [\"{a}\", \"{b}\"]\n");
        assert_eq!((needed(""), needed(&both)), ((0, 0), (2, 2)));
        assert_eq!(needed(&format!("{both}log_witnesses_needed = 1\n")), (2, 1));
        assert!(
            mistakes(&with(&format!("{both}log_witnesses_needed = 3\n"))).contains("3 is outside 1 to 2")
        );
        assert!(mistakes(&with(&format!("log_witnesses = [\"{a}\", \"{a}\"]\n"))).contains("is there twice"));
        assert!(mistakes(&with("log_witnesses = [\"x\"]\n")).contains("is no key of a witness"));
        assert!(mistakes(&(good() + &both)).contains("upstream.log_witnesses: of no log"));
    }

    #[test]
    fn flags_name_upstreams_without_a_file() {
        let overrides = Overrides {
            config: None,
            listen: None,
            http_listen: None,
            upstream: vec![format!("stratum2+tcp://a:1/{KEY}"), format!("stratum2+tcp://b:2/{KEY}")],
            user: Some("me".to_owned()),
            pass_users: false,
            data_dir: None,
            log: None,
        };
        let settings = Settings::load(&overrides).unwrap();
        let places: Vec<_> = settings.upstreams.iter().map(|upstream| upstream.server.to_string()).collect();
        assert_eq!(places, ["a:1", "b:2"]);
        let nobody = Settings::load(&Overrides {
            user: None,
            upstream: overrides.upstream.clone(),
            listen: None,
            http_listen: None,
            config: None,
            data_dir: None,
            log: None,
            ..overrides
        })
        .unwrap_err()
        .to_string();
        assert!(nobody.contains("upstream.user: missing"), "{nobody}");
        assert!(Settings::load(&Overrides { user: None, pass_users: true, ..overrides }).is_ok());
    }
}
