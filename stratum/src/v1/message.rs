//! What a line says: a request, a notification or a response, with names and codes of both sides.

use crate::share::Reject;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// Method names, as the field spells them.
pub mod method {
    /// Client → server: BIP 310.
    pub const CONFIGURE: &str = "mining.configure";
    /// Client → server: first message of most machines.
    pub const SUBSCRIBE: &str = "mining.subscribe";
    /// Client → server: user name and password.
    pub const AUTHORIZE: &str = "mining.authorize";
    /// Client → server: a share.
    pub const SUBMIT: &str = "mining.submit";
    /// Client → server: a hint. Some firmware writes the number into the name: `…difficulty(512)`.
    pub const SUGGEST_DIFFICULTY: &str = "mining.suggest_difficulty";
    /// Client → server: the same hint as a 256-bit target in hex.
    pub const SUGGEST_TARGET: &str = "mining.suggest_target";
    /// Client → server: it can take `mining.set_extranonce`.
    pub const EXTRANONCE_SUBSCRIBE: &str = "mining.extranonce.subscribe";
    /// Server → client: difficulty of the jobs that follow.
    pub const SET_DIFFICULTY: &str = "mining.set_difficulty";
    /// Server → client: a job.
    pub const NOTIFY: &str = "mining.notify";
    /// Server → client: new extranonce1 and extranonce2 size for the next job.
    pub const SET_EXTRANONCE: &str = "mining.set_extranonce";
    /// Server → client: version bits that may be rolled, at once.
    pub const SET_VERSION_MASK: &str = "mining.set_version_mask";
    /// Either way: is anybody there?
    pub const PING: &str = "mining.ping";
    /// The answer of ESP-Miner to a ping comes as a message of its own.
    pub const PONG: &str = "pong";
    /// Server → client: what software are you?
    pub const GET_VERSION: &str = "client.get_version";
    /// Server → client: text for the operator.
    pub const SHOW_MESSAGE: &str = "client.show_message";
    /// Server → client: go elsewhere.
    pub const RECONNECT: &str = "client.reconnect";
    /// Client → server: transactions of a job; not offered.
    pub const GET_TRANSACTIONS: &str = "mining.get_transactions";
    /// Client → server: old version rolling of the S9; not offered.
    pub const MULTI_VERSION: &str = "mining.multi_version";
    /// Client → server: list of capabilities; not offered.
    pub const CAPABILITIES: &str = "mining.capabilities";
}

/// BIP 310: extension and parameter names of `mining.configure`.
pub mod extension {
    /// Roll bits of the header version.
    pub const VERSION_ROLLING: &str = "version-rolling";
    /// Bits that may be rolled, 8 hex digits; in the request and in the answer.
    pub const VERSION_ROLLING_MASK: &str = "version-rolling.mask";
    /// How many bits the client wants at least: diagnostic.
    pub const VERSION_ROLLING_MIN_BIT_COUNT: &str = "version-rolling.min-bit-count";
    /// A floor of the share difficulty.
    pub const MINIMUM_DIFFICULTY: &str = "minimum-difficulty";
    /// Its value, a number.
    pub const MINIMUM_DIFFICULTY_VALUE: &str = "minimum-difficulty.value";
    /// The client can take `mining.set_extranonce`.
    pub const SUBSCRIBE_EXTRANONCE: &str = "subscribe-extranonce";
}

/// Error codes of the original list (V1-40).
pub mod code {
    /// Other or unknown.
    pub const OTHER: i64 = 20;
    /// Job not found, or stale.
    pub const STALE: i64 = 21;
    /// Duplicate share.
    pub const DUPLICATE: i64 = 22;
    /// Hash above the share target.
    pub const LOW_DIFFICULTY: i64 = 23;
    /// Worker not authorized on this connection.
    pub const UNAUTHORIZED: i64 = 24;
    /// No subscription.
    pub const NOT_SUBSCRIBED: i64 = 25;

    /// The code that tells a miner why its share is refused.
    pub fn of(reject: super::Reject) -> i64 {
        use super::Reject;
        match reject {
            Reject::UnknownJob | Reject::Stale => STALE,
            Reject::Duplicate => DUPLICATE,
            Reject::LowDifficulty => LOW_DIFFICULTY,
            Reject::Unauthorized => UNAUTHORIZED,
            Reject::NotSubscribed => NOT_SUBSCRIBED,
            Reject::Malformed(_)
            | Reject::BadVersionBits
            | Reject::BadExtranonceSize
            | Reject::RefusedUpstream
            | Reject::LostUpstream
            | Reject::BadNtime
            | Reject::DuplicateSetFull
            | Reject::AccountingUnavailable => OTHER,
        }
    }
}

