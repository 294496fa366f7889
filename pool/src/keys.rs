//! `sluice-pool keys`: the authority's key, which stays offline, and what the server needs of it.

use crate::cli::{Keys, Overrides};
use crate::identity::{CertificateFile, certificate, days_left, server_key, write_secret};
use crate::settings::Settings;
use anyhow::{Context, bail};
use bitcoin::hex::{DisplayHex, FromHex};
use bitcoin::secp256k1::XOnlyPublicKey;
use std::io::Write;
use std::path::Path;
use stratum::v2::keys::{AuthoritySecret, Certificate};
use stratum_net::clock::unix_s;

/// A certificate starts a little in the past: the clocks of clients differ.
const BACKDATED_S: u32 = 60;
const DAY_S: u32 = 86_400;

/// Does what was asked for.
///
/// # Errors
/// A file or key that cannot be used, in one sentence.
pub fn run(command: &Keys) -> anyhow::Result<()> {
    match command {
        Keys::New { file } => new(file),
        Keys::Sign { authority, days, server_key } => sign(authority, *days, server_key),
        Keys::Show(overrides) => show(overrides),
    }
}

fn new(file: &Path) -> anyhow::Result<()> {
    let secret = loop {
        let mut seed = [0; 32];
        rand::fill(&mut seed);
        // One seed in 2^128 is no key.
        if let Ok(secret) = AuthoritySecret::from_bytes(seed) {
            break secret;
        }
    };
    write_secret(file, &secret.to_base58())?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", secret.public())?;
    Ok(())
}

fn sign(authority: &Path, days: u32, server_key: &str) -> anyhow::Result<()> {
    crate::settings::owner_only(authority).map_err(anyhow::Error::msg)?;
    let text = std::fs::read_to_string(authority).with_context(|| authority.display().to_string())?;
    let secret: AuthoritySecret =
        text.trim().parse().with_context(|| format!("{} holds no authority key", authority.display()))?;
    let wanted = "the server's key is 64 hex digits, as sluice-pool keys show prints it";
    let bytes: [u8; 32] = FromHex::from_hex(server_key).context(wanted)?;
    let server = XOnlyPublicKey::from_slice(&bytes).context(wanted)?;
    let now = unix_s();
    let Some(until) = days.checked_mul(DAY_S).and_then(|life| now.checked_add(life)) else {
        bail!("{days} days from now are beyond what a certificate can say: the year 2106");
    };
    let certificate = Certificate::sign(&secret, &server, now.saturating_sub(BACKDATED_S), until);
    let file = CertificateFile::new(secret.public(), server, &certificate);
    let mut out = std::io::stdout().lock();
    write!(out, "{}", toml::to_string(&file).expect("three strings"))?;
    Ok(())
}

fn show(overrides: &Overrides) -> anyhow::Result<()> {
    let settings = Settings::load(overrides).context("the settings cannot be used")?;
    let v2 = &settings.v2;
    let key = server_key(&v2.key_file)?;
    let mut out = std::io::stdout().lock();
    let hex = key.public_x_only().serialize().to_lower_hex_string();
    writeln!(out, "server key   {hex}   ({})", v2.key_file.display())?;
    match certificate(&v2.certificate_file, &key) {
        Ok(vouched) => {
            let days = days_left(&vouched.certificate, unix_s());
            writeln!(out, "certificate  {days} days left   ({})", v2.certificate_file.display())?;
            for listen in &v2.listen {
                let at = match listen.ip().is_unspecified() {
                    true => format!("HOST:{}", listen.port()),
                    false => listen.to_string(),
                };
                writeln!(out, "URL          stratum2+tcp://{at}/{}", vouched.authority)?;
            }
        }
        Err(error) => writeln!(out, "certificate  {error:#}")?,
    }
    Ok(())
}
