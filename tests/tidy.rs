//! The rules of this tree that no lint can see: which crate may use which, how long a file may be, which words and
//! folders stay out. Each finding names the place and the remedy.
//!
//! A rule is a function from text to findings, tested below on text that breaks it.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use toml::{Table, Value};

/// Who may use whom among our own crates: the arrows of the architecture. Everything else is refused.
const EDGES: &[(&str, &[&str])] = &[
    ("sha256d", &[]),
    ("stratum", &["sha256d"]),
    ("stratum-net", &["stratum"]),
    ("template", &["stratum-net", "stratum"]),
    ("share-accounting", &["stratum", "sha256d"]),
    ("verify", &["share-accounting", "template", "stratum-net", "stratum"]),
    ("pool", &["stratum-net", "template", "share-accounting", "stratum"]),
    ("proxy", &["stratum-net", "template", "share-accounting", "stratum"]),
];
/// Crates that look at the others from outside; they may use anything.
const OUTSIDE: &[&str] = &["fleet", "uring", "floor", "bench", "sluice-tests"];
/// The crates that may hold `unsafe` code: of the servers the first alone.
const UNSAFE_CRATES: &[&str] = &["sha256d", "uring"];
/// Folders of the root; beside them only hidden ones and the build's own.
const FOLDERS: &[&str] =
    &["proxy", "pool", "stratum", "template", "share-accounting", "benches", "tests", "deploy", "target"];
/// Lines of a file up to its tests.
const LINES_MAX: usize = 500;
/// Names that say nothing about what a file answers for.
const EMPTY_NAMES: &[&str] = &["util", "utils", "helper", "helpers", "manager", "common"];

struct Word {
    word: &'static str,
    rust_only: bool,
    remedy: &'static str,
}

/// Written in two halves, so that this file passes its own check.
const WORDS: &[Word] = &[
    Word { word: concat!("/wo", "rk/"), rust_only: false, remedy: "a path of one machine: make it relative" },
    Word {
        word: concat!("/tmp", "/wt"),
        rust_only: false,
        remedy: "a path of one machine: make it relative",
    },
    Word { word: concat!("TO", "DO"), rust_only: false, remedy: "do it now, or open an issue" },
    Word { word: concat!("FIX", "ME"), rust_only: false, remedy: "fix it now, or open an issue" },
    Word { word: concat!("XX", "X"), rust_only: false, remedy: "say what is wrong, or open an issue" },
    Word { word: concat!("db", "g!"), rust_only: true, remedy: "use tracing, or take it out" },
    Word { word: concat!("#[ign", "ore"), rust_only: true, remedy: "make the test run, or delete it" },
    Word { word: concat!("unbounded", "_channel"), rust_only: true, remedy: "give the queue a named bound" },
];

#[test]
fn the_tree_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the root");
    let mut findings = folders(root);
    for member in members(root) {
        let path = format!("{member}/Cargo.toml");
        let text = read(root, &path);
        findings.extend(edges(&path, &text));
        findings.extend(workspace_lints(&path, &text));
        findings.extend(unsafe_forbidden(root, &member, &text));
    }
    for path in texts(root) {
        findings.extend(empty_name(&path));
        let text = read(root, &path);
        findings.extend(words(&path, &text));
        findings.extend(length(&path, &text));
    }
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}