/// Deepest nesting of a message that is read; legal ones stay below 4.
pub const NESTING_MAX: usize = 16;
/// Longest id that is echoed, in bytes of JSON; a queue of replies keeps its ids.
pub const ID_BYTES_MAX: usize = 64;

/// A request id, echoed as it came: number, string or null.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Id {
    /// `null`.
    Null,
    /// What nearly all clients send.
    Number(u64),
    /// Any other number or string, as JSON text.
    Short(ShortText),
    /// The same, longer.
    Long(Box<str>),
}

/// Bytes of JSON of an id that is kept in place: as many as make it no larger than the others.
const SHORT_BYTES_MAX: usize = 22;

/// JSON text of at most 22 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ShortText {
    // Behind `len` all bytes are 0, so that derived comparison is right.
    bytes: [u8; SHORT_BYTES_MAX],
    len: u8,
}

impl ShortText {
    fn new(text: &str) -> Option<Self> {
        let mut bytes = [0; SHORT_BYTES_MAX];
        bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Some(Self { bytes, len: text.len() as u8 }) // at most 22
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.len.into()]).expect("it was copied from a whole text")
    }
}

impl fmt::Debug for ShortText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl Id {
    fn from_json(text: &str) -> Option<Self> {
        if text == "null" {
            return Some(Self::Null);
        }
        let canonical = |n: &u64| text.len() == 1 || !text.starts_with('0') && *n > 0;
        if let Some(number) = text.parse().ok().filter(canonical).filter(|_| !text.starts_with('+')) {
            return Some(Self::Number(number));
        }
        // A raw JSON value may still hold escapes that stand for no character and numbers beyond a float:
        // echoed, they would make our answer unreadable (N02).
        let echoable = match text.as_bytes().first() {
            Some(b'"') => serde_json::from_str::<Cow<'_, str>>(text).is_ok(),
            Some(_) => serde_json::from_str::<f64>(text).is_ok(),
            None => false,
        };
        (echoable && text.len() <= ID_BYTES_MAX)
            .then(|| ShortText::new(text).map_or_else(|| Self::Long(text.into()), Self::Short))
    }

    /// An id from JSON that is known to be a text without escapes, if it can be kept in place.
    pub(super) fn short(json: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(json).ok()?;
        ShortText::new(text).map(Self::Short)
    }

    /// How long it is as JSON.
    pub(super) fn json_bytes(&self) -> usize {
        match self {
            Self::Null => 4,
            Self::Number(number) => number.checked_ilog10().map_or(1, |log| log as usize + 1), // at most 20
            Self::Short(text) => text.len.into(),
            Self::Long(text) => text.len(),
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Number(number) => number.fmt(f),
            Self::Short(text) => f.write_str(text.as_str()),
            Self::Long(text) => f.write_str(text),
        }
    }
}

/// One line, read as far as both sides need it.
#[derive(Debug)]
pub enum Message<'a> {
    /// A request; a notification if it has no id.
    Request(Request<'a>),
    /// An answer to one of our requests.
    Response(Response<'a>),
}

/// A call of a method.
#[derive(Debug)]
pub struct Request<'a> {
    /// `None`: there was none, so nobody waits for an answer. `null` is an id (V1-04).
    pub id: Option<Id>,
    /// Its name.
    pub method: Cow<'a, str>,
    /// Its parameters, not looked into yet.
    pub params: Params<'a>,
}

/// An answer.
#[derive(Debug)]
pub struct Response<'a> {
    /// Of the request.
    pub id: Option<Id>,
    /// The result as JSON; `null` if there was none.
    pub result: &'a str,
    /// The error as JSON; `null` if there was none.
    pub error: &'a str,
}

/// A line that is no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unreadable message: {why}")]
pub struct Unreadable {
    /// Set if the id could be read all the same: then it can be answered with error 20.
    pub id: Option<Id>,
    /// What is wrong, for the answer.
    pub why: &'static str,
}

