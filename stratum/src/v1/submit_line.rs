//! The line of a share as machines write it, read in one pass and without an allocation.
//!
//! The rule is: recognise certainly, or decline. A line is recognised if it is an object of the members `id`, `method`
//! and `params`, each once and in any order, with five or six texts for parameters; then it is valid JSON, and
//! [`Message::parse`](super::message::Message::parse) would read the same values from it. Whatever leaves a doubt is
//! declined and goes that way: other members, escapes, anything but printable ASCII inside of a text, unusual ids.

use super::message::Id;

/// Most digits of a number that certainly fits 64 bits.
const DIGITS_MAX: usize = 19;

/// A share's line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubmitLine<'a> {
    /// Of the request.
    pub id: Id,
    /// What it says.
    pub submit: Submit<'a>,
}

/// The parameters of `mining.submit`, not decoded yet: an unknown job outranks bad hex (V1 checklist §C).
///
/// Bytes, not texts: they are only compared and decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Submit<'a> {
    /// Who found it.
    pub user: &'a [u8],
    /// The job's id as it was sent.
    pub job: &'a [u8],
    /// In hex, as are all that follow.
    pub extranonce2: &'a [u8],
    /// Header time.
    pub ntime: &'a [u8],
    /// Header nonce.
    pub nonce: &'a [u8],
    /// Rolled bits of the header version.
    pub version_bits: Option<&'a [u8]>,
}

impl<'a> SubmitLine<'a> {
    /// Reads a line that is certainly a share's; `None` says nothing about it.
    pub fn recognise(line: &'a [u8]) -> Option<Self> {
        let mut reader = Reader { rest: line };
        let (mut id, mut named, mut submit) = (None, false, None);
        reader.take(b"{")?;
        for member in 0..3 {
            if member > 0 {
                reader.take(b",")?;
            }
            if reader.take(br#""id""#).is_some() {
                reader.take(b":")?;
                id = Some(reader.id()?);
            } else if reader.take(br#""method""#).is_some() {
                reader.take(b":")?;
                reader.take(br#""mining.submit""#)?;
                named = true;
            } else if reader.take(br#""params""#).is_some() {
                reader.take(b":")?;
                submit = Some(reader.params()?);
            } else {
                return None;
            }
        }
        reader.take(b"}")?;
        reader.space();
        if !named || !reader.rest.is_empty() {
            return None;
        }
        // Of three members none is missing: so none is there twice.
        Some(Self { id: id?, submit: submit? })
    }
}

/// What of the line is still to be read. Whatever it takes, it takes with the space before it.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn space(&mut self) {
        while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    #[inline]
    fn take(&mut self, sign: &[u8]) -> Option<()> {
        self.space();
        self.rest = self.rest.strip_prefix(sign)?;
        Some(())
    }

    /// A text that is spelled as what it says.
    #[inline]
    fn text(&mut self) -> Option<&'a [u8]> {
        self.take(b"\"")?;
        let (text, rest) = self.rest.split_at(plain_bytes(self.rest));
        self.rest = rest.strip_prefix(b"\"")?;
        Some(text)
    }

    fn id(&mut self) -> Option<Id> {
        self.space();
        let from = self.rest;
        match from.first()? {
            b'"' => {
                let quoted = self.text()?.len() + 2;
                Id::short(&from[..quoted])
            }
            b'n' => self.take(b"null").map(|()| Id::Null),
            _ => {
                let digits = from.iter().take_while(|byte| byte.is_ascii_digit()).count();
                let (number, rest) = from.split_at(digits);
                if digits == 0 || digits > DIGITS_MAX || digits > 1 && number[0] == b'0' {
                    return None;
                }
                // What makes it another number, a point or an exponent, is no sign that may follow.
                self.rest = rest;
                Some(Id::Number(number.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'))))
            }
        }
    }

    fn params(&mut self) -> Option<Submit<'a>> {
        self.take(b"[")?;
        let user = self.text()?;
        let job = self.next_text()?;
        let extranonce2 = self.next_text()?;
        let ntime = self.next_text()?;
        let nonce = self.next_text()?;
        self.space();
        let version_bits = if self.rest.starts_with(b",") { Some(self.next_text()?) } else { None };
        self.take(b"]")?;
        Some(Submit { user, job, extranonce2, ntime, nonce, version_bits })
    }

    #[inline]
    fn next_text(&mut self) -> Option<&'a [u8]> {
        self.take(b",")?;
        self.text()
    }
}

