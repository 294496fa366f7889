//! One line of an upstream: a notification or request, or a response to one of ours.

use crate::v1::message::ID_BYTES_MAX;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// Longest text of an upstream that is shown or logged, in bytes.
pub const TEXT_BYTES_MAX: usize = 256;

/// A parsed line. What is inside stays raw until its place is known.
#[derive(Debug)]
pub(super) enum Message<'a> {
    /// The upstream tells or asks; the id, to be echoed, is there if it wants an answer.
    Call { method: Cow<'a, str>, id: Option<&'a RawValue>, params: &'a RawValue },
    /// The upstream answers our request `id`; `None` if that is no id that we could have sent.
    Response { id: Option<u64>, outcome: Result<&'a RawValue, Refusal> },
}

/// Why an upstream refused a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The number, where one was given: 20–25 in the field.
    pub code: Option<i64>,
    /// The text, made safe to show: at most [`TEXT_BYTES_MAX`] bytes, no control characters.
    pub text: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "{code} {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// `null` and absent are the same here: an `Option` of a raw value is `None` for both.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

impl<'a> Message<'a> {
    /// Parses a line without its end; `None` if it is no JSON object, or neither call nor response.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        let Line { id, method, params, result, error } = serde_json::from_slice(line).ok()?;
        if let Some(method) = method {
            let id = id.filter(|id| id.get().len() <= ID_BYTES_MAX && !id.get().starts_with(['{', '[']));
            return Some(Self::Call { method, id, params: params.unwrap_or(RawValue::NULL) });
        }
        let outcome = match (result, error) {
            // An error of `false` says nothing (V1-05: be liberal).
            (_, Some(error)) if error.get() != "false" => Err(Refusal::parse(error)),
            (Some(result), _) if result.get() != "false" => Ok(result),
            (None, None) if id.is_none() => return None,
            _ => Err(Refusal { code: None, text: "refused without a reason".to_owned() }),
        };
        // We send numbers; some servers give them back as strings.
        let id = id.and_then(|id| id.get().trim_matches('"').parse().ok());
        Some(Self::Response { id, outcome })
    }
}

impl Refusal {
    /// Reads whatever stands in `error`: `[code, text, …]`, `{code, message}`, a string, a number (V1-05).
    fn parse(error: &RawValue) -> Self {
        let (code, text) = match serde_json::from_str(error.get()) {
            Ok(Value::Array(items)) => (items.first().cloned(), items.get(1).cloned()),
            Ok(Value::Object(mut fields)) => (fields.remove("code"), fields.remove("message")),
            Ok(code @ Value::Number(_)) => (Some(code), None),
            Ok(text @ Value::String(_)) => (None, Some(text)),
            _ => (None, None),
        };
        let code = code.as_ref().and_then(Value::as_i64);
        let text = match text.as_ref().and_then(Value::as_str) {
            Some(text) => printable(text),
            None => printable(error.get()),
        };
        Self { code, text }
    }
}

/// Text of a peer made safe for a log or a terminal: escaped, and cut at [`TEXT_BYTES_MAX`].
pub(super) fn printable(raw: &str) -> String {
    let mut text = String::new();
    for character in raw.chars() {
        let before = text.len();
        // Quotes and backslashes are harmless; control and direction characters are not.
        match character {
            '"' | '\'' | '\\' => text.push(character),
            other => text.extend(other.escape_debug()),
        }
        if text.len() > TEXT_BYTES_MAX {
            text.truncate(before);
            break;
        }
    }
    text
}

/// The items of a JSON array, still raw; `None` if it is no array or has more than `count_max`.
pub(super) fn items(raw: &RawValue, count_max: usize) -> Option<Vec<&RawValue>> {
    struct Items(usize);
    impl<'de> Visitor<'de> for Items {
        type Value = Vec<&'de RawValue>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "an array of at most {} items", self.0)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut items = Vec::new();
            while let Some(item) = seq.next_element()? {
                if items.len() == self.0 {
                    return Err(serde::de::Error::invalid_length(self.0 + 1, &self));
                }
                items.push(item);
            }
            Ok(items)
        }
    }
    serde_json::Deserializer::from_str(raw.get()).deserialize_seq(Items(count_max)).ok()
}

/// A JSON string.
pub(super) fn text(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}

/// A JSON number or boolean of exactly the type asked for.
pub(super) fn number<T: DeserializeOwned>(raw: &RawValue) -> Option<T> {
    serde_json::from_str(raw.get()).ok()
}