impl<'a> Message<'a> {
    /// Reads a line.
    ///
    /// # Errors
    /// [`Unreadable`] for what is no JSON object, is nested deeper than [`NESTING_MAX`], names a key
    /// twice or has neither method nor result.
    pub fn parse(line: &'a [u8]) -> Result<Self, Unreadable> {
        let refused = |why| Unreadable { id: None, why };
        let text = std::str::from_utf8(line).map_err(|_| refused("not UTF-8"))?;
        // The envelope is read without recursion: values are only skipped over.
        let envelope: Envelope<'a> = serde_json::from_str(text).map_err(|_| refused("not a JSON object"))?;
        let id = match envelope.id {
            None => None,
            Some(raw) => Some(Id::from_json(raw.get()).ok_or(refused("id is no number, string or null"))?),
        };
        let why = if envelope.twice {
            "a key is there twice"
        } else if nesting(text) > NESTING_MAX {
            "nested too deeply"
        } else if let Some(method) = envelope.method {
            let Ok(Text(method)) = serde_json::from_str(method.get()) else {
                return Err(Unreadable { id, why: "method is no text" });
            };
            let params = Params { raw: envelope.params.map_or("null", RawValue::get) };
            return Ok(Self::Request(Request { id, method, params }));
        } else if envelope.result.is_some() || envelope.error.is_some() {
            let text = |value: Option<&'a RawValue>| value.map_or("null", RawValue::get);
            let (result, error) = (text(envelope.result), text(envelope.error));
            return Ok(Self::Response(Response { id, result, error }));
        } else {
            "neither method nor result"
        };
        Err(Unreadable { id, why })
    }
}

/// Parameters of a request, as JSON text.
#[derive(Debug, Clone, Copy)]
pub struct Params<'a> {
    raw: &'a str,
}

impl<'a> Params<'a> {
    /// The JSON text.
    pub fn raw(self) -> &'a str {
        self.raw
    }

    /// As a list: what is no array counts as its only element, `null` as none.
    ///
    /// # Errors
    /// Text that JSON cannot carry (lone surrogates) or numbers beyond a float.
    pub fn list(self) -> Result<Vec<Value>, serde_json::Error> {
        Ok(match serde_json::from_str(self.raw)? {
            Value::Array(list) => list,
            Value::Null => Vec::new(),
            other => vec![other],
        })
    }

    /// The first `N` elements, all of them text; missing ones are `None`. The quick way for a share.
    ///
    /// # Errors
    /// Not an array, or one of the first `N` elements is no text.
    pub fn texts<const N: usize>(self) -> Result<[Option<Cow<'a, str>>; N], serde_json::Error> {
        serde_json::from_str(self.raw).map(|Texts(texts)| texts)
    }
}

/// Text that borrows from its line unless it holds an escape.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

struct Texts<'a, const N: usize>([Option<Cow<'a, str>>; N]);

impl<'de, const N: usize> Deserialize<'de> for Texts<'de, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements<const N: usize>;
        impl<'de, const N: usize> Visitor<'de> for Elements<N> {
            type Value = Texts<'de, N>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of texts")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
                let mut texts = [const { None }; N];
                for place in &mut texts {
                    match elements.next_element::<Text<'de>>()? {
                        Some(Text(text)) => *place = Some(text),
                        None => return Ok(Texts(texts)),
                    }
                }
                while elements.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Texts(texts))
            }
        }
        deserializer.deserialize_seq(Elements)
    }
}

/// The keys of a message, their values not looked into.
#[derive(Default)]
struct Envelope<'a> {
    id: Option<&'a RawValue>,
    method: Option<&'a RawValue>,
    params: Option<&'a RawValue>,
    result: Option<&'a RawValue>,
    error: Option<&'a RawValue>,
    twice: bool,
}

impl<'de> Deserialize<'de> for Envelope<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Envelope<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut envelope = Envelope::default();
                while let Some(Text(key)) = map.next_key::<Text<'de>>()? {
                    let place = match &*key {
                        "id" => &mut envelope.id,
                        "method" => &mut envelope.method,
                        "params" => &mut envelope.params,
                        "result" => &mut envelope.result,
                        "error" => &mut envelope.error,
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    let value = map.next_value::<&RawValue>()?;
                    if place.replace(value).is_some() {
                        if &*key == "id" {
                            return Err(A::Error::custom("two ids"));
                        }
                        envelope.twice = true;
                    }
                }
                Ok(envelope)
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

