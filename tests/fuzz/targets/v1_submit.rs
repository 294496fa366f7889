//! The quick way for a share's line against two full parsers.
//!
//! The input is taken twice: as a line, which must be read as the parsers read it or be declined; and as choices from
//! which a line of the plain shape is made, which must not be declined.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use stratum::v1::message::{Id, Message};
use stratum::v1::submit_line::{Submit, SubmitLine};

fuzz_target!(|input: &[u8]| {
    if let Some(share) = SubmitLine::recognise(input) {
        assert_eq!(texts(&share.submit), general(input, &share.id));
    }
    let mut choices = Unstructured::new(input);
    if let Ok((line, id, expected)) = plain_line(&mut choices) {
        let share = SubmitLine::recognise(line.as_bytes()).unwrap_or_else(|| panic!("declined: {line}"));
        assert_eq!(share.id.to_string(), id, "{line}");
        assert_eq!(texts(&share.submit), expected, "{line}");
        assert_eq!(general(line.as_bytes(), &share.id), expected, "{line}");
    }
});

fn texts(submit: &Submit<'_>) -> Vec<String> {
    let Submit { user, job, extranonce2, ntime, nonce, version_bits } = *submit;
    let texts = [user, job, extranonce2, ntime, nonce].into_iter().chain(version_bits);
    texts.map(|text| String::from_utf8(text.to_vec()).expect("texts are plain")).collect()
}

/// The parameters as both full parsers read them: the general way, which sees a key that is there twice, and a tree.
fn general(line: &[u8], id: &Id) -> Vec<String> {
    let Ok(Message::Request(request)) = Message::parse(line) else { panic!("no request") };
    assert_eq!((&request.id, &*request.method), (&Some(id.clone()), "mining.submit"));
    let general: Vec<_> =
        request.params.texts::<6>().expect("a list of texts").into_iter().flatten().collect();
    let tree: BTreeMap<String, Value> = serde_json::from_slice(line).expect("an object");
    assert_eq!(tree.len(), 3);
    assert_eq!(tree["id"].to_string(), id.to_string());
    assert_eq!(tree["method"], "mining.submit");
    let texts: Vec<String> = serde_json::from_value(tree["params"].clone()).expect("a list of texts");
    assert_eq!(general, texts);
    texts
}

/// A line as a machine might write it, the id in it, and its parameters.
fn plain_line(choices: &mut Unstructured<'_>) -> Result<(String, String, Vec<String>)> {
    let id = match choices.int_in_range(0..=3)? {
        0 => "null".to_owned(),
        1 => format!("\"{}\"", plain_text(choices, 20)?),
        2 => choices.int_in_range(0..=9_999)?.to_string(),
        _ => choices.int_in_range(0..=9_999_999_999_999_999_999_u64)?.to_string(),
    };
    let count = choices.int_in_range(5..=6)?;
    let texts = (0..count).map(|_| plain_text(choices, 90)).collect::<Result<Vec<_>>>()?;
    let mut members = [vec!["\"id\"", ":", &id], vec!["\"method\"", ":", "\"mining.submit\""], vec![]];
    let quoted: Vec<_> = texts.iter().map(|text| format!("\"{text}\"")).collect();
    members[2].extend(["\"params\"", ":", "["]);
    for (at, text) in quoted.iter().enumerate() {
        members[2].extend((at > 0).then_some(","));
        members[2].push(text);
    }
    members[2].push("]");
    members.swap(0, choices.int_in_range(0..=2)?);
    members.swap(1, choices.int_in_range(1..=2)?);
    let [first, second, third] = &members;
    let signs = [&["{"][..], first, &[","], second, &[","], third, &["}"]].concat();
    let mut line = String::new();
    for sign in signs {
        line += space(choices)?;
        line += sign;
    }
    line += space(choices)?;
    Ok((line, id, texts))
}

/// Printable ASCII that needs no escape.
fn plain_text(choices: &mut Unstructured<'_>, most: usize) -> Result<String> {
    let length = choices.int_in_range(0..=most)?;
    let plain = |byte: u8| match char::from(0x20 + byte % 0x60) {
        '"' | '\\' => 'x',
        plain => plain,
    };
    (0..length).map(|_| choices.arbitrary().map(plain)).collect()
}

fn space(choices: &mut Unstructured<'_>) -> Result<&'static str> {
    choices.choose(&["", "", "", " ", " ", "\t", "\r\n", "   "]).copied()
}