/// How many bytes come before the first that is not plain: a quote, a backslash, a control character or beyond ASCII.
#[inline]
fn plain_bytes(bytes: &[u8]) -> usize {
    let (words, tail) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        // Most texts of a share are some whole words of digits. A branch for them is foreseen, so that reading goes on
        // before the end is computed.
        if word[0] == b'"' {
            return 8 * at;
        }
        let odd = not_plain(u64::from_le_bytes(*word));
        if odd != 0 {
            return 8 * at + (odd.trailing_zeros() / 8) as usize; // at most 7
        }
    }
    let plain = |byte: &&u8| matches!(byte, 0x20..0x80) && !matches!(byte, b'"' | b'\\');
    8 * words.len() + tail.iter().take_while(plain).count()
}

/// Marks bytes by their top bit. The lowest mark is right; a borrow can make wrong ones only above it.
fn not_plain(word: u64) -> u64 {
    const fn each(byte: u8) -> u64 {
        u64::from_le_bytes([byte; 8])
    }
    let below = |word: u64, bound| word.wrapping_sub(each(bound)) & !word;
    let is = |byte| below(word ^ each(byte), 1);
    (is(b'"') | is(b'\\') | below(word, b' ') | word) & each(0x80)
}

#[cfg(test)]
mod tests {
    use super::super::message::Message;
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;
    use serde_json::value::RawValue;
    use std::collections::BTreeMap;
    use std::path::Path;