/// Deepest nesting of arrays and objects in valid JSON.
fn nesting(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_text, mut escaped) = (false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(line: &str) -> Request<'_> {
        match Message::parse(line.as_bytes()) {
            Ok(Message::Request(request)) => request,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn v1_04_ids_are_echoed_with_their_type() {
        for id in [
            "null",
            "0",
            "7",
            "18446744073709551615",
            "18446744073709551616",
            "-1",
            "1.5",
            "1e3",
            "1e308",
            "1e-6004",
            "\"a\\n1\"",
            "\"\"",
            "\"as many as are short.\"",
            "\"longer than what is kept in place, é and all\"",
        ] {
            let line = format!(r#"{{"id":{id},"method":"m","params":[]}}"#);
            assert_eq!(request(&line).id.unwrap().to_string(), id);
        }
        assert_eq!(request(r#"{"method":"m"}"#).id, None);
    }

    #[test]
    fn v1_04_ids_that_are_no_scalar_or_too_long_are_refused() {
        let long = format!("\"{}\"", "x".repeat(ID_BYTES_MAX));
        // N02: an escape that stands for no character, or a number beyond a float, would make the answer
        // unreadable.
        for id in ["[1]", "{}", "true", "false", &long, r#""\ud800""#, r#""\udc00x""#, "1e999", "-1e76004"] {
            let line = format!(r#"{{"id":{id},"method":"m"}}"#);
            assert_eq!(Message::parse(line.as_bytes()).unwrap_err().id, None, "{id}");
        }
    }

    #[test]
    fn v1_06_responses_are_told_from_requests() {
        for (line, result, error) in [
            (r#"{"id":1,"result":true,"error":null}"#, "true", "null"),
            (r#"{"id":1,"result":null,"error":[20,"x",null]}"#, "null", r#"[20,"x",null]"#),
            (r#"{"id":1,"error":"x"}"#, "null", "\"x\""),
        ] {
            let Ok(Message::Response(response)) = Message::parse(line.as_bytes()) else { panic!("{line}") };
            assert_eq!((response.result, response.error), (result, error));
        }
    }

    #[test]
    fn v1_03_n02_what_is_no_message_is_refused_with_its_id_if_there_is_one() {
        let deep = format!(r#"{{"id":1,"method":"m","params":{}{}}}"#, "[".repeat(4000), "]".repeat(4000));
        let edge = format!(r#"{{"id":1,"method":"m","params":{}{}}}"#, "[".repeat(16), "]".repeat(16));
        for (line, id) in [
            (&b"not json"[..], None),
            (b"[]", None),
            (b"5", None),
            (b"{", None),
            (b"{}", None),
            (b"{\"id\":1}", Some(1)),
            (b"{\"id\":1,\"method\":5}", Some(1)),
            (b"{\"id\":1,\"method\":null}", Some(1)),
            (b"{\"id\":1,\"method\":\"\\ud800\"}", Some(1)),
            (b"{\"id\":1,\"method\":\"a\",\"method\":\"b\"}", Some(1)),
            (b"{\"id\":1,\"id\":1,\"method\":\"b\"}", None),
            (b"{\"id\":1,\"method\":\"\xff\"}", None),
            (b"{\"id\":1,\"method\":\"m\"} x", None),
            (deep.as_bytes(), Some(1)),
            (edge.as_bytes(), Some(1)),
        ] {
            let error = Message::parse(line).unwrap_err();
            assert_eq!(error.id, id.map(Id::Number), "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn v1_03_brackets_inside_text_are_no_nesting() {
        let line = format!(r#"{{"id":1,"method":"m","params":["{}\"["]}}"#, "[{".repeat(40));
        assert_eq!(request(&line).params.list().unwrap().len(), 1);
    }

    #[test]
    fn params_are_read_as_texts_or_as_any_list() {
        let texts = |line| request(line).params.texts::<3>();
        assert_eq!(
            texts(r#"{"method":"m","params":["a","\u0062"]}"#).unwrap(),
            [Some("a".into()), Some("b".into()), None]
        );
        assert_eq!(texts(r#"{"method":"m","params":["a","b","c",4,{}]}"#).unwrap()[2], Some("c".into()));
        for bad in [
            r#"{"method":"m","params":["a",5]}"#,
            r#"{"method":"m","params":["a",null]}"#,
            r#"{"method":"m","params":{"a":"b"}}"#,
            r#"{"method":"m","params":"a"}"#,
            r#"{"method":"m"}"#,
            r#"{"method":"m","params":["\udfff"]}"#,
        ] {
            assert!(texts(bad).is_err(), "{bad}");
        }
        let list = |line| request(line).params.list();
        assert_eq!(list(r#"{"method":"m"}"#).unwrap(), Vec::<Value>::new());
        assert_eq!(list(r#"{"method":"m","params":512}"#).unwrap(), [Value::from(512)]);
        assert_eq!(list(r#"{"method":"m","params":{"a":1}}"#).unwrap().len(), 1);
        assert!(list(r#"{"method":"m","params":[1e999]}"#).is_err());
    }

    proptest! {
        #[test]
        fn n02_no_line_panics(line: Vec<u8>) {
            let _ = Message::parse(&line);
        }

        #[test]
        fn n02_no_json_like_line_panics(line in r#"[{}\[\]",:0-9a-z\\u]{0,60}"#) {
            let _ = Message::parse(format!("{{\"id\":1,\"method\":\"m\",\"params\":{line}}}").as_bytes());
            let _ = Message::parse(line.as_bytes());
        }
    }
}
