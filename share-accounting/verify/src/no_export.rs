//! In the place of `export` where this program was built without: there are no files to read.

use anyhow::bail;
use bitcoin::Network;
use share_accounting::entry::Entry;
use share_accounting::tree::TreeHash;
use std::path::Path;
use std::time::SystemTime;

/// No file can be opened.
pub enum Exported {}

/// Of what log one would be.
pub struct About {
    pub network: Network,
    pub log_id: Option<[u8; 16]>,
    pub checkpoint: Option<String>,
    pub cosigned: Option<String>,
}

impl Exported {
    /// # Errors
    /// Always.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        bail!(
            "{} is a file: this sluice-verify was built without what reads exports (cargo build -p verify --features export)",
            path.display()
        )
    }

    pub fn about(&self) -> &About {
        match *self {}
    }

    pub fn size(&self) -> u64 {
        match *self {}
    }

    pub fn made_at(&self) -> anyhow::Result<SystemTime> {
        match *self {}
    }

    pub fn check(&self) -> anyhow::Result<TreeHash> {
        match *self {}
    }

    pub fn entries(&self) -> Box<dyn Iterator<Item = anyhow::Result<(u64, Entry)>> + '_> {
        match *self {}
    }

    pub fn batches(&self) -> Box<dyn Iterator<Item = anyhow::Result<Vec<Vec<u8>>>> + '_> {
        match *self {}
    }

    pub fn entry(&mut self, _index: u64) -> anyhow::Result<Vec<u8>> {
        match *self {}
    }
}
