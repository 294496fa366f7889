//! The error codes that we send, each with its meaning here (spec 03 §3.5).
//!
//! The specification lists none; the names are those of the reference implementation where it has
//! one. What a peer sends is for logs only: no decision rests on it (ER-01).

use super::codec::Str255;
use std::fmt;

/// A code of ours: printable ASCII, short enough for its field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ErrorCode(&'static str);

impl ErrorCode {
    /// Checked when it is compiled: no control characters (ER-02), at most 255 bytes.
    const fn new(code: &'static str) -> Self {
        let bytes = code.as_bytes();
        assert!(!bytes.is_empty() && bytes.len() <= 255);
        let mut at = 0;
        while at < bytes.len() {
            assert!(bytes[at].is_ascii_graphic());
            at += 1;
        }
        Self(code)
    }

    /// The code as it stands on the wire.
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl From<ErrorCode> for Str255 {
    fn from(code: ErrorCode) -> Self {
        Self::from_static(code.0)
    }
}

macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        $($(#[$doc])* pub const $name: ErrorCode = ErrorCode::new($code);)*

        /// Every code once.
        pub const ALL: &[ErrorCode] = &[$($name),*];
    };
}

error_codes! {
    /// SetupConnection: a flag is set that this server does not offer; `flags` names all such.
    UNSUPPORTED_FEATURE_FLAGS = "unsupported-feature-flags";
    /// SetupConnection: this port serves another protocol.
    UNSUPPORTED_PROTOCOL = "unsupported-protocol";
    /// SetupConnection: the range of versions does not hold version 2.
    PROTOCOL_VERSION_MISMATCH = "protocol-version-mismatch";

    /// Opening a channel: nobody can be paid under this name.
    UNKNOWN_USER = "unknown-user";
    /// Opening a channel: the name cannot be read.
    INVALID_USER_IDENTITY = "invalid-user-identity";
    /// Opening or updating a channel: no share could be easy or hard enough for this target.
    MAX_TARGET_OUT_OF_RANGE = "max-target-out-of-range";
    /// Opening or updating a channel: the hash rate is negative or no number.
    INVALID_NOMINAL_HASHRATE = "invalid-nominal-hashrate";
    /// Opening an extended channel: more extranonce than the coinbase has room for.
    MIN_EXTRANONCE_SIZE_TOO_LARGE = "min-extranonce-size-too-large";
    /// Opening an extended channel: an extranonce of this size cannot be granted.
    UNSUPPORTED_MIN_EXTRANONCE_SIZE = "unsupported-min-extranonce-size";
    /// Opening a standard channel where the connection is for custom work.
    STANDARD_CHANNELS_NOT_SUPPORTED_FOR_CUSTOM_WORK = "standard-channels-not-supported-for-custom-work";
    /// Opening an extended channel where the connection asked for standard jobs.
    EXTENDED_CHANNELS_NOT_SUPPORTED_FOR_STANDARD_JOBS = "extended-channels-not-supported-for-standard-jobs";
    /// Opening a channel: all extranonce prefixes are taken.
    CHANNEL_CAPACITY_EXHAUSTED = "channel-capacity-exhausted";
    /// Opening a channel: this connection has as many as it may (ours).
    TOO_MANY_CHANNELS = "too-many-channels";
    /// Opening a channel: there is nothing to mine yet (ours).
    NO_JOB_AVAILABLE = "no-job-available";

    /// Any message on a channel: there is no such channel.
    INVALID_CHANNEL_ID = "invalid-channel-id";

    /// A share of a job that was never sent, or long ago.
    INVALID_JOB_ID = "invalid-job-id";
    /// A share of a job that a later one has voided.
    STALE_SHARE = "stale-share";
    /// A share whose hash is above its job's target.
    DIFFICULTY_TOO_LOW = "difficulty-too-low";
    /// A share that was sent before.
    DUPLICATE_SHARE = "duplicate-share";
    /// A share whose extranonce is not as long as the channel's.
    BAD_EXTRANONCE_SIZE = "bad-extranonce-size";
    /// A share with another version than its job's, which must not be rolled.
    VERSION_ROLLING_NOT_ALLOWED = "version-rolling-not-allowed";
    /// A share with a version bit changed that may not be (BIP 323).
    INVALID_NON_ROLLABLE_VERSION_BIT = "invalid-non-rollable-version-bit";
    /// A share that is refused for any other reason.
    INVALID_SHARE = "invalid-share";
    /// A share that could not be made durable; it may be sent again (ours).
    ACCOUNTING_UNAVAILABLE = "accounting-unavailable";
    /// A share too many since the last block: no more can be told apart (ours).
    TOO_MANY_SHARES = "too-many-shares";

    /// A custom job: this server does not take any.
    JD_NOT_SUPPORTED = "jd-not-supported";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn er_02_codes_are_distinct_words_without_control_characters() {
        let words: HashSet<_> = ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(words.len(), ALL.len());
        for code in ALL {
            assert!(code.as_str().bytes().all(|byte| byte == b'-' || byte.is_ascii_lowercase()), "{code}");
            assert_eq!(Str255::from(*code).to_string(), code.as_str());
        }
    }
}
