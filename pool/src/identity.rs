//! Who this server is to V2 clients: its own key, and the certificate that its authority gave for it.
//!
//! The authority's secret is not here. The certificate's file is looked at again and again, so a new one is shown to
//! clients without a restart; connections that stand are not touched.

use crate::settings::V2;
use anyhow::{Context, anyhow, bail};
use bitcoin::hex::{DisplayHex, FromHex};
use bitcoin::secp256k1::XOnlyPublicKey;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;
use stratum::v2::keys::{AuthorityKey, Certificate, StaticKey};
use stratum_net::clock::unix_s;
use stratum_net::handshake::Identity;
use tokio::sync::watch;
use tracing::{error, info, warn};

/// How often the certificate's file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How often an operator is reminded of a certificate that should be renewed.
const REMIND_EVERY: Duration = Duration::from_secs(6 * 3_600);

/// The certificate's file, as `sluice-pool keys sign` writes it. Nothing in it is secret.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateFile {
    /// Who vouches: the key that clients are given.
    pub authority: String,
    /// Whom: the server's public key in hex.
    pub server_key: String,
    /// For how long, and the signature: the 74 bytes of the handshake in hex.
    pub certificate: String,
}

/// A certificate with what belongs to it.
#[derive(Debug, Clone)]
pub struct Vouched {
    /// Who vouches.
    pub authority: AuthorityKey,
    /// The certificate.
    pub certificate: Certificate,
}

impl CertificateFile {
    /// What the file of a certificate says.
    pub fn new(authority: AuthorityKey, server: XOnlyPublicKey, certificate: &Certificate) -> Self {
        Self {
            authority: authority.to_string(),
            server_key: server.serialize().to_lower_hex_string(),
            certificate: certificate.to_bytes().to_lower_hex_string(),
        }
    }

    /// Reads the text of a file and checks that it vouches for this server, now.
    ///
    /// # Errors
    /// What is wrong with it, one sentence with the remedy.
    pub fn check(text: &str, server: &XOnlyPublicKey, now_unix_s: u32) -> anyhow::Result<Vouched> {
        let file: Self = toml::from_str(text).context("it is no certificate file")?;
        let authority: AuthorityKey = file.authority.parse().context("authority")?;
        if file.server_key != server.serialize().to_lower_hex_string() {
            bail!(
                "it is for another server: sign {} instead of {}",
                server.serialize().to_lower_hex_string(),
                file.server_key
            );
        }
        let bytes: [u8; 74] =
            FromHex::from_hex(&file.certificate).context("certificate: 74 bytes in hex are wanted")?;
        let certificate = Certificate::from_bytes(&bytes)?;
        certificate.verify(&authority, server, now_unix_s)?;
        Ok(Vouched { authority, certificate })
    }
}

/// The server's own key, made at the first call. Clients trust the certificate, so it may be replaced at any time
/// together with that.
///
/// # Errors
/// The file cannot be read or made, others can read it, or it holds no key.
pub fn server_key(file: &Path) -> anyhow::Result<StaticKey> {
    let shown = file.display();
    let (mut fresh, mut aux) = ([0; 32], [0; 32]);
    rand::fill(&mut fresh);
    rand::fill(&mut aux);
    let secret = match fs::read_to_string(file) {
        Ok(text) => {
            crate::settings::owner_only(file).map_err(anyhow::Error::msg)?;
            let secret = FromHex::from_hex(text.trim());
            secret.with_context(|| format!("{shown} holds no key: 32 bytes in hex are wanted"))?
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            write_secret(file, &fresh.to_lower_hex_string())?;
            fresh
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read {shown}")),
    };
    Ok(StaticKey::new(secret, aux))
}

/// Writes a file that its owner alone can read; one that exists is not touched.
///
/// # Errors
/// It exists, or cannot be made.
pub fn write_secret(file: &Path, text: &str) -> anyhow::Result<()> {
    let context = || format!("cannot make {}", file.display());
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).with_context(context)?;
    }
    // Whole or not at all, also after a crash.
    let mut unfinished = file.as_os_str().to_owned();
    unfinished.push(".new");
    let unfinished = Path::new(&unfinished);
    let written = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(unfinished);
    let written = written.and_then(|mut opened| {
        writeln!(opened, "{text}")?;
        opened.sync_all()?;
        fs::hard_link(unfinished, file)
    });
    let _ = fs::remove_file(unfinished);
    written.with_context(context)?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).with_context(context)
}

/// The certificate of a server's key, if its file is good now.
///
/// # Errors
/// What is wrong with it, one sentence with the remedy.
pub fn certificate(file: &Path, key: &StaticKey) -> anyhow::Result<Vouched> {
    let shown = file.display();
    let server = key.public_x_only();
    let remedy = || {
        let hex = server.serialize().to_lower_hex_string();
        format!(
            "where the authority's key is, run\n  \
             sluice-pool keys sign --authority FILE --days 30 {hex} > v2.certificate\n\
             and bring that file here"
        )
    };
    let text =
        fs::read_to_string(file).with_context(|| format!("no certificate at {shown}: {}", remedy()))?;
    CertificateFile::check(&text, &server, unix_s())
        .map_err(|error| anyhow!("the certificate {shown} is no good: {error:#}: {}", remedy()))
}

/// Keeps the newest certificate in front of clients.
#[derive(Debug)]
pub struct Keeper {
    settings: V2,
    key: StaticKey,
    current: Vouched,
    show: watch::Sender<Arc<Identity>>,
    reminded_unix_s: u32,
}