/// A string of hex digits, of either case, for at most `bytes_max` bytes.
pub(super) fn hex(raw: &RawValue, bytes_max: usize) -> Option<Vec<u8>> {
    use bitcoin::hex::FromHex;
    // Two digits a byte and two quotes: refuse what is too long before it is copied.
    if raw.get().len() > 2 * bytes_max + 2 {
        return None;
    }
    Vec::from_hex(&text(raw)?).ok()
}

/// Eight hex digits, most significant first.
pub(super) fn hex_u32(raw: &RawValue) -> Option<u32> {
    hex(raw, 4)?.try_into().ok().map(u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(line: &str) -> Refusal {
        match Message::parse(line.as_bytes()) {
            Some(Message::Response { id: Some(7), outcome: Err(refusal) }) => refusal,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn v1_05_errors_come_as_array_object_string_number_or_nothing() {
        for (error, code, text) in [
            (r#"[21, "job not found", null]"#, Some(21), "job not found"),
            (r#"[23, "low difficulty"]"#, Some(23), "low difficulty"),
            (r#"{"code": 22, "message": "duplicate", "traceback": null}"#, Some(22), "duplicate"),
            (r#""stale""#, None, "stale"),
            (r#"24"#, Some(24), "24"),
            (r#"[]"#, None, "[]"),
            (r#"["21", 5]"#, None, r#"["21", 5]"#),
            (r#"{"message": "no"}"#, None, "no"),
            (r#"true"#, None, "true"),
        ] {
            let line = format!(r#"{{"id":7,"result":null,"error":{error}}}"#);
            assert_eq!(refusal(&line), Refusal { code, text: text.to_owned() }, "{error}");
        }
        for line in [
            r#"{"id":7,"result":false,"error":null}"#,
            r#"{"id":7,"result":false}"#,
            r#"{"id":7,"result":null}"#,
            r#"{"id":7}"#,
        ] {
            assert_eq!(refusal(line).code, None, "{line}");
        }
    }

    #[test]
    fn results_are_taken_with_a_null_false_or_missing_error_and_ids_as_number_or_string() {
        for line in [
            r#"{"id":7,"result":true,"error":null}"#,
            r#"{"id":7,"result":true}"#,
            r#"{"id":"7","result":{"status":"OK"},"error":null}"#,
            r#"{"id":7,"result":true,"error":false,"jsonrpc":"2.0"}"#,
        ] {
            let message = Message::parse(line.as_bytes());
            assert!(matches!(message, Some(Message::Response { id: Some(7), outcome: Ok(_) })), "{line}");
        }
        for id in ["null", "-1", "1.5", "\"x\"", "[7]", "18446744073709551616"] {
            let line = format!(r#"{{"id":{id},"result":true}}"#);
            let message = Message::parse(line.as_bytes());
            assert!(matches!(message, Some(Message::Response { id: None, .. })), "{id}");
        }
    }

    #[test]
    fn n02_what_is_no_message_is_none() {
        let deep = format!("{{\"id\":{}", "[".repeat(100_000));
        for line in [
            "",
            "null",
            "[]",
            "{}",
            "{",
            "7",
            "\"x\"",
            r#"{"id":null}"#,
            r#"{"method":7}"#,
            &deep,
            r#"{"id":7,"id":8,"result":true}"#,
            r#"{"method":"\ud800"}"#,
            r#"{"id":7,"result":true}{"id":8}"#,
        ] {
            assert!(Message::parse(line.as_bytes()).is_none(), "{line:.60}");
        }
        assert!(Message::parse(b"{\"method\":\"\xff\"}").is_none());
        // Nesting that the parser refuses to enter is shown raw, cut.
        let deep = format!(r#"{{"id":7,"error":{}1{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(refusal(&deep).text.len(), TEXT_BYTES_MAX);
    }

    #[test]
    fn n11_text_of_a_peer_is_escaped_and_cut() {
        assert_eq!(printable("a\nb\u{1b}[31m\u{202e}\"c\""), "a\\nb\\u{1b}[31m\\u{202e}\"c\"");
        assert!(printable(&"\u{7}".repeat(10_000)).len() <= TEXT_BYTES_MAX);
        assert_eq!(printable(&"x".repeat(10_000)).len(), TEXT_BYTES_MAX);
    }

    #[test]
    fn ids_to_echo_are_short_scalars() {
        let long = format!("\"{}\"", "x".repeat(63));
        for (id, echoed) in
            [("5", true), ("\"a\"", true), ("null", false), ("[1]", false), ("{}", false), (&long, false)]
        {
            let line = format!(r#"{{"id":{id},"method":"mining.ping"}}"#);
            match Message::parse(line.as_bytes()) {
                Some(Message::Call { id, .. }) => assert_eq!(id.is_some(), echoed),
                other => panic!("{other:?}"),
            }
        }
    }
}
