//! A V1 machine: its first questions, and shares patched into one line.

use super::player::Heard;
use anyhow::Context;
use floor::link::lines;
use memchr::memmem;
use serde_json::{Value, json};
use std::io;
use std::ops::Range;

/// Ids of shares all have ten digits: they are written over each other.
const FIRST_SHARE: u64 = 1_000_000_000;
const CONFIGURE: u64 = 1;
const SUBSCRIBE: u64 = 2;
const AUTHORIZE: u64 = 3;

/// A session. Questions are asked one by one, as firmware does.
#[derive(Debug)]
pub struct Session {
    user: String,
    extranonce2_bytes: usize,
    authorized: bool,
    /// The next share's line.
    line: Vec<u8>,
    /// One of a job that never was.
    baseless: Vec<u8>,
    extranonce2: Range<usize>,
    nonce: Range<usize>,
}

impl Session {
    /// Begins with `mining.configure`.
    pub fn begin(user: &str, out: &mut Vec<u8>) -> Self {
        let asked = json!([["version-rolling"], {"version-rolling.mask": "1fffe000", "version-rolling.min-bit-count": 2}]);
        ask(CONFIGURE, "mining.configure", &asked, out);
        Self {
            user: user.to_owned(),
            extranonce2_bytes: 0,
            authorized: false,
            line: Vec::new(),
            baseless: Vec::new(),
            extranonce2: 0..0,
            nonce: 0..0,
        }
    }

    /// Takes what the server says; answers go to `out`.
    pub fn take(&mut self, bytes: &[u8], out: &mut Vec<u8>, heard: &mut Heard) -> io::Result<usize> {
        lines(bytes, |line| {
            if line.starts_with(b"{\"id\":null") || memmem::find(line, b"\"method\"").is_some() {
                return self.notice(line, heard);
            }
            if !self.authorized {
                return self.answer(line, out);
            }
            match result(line) {
                Some(b't') => heard.accepted += 1,
                _ => heard.refused.push(reason(line)),
            }
            Ok(())
        })
    }

    /// Whether a share can be sent.
    pub fn has_work(&self) -> bool {
        self.authorized && !self.line.is_empty()
    }

    /// Appends a share that was never sent before on this connection.
    pub fn submit(&mut self, number: u32, out: &mut Vec<u8>) {
        let id = FIRST_SHARE + u64::from(number);
        decimal(&mut self.line[6..16], id);
        hex(&mut self.line[self.extranonce2.clone()], number);
        // Neighbours in one field are far apart in the other.
        hex(&mut self.line[self.nonce.clone()], number.wrapping_mul(0x9e37_79b1));
        out.extend_from_slice(&self.line);
    }

    /// Appends a share that is worth nothing: the first one again, or one of a job that never was.
    pub fn submit_bad(&mut self, number: u32, out: &mut Vec<u8>) {
        if number.is_multiple_of(2) { self.submit(0, out) } else { out.extend_from_slice(&self.baseless) }
    }

    fn answer(&mut self, line: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        let answer: Value = serde_json::from_slice(line)?;
        if !answer["error"].is_null() {
            return Err(io::Error::other(format!("refused: {}", answer["error"])));
        }
        match answer["id"].as_u64() {
            Some(CONFIGURE) => ask(SUBSCRIBE, "mining.subscribe", &json!(["sluice-fleet/load"]), out),
            Some(SUBSCRIBE) => {
                let size = answer["result"][2].as_u64().and_then(|size| usize::try_from(size).ok());
                // Eight digits of it are counted.
                let size = size.filter(|size| (4..=16).contains(size));
                self.extranonce2_bytes =
                    size.ok_or_else(|| io::Error::other("no room to count shares in"))?;
                ask(AUTHORIZE, "mining.authorize", &json!([self.user, "x"]), out);
            }
            Some(AUTHORIZE) if answer["result"] == true => self.authorized = true,
            _ => return Err(io::Error::other(format!("not understood: {answer}"))),
        }
        Ok(())
    }

    fn notice(&mut self, line: &[u8], heard: &mut Heard) -> io::Result<()> {
        if memmem::find(line, b"mining.notify").is_none() {
            return Ok(());
        }
        let work = Work::parse(line).context("a job").map_err(io::Error::other)?;
        heard.job = true;
        if work.clean {
            heard.tip = Some(work.tip);
        }
        let extranonce2 = "0".repeat(2 * self.extranonce2_bytes);
        let head = format!(
            "{{\"id\":{FIRST_SHARE},\"method\":\"mining.submit\",\"params\":[\"{}\",\"{}\",\"",
            self.user, work.id
        );
        let middle = format!("{head}{extranonce2}\",\"{}\",\"", work.ntime);
        // The digits that count are the first: a server's own counters often are the last.
        self.extranonce2 = head.len()..head.len() + extranonce2.len().min(8);
        self.nonce = middle.len()..middle.len() + 8;
        self.line = format!("{middle}00000000\",\"00000000\"]}}\n").into_bytes();
        self.baseless = format!(
            "{{\"id\":{FIRST_SHARE},\"method\":\"mining.submit\",\"params\":[\"{}\",\"ffffffff\",\"{extranonce2}\",\"{}\",\"00000000\",\"00000000\"]}}\n",
            self.user, work.ntime
        )
        .into_bytes();
        Ok(())
    }
}