fn read(root: &Path, path: &str) -> String {
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn table(path: &str, text: &str) -> Table {
    text.parse().unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn members(root: &Path) -> Vec<String> {
    let members = table("Cargo.toml", &read(root, "Cargo.toml"))["workspace"]["members"].clone();
    members.try_into().expect("members are strings")
}

/// Paths below the root of every file that people write: sources, scripts, settings, documents.
fn texts(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder)).expect("a folder of the tree can be read") {
            let entry = entry.expect("a folder of the tree can be read");
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
            let kind = entry.file_type().expect("an entry of the tree has a type");
            if kind.is_dir() {
                // Not ours to write: the repository's own, what builds leave, and inputs of the fuzz targets.
                let skipped = [".git", "target", "artifacts", "coverage", "corpus", "seeds"];
                if !skipped.contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if kind.is_file() && is_text(&name) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn is_text(name: &str) -> bool {
    let extension = Path::new(name).extension().map(|e| e.to_string_lossy().into_owned());
    match extension.as_deref() {
        Some("rs" | "md" | "toml" | "sh" | "yml" | "yaml" | "service" | "html" | "js" | "css") => true,
        // Scripts have no extension here; nor has the licence, whose words are not ours.
        None => !name.starts_with('.') && name != "LICENSE",
        Some(_) => false,
    }
}

fn folders(root: &Path) -> Vec<String> {
    fs::read_dir(root)
        .expect("the root can be read")
        .map(|entry| entry.expect("the root can be read"))
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.') && !FOLDERS.contains(&name.as_str()))
        .map(|name| format!("{name}/:1: no folder of the root has this name; put it into one of {FOLDERS:?}"))
        .collect()
}

fn edges(path: &str, text: &str) -> Vec<String> {
    let manifest = table(path, text);
    let package = manifest["package"]["name"].as_str().expect("a package has a name");
    if OUTSIDE.contains(&package) {
        return Vec::new();
    }
    let Some((_, allowed)) = EDGES.iter().find(|(name, _)| *name == package) else {
        return vec![format!(
            "{path}:1: crate {package} is not in the architecture; add it to EDGES in tests/tidy.rs"
        )];
    };
    let own: BTreeSet<&str> = EDGES.iter().map(|(name, _)| *name).chain(OUTSIDE.iter().copied()).collect();
    dependencies(&manifest)
        .into_iter()
        .filter(|(_, used)| own.contains(used.as_str()) && !allowed.contains(&used.as_str()))
        .map(|(key, used)| {
            let line = line_of(text, |line| {
                line.strip_prefix(&key).is_some_and(|rest| rest.starts_with(['.', ' ', '=']))
            });
            format!("{path}:{line}: {package} may not use {used}; it may use {allowed:?}, or the rule moves")
        })
        .collect()
}

/// Every dependency of a manifest of any kind, for any platform: its key, and the package it stands for.
fn dependencies(manifest: &Table) -> Vec<(String, String)> {
    let platforms = manifest.get("target").and_then(Value::as_table).into_iter().flat_map(Table::values);
    std::iter::once(manifest)
        .chain(platforms.filter_map(Value::as_table))
        .flat_map(|part| {
            ["dependencies", "dev-dependencies", "build-dependencies"].map(|kind| part.get(kind))
        })
        .flatten()
        .filter_map(Value::as_table)
        .flatten()
        .map(|(key, value)| {
            let package = value.get("package").and_then(Value::as_str).unwrap_or(key);
            (key.clone(), package.to_owned())
        })
        .collect()
}

fn workspace_lints(path: &str, text: &str) -> Vec<String> {
    let manifest = table(path, text);
    let inherited = manifest.get("lints").and_then(|lints| lints.get("workspace"));
    // The tests unwrap, print and sleep on purpose, so they choose their own.
    if inherited == Some(&Value::Boolean(true)) || path == "tests/Cargo.toml" {
        return Vec::new();
    }
    vec![format!("{path}:{}: add `[lints] workspace = true`", text.lines().count())]
}

/// Looks at the root file of the library and of every program and test of a package.
fn unsafe_forbidden(root: &Path, member: &str, text: &str) -> Vec<String> {
    let manifest = table(member, text);
    if manifest["package"]["name"].as_str().is_some_and(|name| UNSAFE_CRATES.contains(&name)) {
        return Vec::new();
    }
    let mut roots: BTreeSet<String> = ["src/lib.rs", "src/main.rs"].map(str::to_owned).into();
    let lib = manifest.get("lib").into_iter();
    let listed = ["bin", "test", "bench", "example"].into_iter().filter_map(|kind| manifest.get(kind));
    let listed = listed.filter_map(Value::as_array).flatten();
    roots.extend(lib.chain(listed).filter_map(|target| target.get("path")?.as_str().map(str::to_owned)));
    roots
        .into_iter()
        .map(|file| format!("{member}/{file}"))
        .filter(|path| root.join(path).exists())
        .filter(|path| !read(root, path).lines().any(|line| line == "#![forbid(unsafe_code)]"))
        .map(|path| {
            format!("{path}:1: add `#![forbid(unsafe_code)]`; unsafe code lives in {UNSAFE_CRATES:?} only")
        })
        .collect()
}

fn empty_name(path: &str) -> Option<String> {
    let name = path
        .split('/')
        .map(|part| part.split('.').next().unwrap_or(part))
        .find(|part| EMPTY_NAMES.contains(part))?;
    Some(format!("{path}:1: `{name}` names no task; name it after what it answers for"))
}

fn words(path: &str, text: &str) -> Vec<String> {
    let rust = path.ends_with(".rs");
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        for Word { word, remedy, .. } in WORDS.iter().filter(|word| rust || !word.rust_only) {
            if stands_alone(line, word) {
                findings.push(format!("{path}:{number}: `{word}`; {remedy}"));
            }
        }
        let module = line.trim_start().trim_start_matches("pub(crate) ").trim_start_matches("pub ");
        let module = module.strip_prefix("mod ").and_then(|rest| rest.split([';', ' ']).next());
        if let Some(name) = module.filter(|name| rust && EMPTY_NAMES.contains(name)) {
            findings.push(format!(
                "{path}:{number}: module `{name}` names no task; name it after what it answers for"
            ));
        }
    }
    findings
}

/// Whether `word` occurs in `line` other than as a part of a longer word or a longer path.
fn stands_alone(line: &str, word: &str) -> bool {
    let joins = |c: char| c.is_alphanumeric() || c == '_';
    // A path continues whatever a name, a variable or a dot came before it.
    let before = |c: char| joins(c) || (word.starts_with('/') && ".-})".contains(c));
    line.match_indices(word).any(|(at, _)| {
        let preceded = word.starts_with(|c: char| joins(c) || c == '/') && line[..at].ends_with(before);
        let followed = word.ends_with(joins) && line[at + word.len()..].starts_with(joins);
        !preceded && !followed
    })
}

fn length(path: &str, text: &str) -> Option<String> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let all_tests = name == "tests.rs" || name.ends_with("_tests.rs") || path.contains("/tests/");
    let lines = lines_before_tests(text);
    (path.ends_with(".rs") && !all_tests && lines > LINES_MAX).then(|| {
        format!(
            "{path}:{}: {lines} lines before its tests; split it by what its parts answer for",
            LINES_MAX + 1
        )
    })
}

fn lines_before_tests(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let tests = (0..lines.len()).find(|&at| {
        let Some(rest) = lines[at].strip_prefix("#[cfg(test)]") else { return false };
        // The attribute's item: on the same line, or on the first following line that is no attribute.
        let next = lines[at + 1..].iter().find(|line| !line.starts_with("#["));
        let item = if rest.trim().is_empty() { next.copied().unwrap_or("") } else { rest.trim() };
        item.starts_with("mod ")
    });
    tests.unwrap_or(lines.len())
}

fn line_of(text: &str, matches: impl Fn(&str) -> bool) -> usize {
    text.lines().position(matches).map_or(1, |at| at + 1)
}

mod each_rule_finds {
    use super::*;

    #[test]
    fn an_edge_against_the_arrows() {
        let manifest =
            "[package]\nname = \"stratum\"\n[dependencies]\nbytes = \"1\"\npool.workspace = true\n";
        let found = edges("stratum/Cargo.toml", manifest);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("stratum/Cargo.toml:5: stratum may not use pool"), "{found:?}");
    }

    #[test]
    fn an_edge_under_another_name_for_one_platform_in_tests() {
        let manifest = "[package]\nname = \"stratum\"\n[target.'cfg(unix)'.dev-dependencies]\n\
                        other = { package = \"stratum-net\", path = \"net\" }\n";
        assert_eq!(edges("stratum/Cargo.toml", manifest).len(), 1);
    }

    #[test]
    fn no_fault_in_an_edge_along_the_arrows_or_from_outside() {
        let inside = "[package]\nname = \"stratum\"\n[dependencies]\nsha256d.workspace = true\n";
        let outside = "[package]\nname = \"fleet\"\n[dependencies]\npool.workspace = true\n";
        assert_eq!(edges("stratum/Cargo.toml", inside), [""; 0]);
        assert_eq!(edges("benches/fleet/Cargo.toml", outside), [""; 0]);
    }

    #[test]
    fn a_crate_that_nobody_planned() {
        assert_eq!(edges("new/Cargo.toml", "[package]\nname = \"new\"\n").len(), 1);
    }

    #[test]
    fn a_crate_without_the_lints() {
        let own = "[package]\nname = \"pool\"\n[lints]\nworkspace = false\n";
        assert_eq!(workspace_lints("pool/Cargo.toml", "[package]\nname = \"pool\"\n").len(), 1);
        assert_eq!(workspace_lints("pool/Cargo.toml", own).len(), 1);
    }

    #[test]
    fn each_banned_word() {
        for Word { word, .. } in WORDS {
            let text = format!("fine\nlet x = 1; // {word} later\n");
            let found = words("a.rs", &text);
            assert_eq!(found.len(), 1, "{word}");
            assert!(found[0].starts_with("a.rs:2: "), "{found:?}");
        }
    }

    #[test]
    fn no_fault_in_longer_words_and_longer_paths() {
        let lines = [
            concat!("mktemp XX", "XXXX"),
            concat!("src/wo", "rk/mod.rs"),
            concat!("{root}/wo", "rk/"),
            concat!("MASTO", "DON"),
            concat!("my_db", "g!()"),
        ];
        for line in lines {
            assert_eq!(words("a.rs", line), [""; 0], "{line}");
        }
        assert_eq!(words("clippy.toml", concat!("unbounded", "_channel")), [""; 0]);
    }

    #[test]
    fn names_that_say_nothing() {
        assert!(empty_name("pool/src/utils.rs").is_some());
        assert!(empty_name("pool/src/common/mod.rs").is_some());
        assert!(empty_name("pool/src/commonplace.rs").is_none());
        assert_eq!(words("a.rs", "pub(crate) mod helpers;").len(), 1);
        assert_eq!(words("a.rs", "mod manager {").len(), 1);
    }

    #[test]
    fn a_file_too_long_but_not_its_tests() {
        let code = "let x = 1;\n".repeat(LINES_MAX);
        let tests = "#[cfg(test)]\nmod tests {\n".to_owned() + &"    let y = 2;\n".repeat(100) + "}\n";
        assert_eq!(length("pool/src/a.rs", &(code.clone() + &tests)), None);
        assert!(length("pool/src/a.rs", &(code.clone() + "// one more\n" + &tests)).is_some());
        assert_eq!(length("pool/src/a_tests.rs", &(code.clone() + &code)), None);
        assert!(length("tests/tidy.rs", &(code.clone() + &code)).is_some());
    }

    #[test]
    fn that_a_lone_function_for_tests_does_not_end_the_count() {
        assert_eq!(lines_before_tests("a\n#[cfg(test)]\nfn b() {}\nc\n#[cfg(test)]\nmod tests;\n"), 4);
        assert_eq!(lines_before_tests("a\n#[cfg(test)]\n#[path = \"x.rs\"]\nmod tests;\n"), 1);
    }
}
