//! A Parquet file that somebody says a log was exported to, as `sluice-verify` reads it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use share_accounting::entry::Entry;
use share_accounting::tree::{Tree, leaves};
use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{Seek, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::{env, panic, process};
use verify::export::Exported;

fuzz_target!(|input: &[u8]| {
    // Where the library panics the reader says that the file is none: that is no crash. One that it lets through still is.
    static QUIET: Once = Once::new();
    QUIET.call_once(|| panic::set_hook(Box::new(|_| ())));
    thread_local!(static FILE: RefCell<Written> = RefCell::new(Written::new()));
    FILE.with_borrow_mut(|file| {
        file.write(input);
        read(&file.path);
    });
});

/// A file that is written again and again, and that nobody has to remove.
struct Written {
    path: PathBuf,
    file: File,
}

impl Written {
    fn new() -> Self {
        let name = env::temp_dir().join(format!("sluice-fuzz-{}.parquet", process::id()));
        let file = File::create_new(&name).expect("a temporary file can be made");
        fs::remove_file(name).expect("and removed");
        Self { path: format!("/proc/self/fd/{}", file.as_raw_fd()).into(), file }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.file.rewind().and_then(|()| self.file.set_len(0)).expect("it can be emptied");
        self.file.write_all(bytes).expect("it can be written");
    }
}

fn read(path: &Path) {
    let Ok(mut file) = Exported::open(path) else { return };
    let checked = file.check();
    let Ok(entries) = file.entries().collect::<Result<Vec<_>, _>>() else {
        assert!(checked.is_err(), "what cannot be read is not right");
        return;
    };
    assert_eq!(entries.len() as u64, file.size());
    assert!((0..).zip(&entries).all(|(expected, (index, _))| *index == expected));
    let bytes: Vec<_> = entries.iter().map(|(_, entry)| encoded(entry)).collect();
    let batches: Vec<_> = file.batches().collect::<Result<_, _>>().expect("they were read before");
    assert_eq!(batches.concat(), bytes);
    if let Some(last) = file.size().checked_sub(1) {
        let found = [last / 2, last].map(|index| file.entry(index).expect("it was read before"));
        assert_eq!(found, [last / 2, last].map(|index| bytes[index as usize].clone()));
    }
    assert!(file.entry(file.size()).is_err());
    if let Ok(root) = checked {
        let mut tree = Tree::default();
        tree.extend(leaves(&bytes.iter().map(Vec::as_slice).collect::<Vec<_>>()));
        assert_eq!(root, tree.root());
    }
}

fn encoded(entry: &Entry) -> Vec<u8> {
    let mut bytes = Vec::new();
    entry.encode(&mut bytes);
    bytes
}