/// What a share needs of a job; not more, for thousands of them come at once.
struct Work<'a> {
    id: &'a str,
    ntime: &'a str,
    /// The end of the parent's hash.
    tip: u64,
    clean: bool,
}

impl<'a> Work<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let params = memmem::find(line, b"\"params\"")? + 8;
        let mut texts = line[params..].split(|byte| *byte == b'"').skip(1).step_by(2);
        let (id, parent) = (texts.next()?, texts.next()?);
        let mut from_end = line.rsplit(|byte| *byte == b'"');
        let clean = memmem::find(from_end.next()?, b"true").is_some();
        let ntime = from_end.next()?;
        // A hash of 32 bytes is as good as random, in whatever order; but its first half is zeros in some.
        let tip = parent.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
        let text = |bytes| std::str::from_utf8(bytes).ok();
        Some(Self { id: text(id)?, ntime: text(ntime)?, tip, clean })
    }
}

fn ask(id: u64, method: &str, params: &Value, out: &mut Vec<u8>) {
    out.extend_from_slice(
        format!("{{\"id\":{id},\"method\":\"{method}\",\"params\":{params}}}\n").as_bytes(),
    );
}

/// The first letter of an answer's result.
fn result(line: &[u8]) -> Option<u8> {
    const RESULT: &[u8] = b"\"result\":";
    let at = memmem::find(line, RESULT)? + RESULT.len();
    line[at..].iter().copied().find(|byte| *byte != b' ')
}

fn reason(line: &[u8]) -> String {
    let answer: Value = serde_json::from_slice(line).unwrap_or_default();
    format!("{} {}", answer["error"][0], answer["error"][1])
}

fn decimal(digits: &mut [u8], mut number: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8; // below 10
        number /= 10;
    }
}

fn hex(digits: &mut [u8], mut number: u32) {
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 15) as usize]; // below 16
        number >>= 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(session: &mut Session, text: &str, out: &mut Vec<u8>) -> Heard {
        let mut heard = Heard::default();
        assert_eq!(session.take(text.as_bytes(), out, &mut heard).unwrap(), text.len());
        heard
    }

    #[test]
    fn shares_are_valid_lines_and_no_two_are_the_same() {
        let mut out = Vec::new();
        let mut session = Session::begin("me.1", &mut out);
        heard(&mut session, "{\"id\":1,\"result\":{\"version-rolling\":true},\"error\":null}\n", &mut out);
        heard(&mut session, "{\"id\":2,\"result\":[[],\"00000001\",8],\"error\":null}\n", &mut out);
        let job = "{\"id\":null,\"method\":\"mining.notify\",\"params\":[\"a7\",\"00ff\",\"01\",\"02\",[\"03\"],\"20000000\",\"1e0377ae\",\"6ab13b80\",true]}\n";
        heard(&mut session, "{\"id\":3,\"result\":true,\"error\":null}\n", &mut out);
        let told = heard(&mut session, job, &mut out);
        assert!(told.job && told.tip.is_some() && session.has_work());
        let asked: Vec<Value> =
            out.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
        assert_eq!(asked.len(), 3);
        assert_eq!(asked[2]["params"][0], "me.1");
        out.clear();
        session.submit(0, &mut out);
        session.submit(0xabc, &mut out);
        let shares: Vec<Value> =
            out.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
        assert_eq!(shares[1]["id"], FIRST_SHARE + 0xabc);
        assert_eq!(
            shares[0]["params"],
            json!(["me.1", "a7", "0".repeat(16), "6ab13b80", "00000000", "00000000"])
        );
        assert_eq!(shares[1]["params"][2], "00000abc00000000");
        out.clear();
        session.submit_bad(2, &mut out);
        session.submit_bad(3, &mut out);
        let bad: Vec<Value> =
            out.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
        assert_eq!(bad[0], shares[0]);
        assert_eq!(
            bad[1]["params"],
            json!(["me.1", "ffffffff", "0".repeat(16), "6ab13b80", "00000000", "00000000"])
        );
        let told = heard(
            &mut session,
            "{\"id\":1000000000,\"result\":true,\"error\":null}\n{\"id\":1,\"result\":null,\"error\":[21,\"stale\",null]}\n",
            &mut out,
        );
        assert_eq!((told.accepted, told.refused), (1, vec!["21 \"stale\"".to_owned()]));
    }

    #[test]
    fn a_job_that_is_not_clean_is_no_tip() {
        let job = b"{\"id\":null,\"method\":\"mining.notify\",\"params\":[\"a7\",\"00ff\",\"01\",\"02\",[],\"2\",\"1e\",\"6a\",false]}";
        let work = Work::parse(job).unwrap();
        assert_eq!((work.id, work.ntime, work.clean), ("a7", "6a", false));
        assert!(Work::parse(b"{}").is_none());
    }
}
