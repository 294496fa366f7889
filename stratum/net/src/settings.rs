//! Reads layered settings and collects every mistake before it gives up.
//!
//! A TOML table (file below, flags and environment above it) is taken apart key by key; what nobody
//! asked for is an unknown setting. Each mistake names key, value and remedy. [`sections`] are those of both servers.

pub mod sections;

use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use toml::{Table, Value};

/// One thing wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Dotted path of the setting.
    pub key: String,
    /// What is wrong and what to do.
    pub text: String,
}

/// Everything wrong with the settings, one line each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.0.iter().enumerate() {
            let line_end = if index + 1 < self.0.len() { "\n" } else { "" };
            match mistake.key.as_str() {
                "" => write!(f, "{}{line_end}", mistake.text)?,
                key => write!(f, "{key}: {}{line_end}", mistake.text)?,
            }
        }
        Ok(())
    }
}

/// Settings being taken apart.
#[derive(Debug, Default)]
pub struct Reader {
    table: Table,
    mistakes: Vec<Mistake>,
    /// Why there is nothing to take apart.
    unreadable: Option<Mistake>,
    /// Every setting that was asked for, as a dotted path.
    known: BTreeSet<String>,
}

impl Reader {
    /// Reads a settings file; trouble with it is the one mistake then.
    pub fn file(path: &Path) -> Self {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::text(&text),
            Err(error) => Self::unreadable(format!("cannot read {}: {error}", path.display())),
        }
    }

    /// Reads the text of a settings file.
    pub fn text(text: &str) -> Self {
        match text.parse::<Table>() {
            Ok(table) => Self { table, ..Self::default() },
            Err(error) => Self::unreadable(format!("not a TOML file: {error}")),
        }
    }

    fn unreadable(text: String) -> Self {
        Self { unreadable: Some(Mistake { key: String::new(), text }), ..Self::default() }
    }

    /// Lays a value over the file's: a flag or an environment variable.
    pub fn lay_over(&mut self, key: &str, value: impl Into<Value>) {
        let (path, name) = key.rsplit_once('.').map_or(("", key), |(path, name)| (path, name));
        let mut table = &mut self.table;
        for part in path.split('.').filter(|part| !part.is_empty()) {
            let below = table.entry(part).or_insert_with(|| Value::Table(Table::new()));
            if !below.is_table() {
                *below = Value::Table(Table::new());
            }
            table = below.as_table_mut().expect("made a table just above");
        }
        table.insert(name.to_owned(), value.into());
    }

    /// Takes a setting that may be absent.
    pub fn optional<T: DeserializeOwned>(&mut self, key: &str) -> Option<T> {
        self.known.insert(key.to_owned());
        let value = take(&mut self.table, key)?;
        let shown = show(&value);
        match value.try_into() {
            Ok(value) => Some(value),
            Err(error) => {
                let error: toml::de::Error = error;
                self.mistake(key, format!("{shown} does not fit: {}", error.message().trim()));
                None
            }
        }
    }

    /// Takes a setting that has a default.
    pub fn or<T: DeserializeOwned>(&mut self, key: &str, default: T) -> T {
        self.optional(key).unwrap_or(default)
    }

    /// Takes a setting as text and parses it.
    pub fn parsed<T>(&mut self, key: &str) -> Option<T>
    where
        T: std::str::FromStr,
        T::Err: fmt::Display,
    {
        let text: String = self.optional(key)?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.mistake(key, format!("\"{text}\" does not fit: {error}"));
                None
            }
        }
    }

    /// Notes that a setting is missing, unless something else is wrong with it already.
    pub fn or_missing(&mut self, key: &str, remedy: &str) {
        if !self.mistakes.iter().any(|mistake| mistake.key == key) {
            self.mistake(key, format!("missing: {remedy}"));
        }
    }

    /// Takes a number and checks that it lies in a range.
    pub fn in_range(&mut self, key: &str, default: u64, range: std::ops::RangeInclusive<u64>) -> u64 {
        let value = self.or(key, default);
        if !range.contains(&value) {
            self.mistake(key, format!("{value} is outside {} to {}", range.start(), range.end()));
        }
        value
    }

    /// Takes the tables of an array of tables (`[[node]]`), each to be read by itself.
    pub fn tables(&mut self, key: &str) -> Vec<Reader> {
        self.known.insert(key.to_owned());
        let items = match take(&mut self.table, key) {
            None => return Vec::new(),
            Some(Value::Array(items)) => items,
            Some(other) => vec![other],
        };
        let mut readers = Vec::new();
        for item in items {
            match item {
                Value::Table(table) => readers.push(Reader { table, ..Reader::default() }),
                _ => self.mistake(key, format!("write it as one or more [[{key}]] tables")),
            }
        }
        readers
    }

    /// Finishes a reader from [`Reader::tables`]: its mistakes are reported below `key`.
    pub fn merge(&mut self, key: &str, below: Reader) {
        for mistake in below.finish().err().into_iter().flat_map(|mistakes| mistakes.0) {
            self.mistake(&format!("{key}.{}", mistake.key), mistake.text);
        }
    }

    /// Notes a mistake.
    pub fn mistake(&mut self, key: &str, text: impl Into<String>) {
        self.mistakes.push(Mistake { key: key.to_owned(), text: text.into() });
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// All mistakes noted, and every setting that nobody took.
    pub fn finish(mut self) -> Result<(), Mistakes> {
        // What else is missing is missing for that.
        if let Some(unreadable) = self.unreadable {
            return Err(Mistakes(vec![unreadable]));
        }
        let table = std::mem::take(&mut self.table);
        self.unknown("", &table);
        if self.mistakes.is_empty() { Ok(()) } else { Err(Mistakes(self.mistakes)) }
    }

    fn unknown(&mut self, path: &str, table: &Table) {
        for (name, value) in table {
            let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            match value {
                Value::Table(below) if !below.is_empty() => self.unknown(&key, below),
                Value::Table(_) => {}
                other => {
                    let known = self.known_below(path);
                    self.mistake(
                        &key,
                        format!("unknown setting (value {}); known here: {known}", show(other)),
                    );
                }
            }
        }
    }

    /// What may stand in a table: settings and tables that were asked for.
    fn known_below(&self, path: &str) -> String {
        let below = |known: &String| {
            let rest = if path.is_empty() { known } else { known.strip_prefix(path)?.strip_prefix('.')? };
            Some(rest.split('.').next().unwrap_or(rest).to_owned())
        };
        let names: BTreeSet<String> = self.known.iter().filter_map(below).collect();
        names.into_iter().collect::<Vec<_>>().join(", ")
    }
}

