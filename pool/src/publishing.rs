//! Publishes the share log: its key, and the thread that keeps its files.

use crate::identity::write_secret;
use crate::settings::{Publish, Settings, owner_only};
use anyhow::{Context, anyhow, bail};
use bitcoin::hex::DisplayHex;
use share_accounting::Accounting;
use share_accounting::publish::key::{LogKey, NAME_HEAD};
use share_accounting::publish::{self, Places, Published};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::thread::JoinHandle;
use tracing::info;

/// Starts to publish the log of this accounting in `published/` of the data folder.
///
/// # Errors
/// The key cannot be used, or the folder or the log cannot be read.
pub fn start(settings: &Settings, accounting: &Accounting) -> anyhow::Result<(Published, JoinHandle<()>)> {
    let files = settings.data_dir.join("published");
    let key = log_key(&settings.publish, &files, accounting.log_id())?;
    info!(key = key.public(), "heads of the share log are signed");
    let (log, last_head) = (settings.data_dir.join("log"), settings.data_dir.join("log.head"));
    let places = Places { log: &log, files: &files, last_head: &last_head };
    publish::start(places, key, accounting.heads())
        .with_context(|| format!("cannot publish the share log in {}", files.display()))
}

/// The key that signs the log's heads, made at the first start. Whoever has it can show two logs to two miners, so it is
/// kept like money; whoever loses it begins a log that nobody has heard of.
///
/// Its file has three lines: the secret, the public key, and the log's id: under one key there is one log.
///
/// # Errors
/// The file cannot be read or made, others can read it, it holds the key of another log, or it is missing although the
/// log has been published.
fn log_key(settings: &Publish, published: &Path, log_id: [u8; 16]) -> anyhow::Result<LogKey> {
    let file = &settings.key_file;
    let (shown, log_id) = (file.display(), log_id.to_lower_hex_string());
    match fs::read_to_string(file) {
        Ok(text) => {
            owner_only(file).map_err(anyhow::Error::msg)?;
            let (key, id) = text.trim().rsplit_once('\n').with_context(|| format!("{shown} holds no key"))?;
            let key = LogKey::parse(key).with_context(|| shown.to_string())?;
            if id != log_id {
                bail!(
                    "{shown} is the key of the log {id}, and this is the log {log_id}: who has seen the other one would take \
                     this for a lie. Bring that log back, or begin anew with another publish.key_file"
                );
            }
            if let Some(wanted) = settings.origin.as_deref().filter(|wanted| *wanted != key.origin()) {
                bail!(
                    "publish.origin is {wanted}, but {shown} is the key of {}: a log keeps its name, and a new name \
                     needs another publish.key_file",
                    key.origin()
                );
            }
            Ok(key)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if published.exists() {
                bail!(
                    "{shown} is missing, but the log has been published: bring the key back. If it is lost, remove {}: the \
                     log begins anew for everybody, under another key",
                    published.display()
                );
            }
            let origin = settings.origin.clone().unwrap_or_else(|| format!("{NAME_HEAD}{log_id}"));
            let (key, text) = LogKey::generate(&origin);
            write_secret(file, &format!("{text}\n{log_id}"))?;
            Ok(key)
        }
        Err(error) => Err(anyhow!(error)).with_context(|| format!("cannot read {shown}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const ID: [u8; 16] = [0xab; 16];

    #[test]
    fn a_log_has_one_key_and_one_name_and_a_key_one_log() {
        let dir = tempfile::tempdir().unwrap();
        let published = dir.path().join("published");
        let open = |origin: Option<&str>, log_id| {
            let key_file = dir.path().join("data/log.key");
            let origin = origin.map(str::to_owned);
            let publish = Publish { key_file, origin, witnesses: Vec::new(), witnesses_needed: 0 };
            log_key(&publish, &published, log_id)
        };
        let refused = |origin, log_id| format!("{:#}", open(origin, log_id).unwrap_err());
        let key = open(None, ID).unwrap();
        assert_eq!(key.origin(), "sluice/abababababababababababababababab");
        fs::create_dir(&published).unwrap();
        assert_eq!(open(None, ID).unwrap().public(), key.public());
        let other = refused(None, [0; 16]);
        assert!(
            other.contains("is the key of the log abab") && other.contains("another publish.key_file"),
            "{other}"
        );
        assert!(refused(Some("pool.example/log"), ID).contains("a log keeps its name"));
        let file = dir.path().join("data/log.key");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(refused(None, ID).contains("chmod 600"));
        fs::remove_file(&file).unwrap();
        assert!(refused(None, ID).contains("is missing, but the log has been published"));
        fs::remove_dir(&published).unwrap();
        let named = open(Some("pool.example/log"), ID).unwrap();
        assert!(named.public().starts_with("pool.example/log+"));
        for broken in ["", "nothing", "x\ny\nz"] {
            fs::write(&file, broken).unwrap();
            assert!(open(None, ID).is_err(), "{broken}");
        }
    }
}