impl Keeper {
    /// Loads key and certificate.
    ///
    /// # Errors
    /// As [`server_key`] and [`certificate`].
    pub fn new(settings: &V2) -> anyhow::Result<(Self, watch::Receiver<Arc<Identity>>)> {
        let key = server_key(&settings.key_file)?;
        let current = certificate(&settings.certificate_file, &key)?;
        let (show, shown) = watch::channel(Arc::new(identity(&key, &current)));
        Ok((Self { settings: settings.clone(), key, current, show, reminded_unix_s: 0 }, shown))
    }

    /// Who vouches for the server.
    pub fn authority(&self) -> AuthorityKey {
        self.current.authority
    }

    /// Looks at the file until the other end of `stop` is gone.
    pub fn run(mut self, stop: &Receiver<()>) {
        while let Err(RecvTimeoutError::Timeout) = stop.recv_timeout(LOOK_EVERY) {
            self.look();
        }
    }

    fn look(&mut self) {
        let now = unix_s();
        match certificate(&self.settings.certificate_file, &self.key) {
            Ok(found) if found.certificate.to_bytes() != self.current.certificate.to_bytes() => {
                info!(days_left = days_left(&found.certificate, now), "new certificate");
                if found.authority != self.current.authority {
                    let (before, authority) = (self.current.authority, found.authority);
                    warn!(%before, %authority, "another authority: from now on miners that connect need its key");
                }
                self.current = found;
                self.reminded_unix_s = 0;
                self.show.send_replace(Arc::new(identity(&self.key, &self.current)));
            }
            Ok(_) => {}
            // The one that is shown may be good for long.
            Err(error) => {
                self.remind(now, || error!(error = format!("{error:#}"), "the certificate's file is no good"))
            }
        }
        let Certificate { valid_from, not_valid_after, .. } = self.current.certificate;
        let half_life = valid_from + (not_valid_after.saturating_sub(valid_from)) / 2;
        let left = days_left(&self.current.certificate, now);
        if now >= half_life {
            self.remind(now, || {
                warn!(days_left = left, "the certificate should be renewed: sluice-pool keys show")
            });
        }
    }

    fn remind(&mut self, now_unix_s: u32, say: impl FnOnce()) {
        if u64::from(now_unix_s.saturating_sub(self.reminded_unix_s)) >= REMIND_EVERY.as_secs() {
            self.reminded_unix_s = now_unix_s;
            say();
        }
    }
}

/// Whole days until a certificate ends; 0 on its last day and after it.
pub fn days_left(certificate: &Certificate, now_unix_s: u32) -> u32 {
    certificate.not_valid_after.saturating_sub(now_unix_s) / 86_400
}

fn identity(key: &StaticKey, vouched: &Vouched) -> Identity {
    Identity { key: key.clone(), certificate: vouched.certificate }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stratum::v2::keys::AuthoritySecret;

    fn authority() -> AuthoritySecret {
        AuthoritySecret::from_bytes([1; 32]).unwrap()
    }

    fn file(server: &XOnlyPublicKey, from: u32, until: u32) -> String {
        let certificate = Certificate::sign(&authority(), server, from, until);
        toml::to_string(&CertificateFile::new(authority().public(), *server, &certificate)).unwrap()
    }

    #[test]
    fn a_key_is_made_once_for_its_owner_alone_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("below/v2.key");
        let made = server_key(&path).unwrap().public_x_only();
        assert_eq!(server_key(&path).unwrap().public_x_only(), made);
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(server_key(&path).unwrap_err().to_string().contains("chmod 600"));
        assert!(write_secret(&path, "x").is_err(), "a key is never written over");
    }

    #[test]
    fn n15_a_certificate_is_refused_with_the_reason() {
        let server = StaticKey::new([3; 32], [4; 32]).public_x_only();
        let other = StaticKey::new([5; 32], [4; 32]).public_x_only();
        let check = |text: &str, now| CertificateFile::check(text, &server, now);
        let good = file(&server, 1_000, 2_000);
        assert_eq!(check(&good, 1_500).unwrap().authority, authority().public());
        for (text, now, reason) in [
            (good.as_str(), 2_100, "2000"),
            (good.as_str(), 900, "1000"),
            (&file(&other, 1_000, 2_000), 1_500, "for another server"),
            (&good.replace("certificate = \"", "certificate = \"00"), 1_500, "74 bytes"),
            (&good.replace("authority = \"9", "authority = \"8"), 1_500, "authority"),
            ("nonsense", 1_500, "no certificate file"),
        ] {
            let error = format!("{:#}", check(text, now).unwrap_err());
            assert!(error.contains(reason), "{reason}: {error}");
        }
    }

    #[test]
    fn n15_a_new_certificate_is_shown_to_new_clients_without_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let settings = V2 {
            key_file: folder.path().join("v2.key"),
            certificate_file: folder.path().join("v2.certificate"),
            ..V2::default()
        };
        let missing = Keeper::new(&settings).unwrap_err().to_string();
        let server = server_key(&settings.key_file).unwrap().public_x_only();
        assert!(missing.contains("keys sign") && missing.contains(&server.serialize().to_lower_hex_string()));
        let now = unix_s();
        fs::write(&settings.certificate_file, file(&server, now - 60, now + 600)).unwrap();
        let (mut keeper, shown) = Keeper::new(&settings).unwrap();
        keeper.look();
        assert!(!shown.has_changed().unwrap());
        // A file that is no good changes nothing.
        fs::write(&settings.certificate_file, "half a fi").unwrap();
        keeper.look();
        assert!(!shown.has_changed().unwrap());
        fs::write(&settings.certificate_file, file(&server, now - 60, now + 6_000)).unwrap();
        keeper.look();
        assert_eq!(shown.borrow().certificate.not_valid_after, now + 6_000);
    }
}
