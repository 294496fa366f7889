//! `deploy/sluice-pool.toml` and `deploy/sluice-proxy.toml` say the truth: their defaults are the defaults, and they
//! name every setting.
#![forbid(unsafe_code)]

use stratum_net::settings::{Mistakes, Reader};

/// A server's sample, and what its operator has to complete.
struct Sample {
    text: &'static str,
    /// Lines to be completed, as they stand and as they might.
    own: &'static [(&'static str, &'static str)],
    /// The mistakes of the sample as it stands, by their keys.
    missing: &'static [&'static str],
    /// A table that is an array of tables.
    array: &'static str,
    /// What the operator's own settings are alone.
    short: &'static str,
    /// Resolves settings; the answer is how they print.
    resolve: fn(Reader) -> Result<String, Mistakes>,
}

const SAMPLES: [Sample; 2] = [
    Sample {
        text: include_str!("../deploy/sluice-pool.toml"),
        own: &[(
            "# reserve_address = \"tb1q…\"",
            "reserve_address = \"tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx\"",
        )],
        missing: &["payout.reserve_address"],
        array: "node",
        short: "network = \"signet\"\ndata_dir = \"data\"\n[[node]]\nrpc = \"127.0.0.1:38332\"\n\
                cookie_file = \"/var/lib/bitcoind/signet/.cookie\"\nzmq_hashblock = \"tcp://127.0.0.1:28332\"\n\
                [payout]\nreserve_address = \"tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx\"\n",
        resolve: |reader| Ok(format!("{:#?}", pool::settings::Settings::resolve(reader)?)),
    },
    Sample {
        text: include_str!("../deploy/sluice-proxy.toml"),
        own: &[
            (
                "# url = \"stratum2+tcp://HOST:PORT/KEY\"",
                "url = \"stratum2+tcp://pool:3336/9bXiEd8boQVhq7WddEcERUL5tyyJVFYdU8th3HfbNXK3Yw6GRXh\"",
            ),
            ("# user = \"tb1q….proxy\"", "user = \"x.proxy\""),
        ],
        missing: &["upstream.user", "upstream.url"],
        array: "upstream",
        short: "[[upstream]]\nuser = \"x.proxy\"\n\
                url = \"stratum2+tcp://pool:3336/9bXiEd8boQVhq7WddEcERUL5tyyJVFYdU8th3HfbNXK3Yw6GRXh\"\n",
        resolve: |reader| Ok(format!("{:#?}", proxy::settings::Settings::resolve(reader)?)),
    },
];

impl Sample {
    /// The sample as an operator would complete it.
    fn completed(&self) -> String {
        self.own.iter().fold(self.text.to_owned(), |text, (before, after)| {
            assert!(text.contains(before), "{before}");
            text.replace(before, after)
        })
    }

    fn mistakes(&self, text: &str) -> Mistakes {
        (self.resolve)(Reader::text(text)).expect_err("these settings have a mistake")
    }

    /// Whether a line, in use or commented out, sets the key.
    fn explains(&self, key: &str) -> bool {
        let mut lines = self.text.lines();
        lines.any(|line| {
            line.trim_start_matches("# ").starts_with(&format!("{key} = ")) && line.contains(" # ")
        })
    }
}

#[test]
fn only_what_nobody_else_can_know_is_left_to_the_operator() {
    for sample in SAMPLES {
        let mistakes = sample.mistakes(sample.text);
        let keys: Vec<_> = mistakes.0.iter().map(|mistake| mistake.key.as_str()).collect();
        assert_eq!(keys, sample.missing, "{mistakes}");
        assert!(mistakes.0.iter().all(|mistake| mistake.text.starts_with("missing")), "{mistakes}");
    }
}

#[test]
fn every_default_in_a_sample_is_the_default() {
    for sample in SAMPLES {
        let resolve =
            |text: &str| (sample.resolve)(Reader::text(text)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(resolve(&sample.completed()), resolve(sample.short));
    }
}

#[test]
fn every_setting_is_explained_in_its_sample() {
    for sample in SAMPLES {
        let completed = sample.completed();
        let (mut tables, mut keys) = (Vec::from([String::new()]), 0);
        while let Some(table) = tables.pop() {
            // A misspelt setting makes the reader name those it knows beside it.
            let header = if table == sample.array { format!("[[{table}]]") } else { format!("[{table}]") };
            let text = if table.is_empty() {
                format!("nonsense = 1\n{completed}")
            } else {
                completed.replace(&header, &format!("{header}\nnonsense = 1"))
            };
            let text = sample.mistakes(&text).to_string();
            let (_, known) = text.split_once("known here: ").unwrap_or_else(|| panic!("{table}: {text}"));
            for key in known.split(", ") {
                if sample.text.contains(&format!("[{key}]")) {
                    tables.push(key.to_owned());
                } else {
                    keys += 1;
                    assert!(sample.explains(key), "{table}.{key} is not in its sample");
                }
            }
        }
        let settings = |line: &&str| line.contains(" = ") && line.contains(" # ");
        assert_eq!(keys, sample.text.lines().filter(settings).count());
    }
}