fn take(table: &mut Table, key: &str) -> Option<Value> {
    match key.split_once('.') {
        Some((first, rest)) => take(table.get_mut(first)?.as_table_mut()?, rest),
        None => table.remove(key),
    }
}

/// A value as people wrote it; long ones are cut.
fn show(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_is_reported_at_once_with_its_key() {
        let mut reader =
            Reader::text("port = \"x\"\nspeed = 99\n[log]\nlevle = \"info\"\n[[node]]\nurl = 3\n");
        let _: u16 = reader.or("port", 1);
        reader.in_range("speed", 5, 1..=10);
        let _: Option<String> = reader.optional("log.level");
        for mut node in reader.tables("node") {
            let _: Option<String> = node.optional("url");
            reader.merge("node", node);
        }
        let mistakes = reader.finish().unwrap_err();
        let keys: Vec<_> = mistakes.0.iter().map(|mistake| mistake.key.as_str()).collect();
        assert_eq!(keys, ["port", "speed", "node.url", "log.levle"]);
        assert!(
            mistakes.to_string().contains("log.levle: unknown setting (value \"info\"); known here: level")
        );
    }

    #[test]
    fn flags_lie_over_the_file() {
        let mut reader = Reader::text("[v1]\nlisten = \"a\"\n");
        reader.lay_over("v1.listen", "b");
        reader.lay_over("log.level", "debug");
        assert_eq!(reader.optional::<String>("v1.listen").as_deref(), Some("b"));
        assert_eq!(reader.optional::<String>("log.level").as_deref(), Some("debug"));
        assert_eq!(reader.finish(), Ok(()));
    }

    #[test]
    fn a_file_that_is_no_toml_is_one_clear_mistake() {
        let one = |mut reader: Reader| {
            reader.or_missing("network", "name one");
            let Mistakes(mistakes) = reader.finish().unwrap_err();
            assert_eq!(mistakes.len(), 1, "{mistakes:?}");
            mistakes[0].text.clone()
        };
        assert!(one(Reader::text("= nonsense")).starts_with("not a TOML file"));
        assert!(
            one(Reader::file(Path::new("no/such/file.toml"))).starts_with("cannot read no/such/file.toml")
        );
    }
}
