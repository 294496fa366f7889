//! Settings: taken from file, environment and flags, checked as a whole, typed from here on.

use crate::cli::Overrides;
use crate::link::Upstream;
use std::net::SocketAddr;
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
        let settings = Self {
            pass_users,
            shards: shards(r),
            shutdown_grace: Duration::from_secs(r.in_range("shutdown_grace_s", 10, 1..=300)),
            v1_listen: v1_listen(r),
            http_listen: http_listen(r, 3381),
            upstreams: upstreams(r, pass_users),
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

fn upstreams(r: &mut Reader, pass_users: bool) -> Vec<Upstream> {
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
        if server.is_none() {
            // A wrong one has been noted.
            table.or_missing(
                "url",
                "write it as stratum2+tcp://HOST:PORT/KEY, with the key that the pool gives out",
            );
        }
        r.merge("upstream", table);
        if let Some(server) = server {
            upstreams.push(Upstream { server, user });
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

#[cfg(test)]
mod tests {
    use super::*;

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
    fn flags_name_upstreams_without_a_file() {
        let overrides = Overrides {
            config: None,
            listen: None,
            http_listen: None,
            upstream: vec![format!("stratum2+tcp://a:1/{KEY}"), format!("stratum2+tcp://b:2/{KEY}")],
            user: Some("me".to_owned()),
            pass_users: false,
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
            log: None,
            ..overrides
        })
        .unwrap_err()
        .to_string();
        assert!(nobody.contains("upstream.user: missing"), "{nobody}");
        assert!(Settings::load(&Overrides { user: None, pass_users: true, ..overrides }).is_ok());
    }
}
