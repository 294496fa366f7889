//! What the compiler made of the SHA kernel, read back from this test's own executable.
#![cfg(target_arch = "x86_64")]

use std::collections::BTreeMap;
use std::process::Command;

/// The SHA instructions have the legacy encoding only; with a 256-bit register dirty, each costs hundreds of cycles.
#[test]
fn the_sha_kernel_never_touches_a_256_bit_register() {
    // Links the kernel into this executable.
    assert_ne!(sha256d::sha256d(b"linked"), [0; 32]);

    let executable = std::env::current_exe().expect("a running test has a path");
    let output = Command::new("objdump")
        .args(["--disassemble", "--no-show-raw-insn"])
        .arg(executable)
        .output()
        .expect("objdump comes with the C compiler (Debian package binutils)");
    assert!(output.status.success(), "objdump: {}", String::from_utf8_lossy(&output.stderr));

    let listing = String::from_utf8_lossy(&output.stdout);
    let kernel = functions(&listing, "sha_ni");
    assert!(
        kernel.values().flatten().any(|instruction| instruction.contains("sha256rnds2")),
        "no SHA instruction in {:?}",
        kernel.keys()
    );
    for (function, instructions) in &kernel {
        for instruction in instructions {
            let wide = instruction.contains("%ymm") || instruction.contains("%zmm");
            assert!(!wide, "{function}: {instruction}");
        }
    }
}

/// The instructions of every function that has `part` in its (mangled) name.
fn functions<'a>(listing: &'a str, part: &str) -> BTreeMap<&'a str, Vec<&'a str>> {
    let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut current = None;
    for line in listing.lines() {
        if let Some(name) =
            line.strip_suffix(">:").and_then(|line| line.split_once('<')).map(|(_, name)| name)
        {
            current = name.contains(part).then_some(name);
        } else if let Some(name) = current {
            found.entry(name).or_default().push(line);
        }
    }
    found
}
