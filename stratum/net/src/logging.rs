//! Logs to standard error, for people or as JSON.

use serde::Deserialize;
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One readable line an event.
    #[default]
    Human,
    /// One JSON object an event.
    Json,
}

/// What is logged, and how.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// A level (`info`) or a filter (`info,pool=debug`).
    pub filter: String,
    /// Look of the lines.
    pub format: Format,
}

/// Whether the text is a level or filter that [`init`] understands.
pub fn filter_is_valid(filter: &str) -> bool {
    EnvFilter::try_new(filter).is_ok()
}

/// Starts logging. Call once, after the settings are known.
pub fn init(settings: &Settings) {
    let filter = EnvFilter::try_new(&settings.filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match settings.format {
        Format::Human => lines.with_ansi(std::io::stderr().is_terminal()).with_target(false).init(),
        Format::Json => lines.json().init(),
    }
}