    const SUBMIT: Submit<'static> = Submit {
        user: b"tb1q.rig",
        job: b"7f",
        extranonce2: b"0000000000000001",
        ntime: b"6ab13b80",
        nonce: b"8A2b9c01",
        version_bits: None,
    };
    const ROLLED: Submit<'static> = Submit { version_bits: Some(b"00a00000"), ..SUBMIT };

    fn recognise(line: &str) -> Option<SubmitLine<'_>> {
        SubmitLine::recognise(line.as_bytes())
    }

    /// What both full parsers read from the line; they must agree.
    fn general(line: &[u8]) -> (Id, Vec<Vec<u8>>) {
        let Ok(Message::Request(request)) = Message::parse(line) else { panic!("no request") };
        let value: BTreeMap<String, Value> = serde_json::from_slice(line).unwrap();
        assert_eq!(value.len(), 3);
        assert_eq!((&*request.method, &value["method"]), ("mining.submit", &"mining.submit".into()));
        let id = request.id.unwrap();
        assert_eq!(id.to_string(), value["id"].to_string());
        let texts: Vec<_> = request.params.texts::<6>().unwrap().into_iter().flatten().collect();
        assert_eq!(value["params"], Value::from(texts.iter().map(|text| &**text).collect::<Vec<_>>()));
        (id, texts.iter().map(|text| text.as_bytes().to_vec()).collect())
    }

    /// Whether it is recognised; then as what it is.
    fn is_recognised(line: &[u8]) -> bool {
        let Some(SubmitLine { id, submit }) = SubmitLine::recognise(line) else { return false };
        let Submit { user, job, extranonce2, ntime, nonce, version_bits } = submit;
        let texts = [user, job, extranonce2, ntime, nonce].into_iter().chain(version_bits);
        assert_eq!((id, texts.map(<[u8]>::to_vec).collect()), general(line));
        true
    }

    #[test]
    fn lines_are_recognised_as_each_firmware_writes_them() {
        for (firmware, id, submit, line) in [
            (
                "cgminer; bmminer and btminer, which come from it",
                4,
                ROLLED,
                r#"{"params": ["tb1q.rig", "7f", "0000000000000001", "6ab13b80", "8A2b9c01", "00a00000"], "id": 4, "method": "mining.submit"}"#,
            ),
            (
                "the same without version rolling",
                12345,
                SUBMIT,
                r#"{"params": ["tb1q.rig", "7f", "0000000000000001", "6ab13b80", "8A2b9c01"], "id": 12345, "method": "mining.submit"}"#,
            ),
            (
                "cpuminer, ccminer",
                4,
                SUBMIT,
                r#"{"method": "mining.submit", "params": ["tb1q.rig", "7f", "0000000000000001", "6ab13b80", "8A2b9c01"], "id":4}"#,
            ),
            (
                "Avalon",
                0,
                SUBMIT,
                r#"{"params": ["tb1q.rig", "7f","0000000000000001", "6ab13b80", "8A2b9c01"], "id": 0, "method": "mining.submit"}"#,
            ),
            (
                "ESP-Miner, bosminer",
                6,
                ROLLED,
                r#"{"id":6,"method":"mining.submit","params":["tb1q.rig","7f","0000000000000001","6ab13b80","8A2b9c01","00a00000"]}"#,
            ),
            (
                "ESP-Miner until 2.9",
                6,
                ROLLED,
                r#"{"id": 6, "method": "mining.submit", "params": ["tb1q.rig", "7f", "0000000000000001", "6ab13b80", "8A2b9c01", "00a00000"]}"#,
            ),
            (
                "NerdMiner",
                77,
                SUBMIT,
                r#"{"id":77,"method":"mining.submit","params":["tb1q.rig","7f","0000000000000001","6ab13b80","8A2b9c01"]}"#,
            ),
        ] {
            let expected = SubmitLine { id: Id::Number(id), submit };
            assert_eq!(recognise(line), Some(expected), "{firmware}");
            assert!(is_recognised(line.as_bytes()), "{firmware}");
        }
    }

    #[test]
    fn every_share_of_the_transcripts_is_recognised_as_it_is_written_there() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/v1");
        let mut shares = BTreeMap::new();
        for entry in folder.read_dir().unwrap() {
            let path = entry.unwrap().path();
            for line in std::fs::read_to_string(&path).unwrap().lines() {
                let said: BTreeMap<&str, &RawValue> = serde_json::from_str(line).unwrap();
                let Some(line) = said.get("miner").map(|message| message.get()) else { continue };
                // What is no share is none of ours.
                let share = line.contains("\"mining.submit\"");
                assert_eq!(is_recognised(line.as_bytes()), share, "{}: {line}", path.display());
                *shares.entry(path.clone()).or_insert(0) += u32::from(share);
            }
        }
        assert_eq!(shares.len(), 5);
        assert!(shares.values().all(|shares| *shares > 0), "{shares:?}");
    }

    #[test]
    fn ids_are_kept_with_their_type() {
        for id in ["0", "9", "10", "9999999999999999999", "null", "\"\"", "\"7\"", "\"twenty characters !!\""]
        {
            let line = format!(r#"{{"id":{id},"method":"mining.submit","params":["","","","",""]}}"#);
            assert!(is_recognised(line.as_bytes()), "{id}");
            assert_eq!(recognise(&line).unwrap().id.to_string(), id);
        }
    }

    /// A line with one member as given.
    fn with_id(id: &str) -> String {
        format!(r#"{{"id":{id},"method":"mining.submit","params":["a","b","c","d","e"]}}"#)
    }

    fn with_params(params: &str) -> String {
        format!(r#"{{"id":1,"method":"mining.submit","params":{params}}}"#)
    }

    #[test]
    fn ids_that_leave_a_doubt_are_declined() {
        let numbers = ["", "00", "01", "-1", "-0", "+1", "1.0", "1e3", "1 2", "0x1", "10000000000000000000"];
        let texts = [r#""\u0031""#, "\"é\"", "\"more than twenty bytes\"", "\"a", "'1'", "\"\t\""];
        for id in numbers.into_iter().chain(texts).chain(["true", "nul", "nulll", "[1]", "{}"]) {
            assert!(!is_recognised(with_id(id).as_bytes()), "{id}");
        }
    }

    #[test]
    fn parameters_that_leave_a_doubt_are_declined() {
        for params in [
            "",
            "null",
            "{}",
            "\"a\"",
            "[]",
            r#"["a","b","c","d"]"#,
            r#"["a","b","c","d","e","f","g"]"#,
            r#"["a","b","c","d","e",]"#,
            r#"[,"a","b","c","d","e"]"#,
            r#"["a","b","c","d" "e"]"#,
            r#"["a","b","c","d",5]"#,
            r#"["a","b","c","d","e",null]"#,
            r#"["a","b","c","d",["e"]]"#,
            r#"["a","b","c","d","e"]]"#,
            r#"["a","b","c","d","e"}"#,
            r#"["a","b","c","d","e""#,
            r#"["\u0061","b","c","d","e"]"#,
            r#"["a\"","b","c","d","e"]"#,
            r#"["ä","b","c","d","e"]"#,
            r#"['a',"b","c","d","e"]"#,
            "[\"a\tb\",\"b\",\"c\",\"d\",\"e\"]",
            "[\"a\0\",\"b\",\"c\",\"d\",\"e\"]",
            "[\x0b\"a\",\"b\",\"c\",\"d\",\"e\"]",
            "[\u{a0}\"a\",\"b\",\"c\",\"d\",\"e\"]",
        ] {
            assert!(!is_recognised(with_params(params).as_bytes()), "{params}");
        }
    }

    #[test]
    fn objects_with_other_members_are_declined() {
        let [id, method, params] =
            [r#""id":1"#, r#""method":"mining.submit""#, r#""params":["a","b","c","d","e"]"#];
        let line = |members: &[&str]| format!("{{{}}}", members.join(","));
        assert!(is_recognised(line(&[params, method, id]).as_bytes()));
        for members in [
            &[][..],
            &[""],
            &[method, params],
            &[id, params],
            &[id, method],
            &["", id, method, params],
            &[id, method, params, ""],
            &[id, id, params],
            &[id, id, method, params],
            &[id, method, params, id],
            &[id, method, method, params],
            &[id, method, params, params],
            &[id, method, params, r#""jsonrpc":"2.0""#],
            &[r#""ID":1"#, method, params],
            &[r#""id ":1"#, method, params],
            &[r#""\u0069d":1"#, method, params],
            &[r#""id" 1"#, method, params],
            &[r#"id:1"#, method, params],
            &[id, r#""method":"mining.submit ""#, params],
            &[id, r#""method":"mining.subscribe""#, params],
            &[id, r#""method":null"#, params],
        ] {
            assert!(!is_recognised(line(members).as_bytes()), "{members:?}");
        }
    }

    #[test]
    fn what_is_not_just_one_object_is_declined() {
        let whole = with_id("1");
        assert!(is_recognised(whole.as_bytes()));
        for end in 0..whole.len() {
            assert!(!is_recognised(&whole.as_bytes()[..end]), "{end}");
        }
        for byte in (0..=u8::MAX).filter(|byte| !b" \t\r\n".contains(byte)) {
            assert!(!is_recognised(&[whole.as_bytes(), &[byte]].concat()), "behind: {byte}");
            assert!(!is_recognised(&[&[byte], whole.as_bytes()].concat()), "before: {byte}");
        }
        for text in
            [" ", "[]", "null", "\u{feff}{}"].map(str::to_owned).into_iter().chain([format!("{whole} {{}}")])
        {
            assert!(!is_recognised(text.as_bytes()), "{text}");
        }
    }

    /// The parts of a line of the plain shape.
    fn plain() -> impl Strategy<Value = (Vec<String>, String)> {
        let text = || prop_oneof![r"[ -!#-\[\]-~\x7f]{0,70}", "[0-9a-f]{8}", "[0-9a-f]{16}"];
        let id = prop_oneof![
            (0..=9_999_999_999_999_999_999_u64).prop_map(|id| id.to_string()),
            (0..200_u64).prop_map(|id| id.to_string()),
            Just("null".to_owned()),
            r#""[ -!#-\[\]-~]{0,20}""#,
        ];
        let texts = prop::collection::vec(text(), 5..=6);
        let space = prop::sample::select(vec!["", "", "", " ", " ", "\t", " \r\n "]);
        let space = prop::collection::vec(space, 40);
        (texts, id, Just([0, 1, 2]).prop_shuffle(), space).prop_map(|(texts, id, order, space)| {
            let mut signs = vec!["{".to_owned()];
            for (at, member) in order.into_iter().enumerate() {
                signs.extend((at > 0).then(|| ",".to_owned()));
                match member {
                    0 => signs.extend(["\"id\"", ":", &id].map(str::to_owned)),
                    1 => signs.extend(["\"method\"", ":", "\"mining.submit\""].map(str::to_owned)),
                    _ => {
                        signs.extend(["\"params\"", ":", "["].map(str::to_owned));
                        for (at, text) in texts.iter().enumerate() {
                            signs.extend((at > 0).then(|| ",".to_owned()));
                            signs.push(format!("\"{text}\""));
                        }
                        signs.push("]".to_owned());
                    }
                }
            }
            signs.push("}".to_owned());
            let line =
                signs.iter().zip(space).map(|(sign, space)| format!("{space}{sign}")).collect::<String>();
            (texts, line + " ")
        })
    }

    proptest! {
        #[test]
        fn a_line_of_the_plain_shape_is_never_declined((texts, line) in plain()) {
            prop_assert!(is_recognised(line.as_bytes()), "{}", line);
            prop_assert_eq!(recognise(&line).unwrap().submit.version_bits.is_some(), texts.len() == 6);
        }

        #[test]
        fn a_line_damaged_anywhere_is_read_as_a_full_parser_reads_it_or_declined(
            (_, line) in plain(),
            damage in prop::collection::vec((
                any::<prop::sample::Index>(),
                0..3_usize,
                prop_oneof![prop::sample::select(&b"\"\\{}[]:, \t0-e.n\x7f\x80\xc3"[..]), any::<u8>()],
            ), 1..4),
        ) {
            let mut line = line.into_bytes();
            for (at, cut, byte) in damage {
                let at = at.index(line.len());
                // Inserts, replaces, or takes one out as well.
                let end = (at + cut).min(line.len());
                line.splice(at..end, [byte]);
            }
            is_recognised(&line);
        }

        #[test]
        fn plain_bytes_are_counted_word_by_word_as_one_by_one(
            bytes in prop::collection::vec(prop_oneof![8 => 0x20..0x80_u8, 1 => any::<u8>()], 0..40),
        ) {
            let odd = |byte: &u8| *byte < 0x20 || *byte >= 0x80 || *byte == b'"' || *byte == b'\\';
            prop_assert_eq!(plain_bytes(&bytes), bytes.iter().position(odd).unwrap_or(bytes.len()));
        }
    }
}
