//! The file of acknowledged shares: what a pool must still know after it was killed.

use crate::work::Share;
use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use bitcoin::hex::DisplayHex;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

/// Appends a JSON object per acknowledged share, each in one write.
#[derive(Debug)]
pub struct Acks(File);

impl Acks {
    /// Opens or creates the file.
    ///
    /// # Errors
    /// As the file system says.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        Ok(Self(OpenOptions::new().create(true).append(true).open(path)?))
    }

    /// Appends a share that the server has acknowledged.
    ///
    /// # Errors
    /// As the file system says.
    pub fn append(&mut self, user: &str, share: &Share) -> std::io::Result<()> {
        self.0.write_all(line(user, share).as_bytes())
    }
}

fn line(user: &str, share: &Share) -> String {
    let hash = BlockHash::from_byte_array(sha256d::sha256d(&share.header()));
    let object = serde_json::json!({
        "user": user,
        "job": share.job.name(),
        "extranonce1": share.job.extranonce_prefix().to_lower_hex_string(),
        "extranonce2": share.extranonce.to_lower_hex_string(),
        "ntime": format!("{:08x}", share.ntime),
        "nonce": format!("{:08x}", share.nonce),
        "version": format!("{:08x}", share.version),
        "hash": hash.to_string(),
    });
    format!("{object}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roll::tests::job;

    #[test]
    fn a_line_names_what_was_rolled_and_the_hash_as_explorers_show_it() {
        let job = job(-32, 4);
        let share =
            Share { job, extranonce: [0, 0, 0, 9].into(), ntime: 1, nonce: 0xab, version: 0x2000_0000 };
        let line = line("A.\"x", &share);
        let object: serde_json::Value = serde_json::from_str(line.trim_end()).unwrap();
        assert_eq!((line.matches('\n').count(), &object["user"]), (1, &"A.\"x".into()));
        assert_eq!((&object["extranonce2"], &object["nonce"]), (&"00000009".into(), &"000000ab".into()));
        let mut digest = sha256d::sha256d(&share.header());
        digest.reverse();
        assert_eq!(object["hash"], digest.to_lower_hex_string());
    }
}
