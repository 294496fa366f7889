//! Lines out of a byte stream: the frame of Stratum V1.

use std::borrow::Cow;

/// Longest line that a miner may send, in bytes; real ones stay below 500.
pub const MINER_LINE_BYTES_MAX: usize = 8 * 1024;
/// Longest line that an upstream pool may send, in bytes: coinbase parts and branches are hex.
pub const UPSTREAM_LINE_BYTES_MAX: usize = 1024 * 1024;

/// A line grew beyond the limit. Nobody can be answered, for its id is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line is longer than {0} bytes")]
pub struct LineTooLong(pub usize);

/// Cuts a byte stream into lines; keeps the unfinished one and nothing else.
#[derive(Debug)]
pub struct Lines {
    partial: Vec<u8>,
    limit: usize,
}

impl Lines {
    /// Lines of at most `limit` bytes without their end.
    pub fn new(limit: usize) -> Self {
        Self { partial: Vec::new(), limit }
    }

    /// Takes the next complete line off the front of `bytes`, without its `\n` or `\r\n`.
    ///
    /// Empty lines are skipped. `None`: all of `bytes` is consumed and the next line is unfinished.
    ///
    /// # Errors
    /// [`LineTooLong`] as soon as the limit is passed, whether or not the line has an end.
    pub fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<Cow<'a, [u8]>>, LineTooLong> {
        while let Some(end) = newline(bytes) {
            let (piece, rest) = (&bytes[..end], &bytes[end + 1..]);
            *bytes = rest;
            let line = if self.partial.is_empty() {
                Cow::Borrowed(without_return(piece))
            } else {
                // The buffer leaves with its line: an idle connection keeps none.
                let mut line = std::mem::take(&mut self.partial);
                line.extend_from_slice(piece);
                line.truncate(without_return(&line).len());
                Cow::Owned(line)
            };
            if line.len() > self.limit {
                return Err(LineTooLong(self.limit));
            }
            if !line.is_empty() {
                return Ok(Some(line));
            }
        }
        // One byte more than the limit may still turn out to be the `\r` of a full line.
        if self.partial.len() + bytes.len() > self.limit + 1 {
            return Err(LineTooLong(self.limit));
        }
        self.partial.extend_from_slice(bytes);
        *bytes = &[];
        Ok(None)
    }

    /// Bytes of the unfinished line.
    pub fn pending(&self) -> usize {
        self.partial.len()
    }
}

/// Where the first newline is. Whole blocks are asked first: the compiler does that with vector instructions.
fn newline(bytes: &[u8]) -> Option<usize> {
    let (blocks, _) = bytes.as_chunks::<32>();
    let has_none = |block: &&[u8; 32]| !block.iter().fold(false, |found, byte| found | (*byte == b'\n'));
    let passed = 32 * blocks.iter().take_while(has_none).count();
    bytes[passed..].iter().position(|byte| *byte == b'\n').map(|at| passed + at)
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(limit: usize, pieces: &[&[u8]]) -> (Vec<Vec<u8>>, Result<(), LineTooLong>) {
        let (mut lines, mut found) = (Lines::new(limit), Vec::new());
        for piece in pieces {
            let mut bytes = *piece;
            loop {
                match lines.next(&mut bytes) {
                    Ok(Some(line)) => found.push(line.into_owned()),
                    Ok(None) => break,
                    Err(error) => return (found, Err(error)),
                }
            }
        }
        (found, Ok(()))
    }

    #[test]
    fn v1_01_lines_end_with_newline_or_return_newline_and_empty_ones_are_skipped() {
        let (found, end) = cut(10, &[b"\n\r\n{1}\r\n", b"{2", b"}\r", b"\n\n\n{3}\nrest"]);
        assert_eq!(found, [b"{1}", b"{2}", b"{3}"]);
        assert_eq!(end, Ok(()));
    }

    #[test]
    fn v1_02_a_line_may_be_as_long_as_the_limit_and_no_longer() {
        for full in [&b"1234567890\n"[..], b"1234567890\r\n"] {
            assert_eq!(cut(10, &[full]).0, [b"1234567890"]);
        }
        for long in [&b"12345678901\n"[..], b"12345678901\r\n", b"1234567890\r\r\n", b"123456789012"] {
            assert_eq!(cut(10, &[long]).1, Err(LineTooLong(10)), "{long:?}");
            let bytewise: Vec<_> = long.chunks(1).collect();
            assert_eq!(cut(10, &bytewise).1, Err(LineTooLong(10)), "{long:?}");
        }
    }

    #[test]
    fn n01_a_line_without_end_is_refused_before_it_is_stored() {
        let mut lines = Lines::new(100);
        let flood = vec![b'x'; 1 << 20];
        assert!(lines.next(&mut &flood[..]).is_err());
        assert!(lines.partial.capacity() <= 102);
    }

    #[test]
    fn an_idle_stream_holds_no_buffer() {
        let mut lines = Lines::new(100);
        assert!(lines.next(&mut &b"half a "[..]).unwrap().is_none());
        assert_eq!(lines.pending(), 7);
        assert_eq!(&*lines.next(&mut &b"line\n"[..]).unwrap().unwrap(), b"half a line");
        assert_eq!((lines.pending(), lines.partial.capacity()), (0, 0));
    }

    proptest! {
        #[test]
        fn v1_09_any_split_gives_the_same_lines(
            text in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), b'a'..b'f'], 0..200),
            sizes in proptest::collection::vec(1_usize..9, 200),
        ) {
            let mut rest = &text[..];
            let mut pieces = Vec::new();
            for size in sizes {
                let (piece, behind) = rest.split_at(size.min(rest.len()));
                pieces.push(piece);
                rest = behind;
            }
            prop_assert_eq!(cut(20, &pieces), cut(20, &[&text]));
        }
    }
}
