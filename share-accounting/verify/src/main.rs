//! `sluice-verify`: all of it is in the library, where fuzz targets reach it.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    verify::run()
}
