//! A settings file of either server: typed settings, or a list of mistakes that each say where and what.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pool::settings::Settings;
use stratum_net::settings::Reader;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match Settings::resolve(Reader::text(text)) {
        Ok(settings) => {
            assert!(!settings.nodes.is_empty());
            assert!((settings.difficulty.min..=settings.difficulty.max).contains(&settings.difficulty.start));
        }
        Err(mistakes) => assert!(!mistakes.to_string().is_empty()),
    }
    match proxy::settings::Settings::resolve(Reader::text(text)) {
        Ok(settings) => {
            assert!(!settings.upstreams.is_empty());
            assert!(settings.upstreams.iter().all(|upstream| upstream.user.is_none() == settings.pass_users));
        }
        Err(mistakes) => assert!(!mistakes.to_string().is_empty()),
    }
});
