//! Publishes the share log: its key, and the thread that keeps its files.

use crate::identity::write_secret;
use crate::settings::{Publish, Settings, owner_only};
use anyhow::{Context, anyhow, bail};
use bitcoin::hex::DisplayHex;
use share_accounting::Accounting;
use share_accounting::publish::key::LogKey;
use share_accounting::publish::{self, Published};
use std::fs;
use std::io::ErrorKind;
use std::thread::JoinHandle;
use tracing::info;

/// Starts to publish the log of this accounting in `published/` of the data folder.
///
/// # Errors
/// The key cannot be used, or the folder or the log cannot be read.
pub fn start(settings: &Settings, accounting: &Accounting) -> anyhow::Result<(Published, JoinHandle<()>)> {
    let key = log_key(&settings.publish, accounting.log_id())?;
    info!(key = key.public(), "heads of the share log are signed");
    let files = settings.data_dir.join("published");
    publish::start(&settings.data_dir.join("log"), &files, key, accounting.heads())
        .with_context(|| format!("cannot publish the share log in {}", files.display()))
}

/// The key that signs the log's heads, made at the first start. Whoever has it can show two logs to two miners, so it is
/// kept like money; whoever loses it begins a log that nobody has heard of.
///
/// # Errors
/// The file cannot be read or made, others can read it, or it holds the key of another log.
pub fn log_key(settings: &Publish, log_id: [u8; 16]) -> anyhow::Result<LogKey> {
    let file = &settings.key_file;
    let shown = file.display();
    match fs::read_to_string(file) {
        Ok(text) => {
            owner_only(file).map_err(anyhow::Error::msg)?;
            let key = LogKey::parse(&text).with_context(|| shown.to_string())?;
            if let Some(wanted) = settings.origin.as_deref().filter(|wanted| *wanted != key.origin()) {
                bail!(
                    "publish.origin is {wanted}, but {shown} is the key of {}: a log keeps its name; for a new log name \
                     another publish.key_file",
                    key.origin()
                );
            }
            Ok(key)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let named_by_id = || format!("sluice/{}", log_id.to_lower_hex_string());
            let origin = settings.origin.clone().unwrap_or_else(named_by_id);
            let (key, text) = LogKey::generate(&origin);
            write_secret(file, &text)?;
            Ok(key)
        }
        Err(error) => Err(anyhow!(error)).with_context(|| format!("cannot read {shown}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_log_has_one_key_and_one_name() {
        let dir = tempfile::tempdir().unwrap();
        let publish = |origin: Option<&str>| Publish {
            key_file: dir.path().join("data/log.key"),
            origin: origin.map(str::to_owned),
        };
        let key = log_key(&publish(None), [0xab; 16]).unwrap();
        assert_eq!(key.origin(), "sluice/abababababababababababababababab");
        // Found again, even if the log's folder is another one.
        assert_eq!(log_key(&publish(None), [0; 16]).unwrap().public(), key.public());
        let renamed = log_key(&publish(Some("pool.example/log")), [0xab; 16]).unwrap_err().to_string();
        assert!(renamed.contains("a log keeps its name"), "{renamed}");
        let file = publish(None).key_file;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let open = log_key(&publish(None), [0; 16]).unwrap_err().to_string();
        assert!(open.contains("chmod 600"), "{open}");
        fs::remove_file(&file).unwrap();
        let named = log_key(&publish(Some("pool.example/log")), [0xab; 16]).unwrap();
        assert!(named.public().starts_with("pool.example/log+"));
        fs::write(&file, "nothing").unwrap();
        assert!(log_key(&publish(None), [0; 16]).is_err());
    }
}
