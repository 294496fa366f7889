//! What waits to be sent to one peer, bounded.

use bytes::{Buf, Bytes};
use std::collections::VecDeque;
use std::io::IoSlice;
use stratum::extranonce::Extranonce1;
use stratum::session::JobMessage;
use stratum::v2::frame::HEADER_BYTES;
use stratum::v2::noise::{NonceExhausted, Sealer};

/// Bytes of a peer's own (replies, small notices) that may wait; shared job bytes do not count.
pub const OWN_BYTES_MAX: usize = 64 * 1024;
/// Pieces gathered into one write.
const PIECES_PER_WRITE: usize = 64;
/// Frames are sealed for one write until there are this many bytes of them.
const SEALED_BYTES_PER_WRITE: usize = 16 * 1024;

/// The peer does not read what it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {OWN_BYTES_MAX} bytes wait for a peer that does not read")]
pub struct OutboxFull;

/// Messages to one peer, in order. At most one job for each of its miners waits: a newer one takes the place of the
/// older. Frames are sealed only when they are about to be written, for sealed ones can be neither replaced nor left
/// out.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Pieces of messages that are being written; may end inside a message.
    writing: VecDeque<Bytes>,
    waiting: VecDeque<Message>,
    own_bytes: usize,
    /// For a peer that speaks V2.
    sealer: Option<Sealer>,
}

#[derive(Debug)]
enum Message {
    Own(Bytes),
    Job(JobMessage),
}

impl Outbox {
    /// An outbox for a peer that reads frames sealed by `sealer`; the default one is for a peer that reads lines.
    pub fn sealed(sealer: Sealer) -> Self {
        Self { sealer: Some(sealer), ..Self::default() }
    }

    /// Queues bytes of the peer's own: whole lines, or one plain frame.
    ///
    /// # Errors
    /// [`OutboxFull`]: the peer is to be closed.
    pub fn send(&mut self, bytes: Bytes) -> Result<(), OutboxFull> {
        if self.own_bytes + bytes.len() > OWN_BYTES_MAX {
            return Err(OutboxFull);
        }
        self.own_bytes += bytes.len();
        self.waiting.push_back(Message::Own(bytes));
        Ok(())
    }

    /// Queues a job; one to the same miner that still waits is replaced, at the place of the newer.
    pub fn send_job(&mut self, mut job: JobMessage) {
        let older = self.waiting.iter().position(|message| match message {
            Message::Job(older) => job.absorb(older),
            Message::Own(_) => false,
        });
        if let Some(at) = older {
            self.waiting.remove(at);
        }
        self.waiting.push_back(Message::Job(job));
    }

    /// Leaves out the job that waits for a channel which was closed, told by its prefix (MN-15).
    pub fn forget(&mut self, closed: Extranonce1) {
        self.waiting.retain(|message| match message {
            Message::Job(JobMessage::V2(job)) => job.prefix() != closed,
            Message::Job(JobMessage::V1(_)) | Message::Own(_) => true,
        });
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.writing.is_empty() && self.waiting.is_empty()
    }

    /// The next pieces to write, as many as one write takes.
    ///
    /// # Errors
    /// The connection's key may seal nothing more: the peer is to be closed, and connects anew.
    pub fn slices<'a>(&'a mut self, slices: &mut Vec<IoSlice<'a>>) -> Result<(), NonceExhausted> {
        match &mut self.sealer {
            Some(sealer) if self.writing.is_empty() => {
                self.writing.extend(seal(sealer, &mut self.waiting)?);
            }
            Some(_) => {}
            None => self.gather_lines(),
        }
        slices.extend(self.writing.iter().take(PIECES_PER_WRITE).map(|piece| IoSlice::new(piece)));
        Ok(())
    }

    fn gather_lines(&mut self) {
        while self.writing.len() < PIECES_PER_WRITE {
            match self.waiting.pop_front() {
                Some(Message::Own(bytes)) => self.writing.push_back(bytes),
                Some(Message::Job(JobMessage::V1(job))) => {
                    let mut pieces = Vec::with_capacity(5);
                    job.write_to(&mut pieces);
                    self.writing.extend(pieces);
                }
                Some(Message::Job(JobMessage::V2(_))) => unreachable!("a V1 session makes V1 jobs"),
                None => break,
            }
        }
    }

    /// Takes off what has been written.
    pub fn written(&mut self, mut bytes: usize) {
        while bytes > 0 {
            let piece = self.writing.front_mut().expect("no more is written than was offered");
            let taken = bytes.min(piece.len());
            piece.advance(taken);
            bytes -= taken;
            if piece.is_empty() {
                self.writing.pop_front();
            }
        }
        if self.writing.is_empty() {
            // Own bytes and job bytes mix in `writing`; with all of it gone, only what waits counts.
            self.own_bytes = self.waiting.iter().map(Message::own_bytes).sum();
            if self.waiting.is_empty() {
                // An idle peer holds no buffer.
                self.writing = VecDeque::new();
                self.waiting = VecDeque::new();
            }
        }
    }
}

impl Message {
    fn own_bytes(&self) -> usize {
        match self {
            Self::Own(bytes) => bytes.len(),
            Self::Job(_) => 0,
        }
    }
}

/// Seals what waits, up to one write's worth.
fn seal(sealer: &mut Sealer, waiting: &mut VecDeque<Message>) -> Result<Option<Bytes>, NonceExhausted> {
    let (mut sealed, mut plain) = (Vec::new(), Vec::new());
    while sealed.len() < SEALED_BYTES_PER_WRITE
        && let Some(message) = waiting.pop_front()
    {
        match message {
            Message::Own(frame) => seal_frame(sealer, &frame, &mut sealed)?,
            Message::Job(JobMessage::V2(job)) => {
                let mut done = Ok(());
                job.frames(&mut plain, |frame| {
                    done = done.and_then(|()| seal_frame(sealer, frame, &mut sealed));
                });
                done?;
            }
            Message::Job(JobMessage::V1(_)) => unreachable!("a V2 session makes V2 jobs"),
        }
    }
    Ok((!sealed.is_empty()).then(|| sealed.into()))
}

fn seal_frame(sealer: &mut Sealer, frame: &[u8], sealed: &mut Vec<u8>) -> Result<(), NonceExhausted> {
    let (header, payload) =
        frame.split_first_chunk::<HEADER_BYTES>().expect("a frame starts with its header");
    sealer.seal(header, payload, sealed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::BlockHash;
    use bitcoin::hashes::Hash;
    use std::sync::Arc;
    use stratum::class::SizeClass;
    use stratum::encoded::EncodedJob;
    use stratum::job::{Basis, Coinbase, JobBody, JobId, MARK_BYTES, Payout, TemplateId, Transactions};
    use stratum::pot::Pot;
    use stratum::target::Target;
    use stratum::v1::encode;

    fn job(id: u32, difficulty: Option<i8>, clean: bool) -> JobMessage {
        let payout = Payout {
            outputs: Vec::new(),
            basis: Basis::Solo { script: bitcoin::ScriptBuf::new(), log_size: 0 },
        };
        let body = JobBody {
            template: TemplateId(1),
            height: 1,
            version: 0x2000_0000,
            prev_hash: BlockHash::all_zeros(),
            nbits: 0x207f_ffff,
            network_target: Target::from_nbits(0x207f_ffff).unwrap(),
            hardest_share: Target::from_nbits(0x207f_ffff).unwrap(),
            ntime_min: 0,
            ntime: 0,
            coinbase: Coinbase::new(Bytes::from(vec![0; 100]), 40),
            merkle_branch: Vec::new(),
            class: SizeClass::B755,
            out_bytes: 0,
            payout: Arc::new(payout),
            transactions: Transactions::default(),
        };
        JobMessage::V1(encode::JobMessage {
            difficulty: difficulty.map(|pot| Pot::try_from(pot).unwrap()),
            id: JobId(id),
            encoded: Arc::new(EncodedJob::new(Arc::new(body))),
            mark: Some([0; MARK_BYTES]),
            clean,
        })
    }

    /// Everything that waits, taken `step` bytes at a time.
    fn drain(outbox: &mut Outbox, step: usize) -> String {
        let mut text = Vec::new();
        while !outbox.is_empty() {
            let mut slices = Vec::new();
            outbox.slices(&mut slices).unwrap();
            let offered: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            let taken = step.min(offered.len());
            text.extend_from_slice(&offered[..taken]);
            outbox.written(taken);
        }
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn messages_leave_in_order_however_little_the_socket_takes() {
        for step in [1, 7, 100_000] {
            let mut outbox = Outbox::default();
            outbox.send(Bytes::from_static(b"first\n")).unwrap();
            outbox.send_job(job(10, Some(3), true));
            outbox.send(Bytes::from_static(b"last\n")).unwrap();
            let text = drain(&mut outbox, step);
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!(lines.len(), 4, "{text}");
            assert_eq!((lines[0], lines[3]), ("first", "last"));
            assert!(lines[1].contains("set_difficulty") && lines[1].contains("[8]"));
            assert!(lines[2].contains(r#""a","#) && lines[2].ends_with("true]}"));
        }
    }

    #[test]
    fn n07_a_newer_job_replaces_one_that_waits_and_keeps_what_it_had_to_say() {
        let mut outbox = Outbox::default();
        outbox.send_job(job(1, Some(5), true));
        outbox.send_job(job(2, None, false));
        let text = drain(&mut outbox, 1000);
        assert_eq!(text.matches("mining.notify").count(), 1);
        assert!(text.contains("set_difficulty") && text.contains("[32]"), "{text}");
        assert!(text.contains(r#"["2","#) && text.ends_with("true]}\n"), "{text}");
    }

    #[test]
    fn n07_a_job_whose_first_byte_is_out_is_finished_before_the_next() {
        let mut outbox = Outbox::default();
        outbox.send_job(job(1, None, true));
        let mut slices = Vec::new();
        outbox.slices(&mut slices).unwrap();
        outbox.written(1);
        outbox.send_job(job(2, None, false));
        let text = drain(&mut outbox, 1000);
        assert_eq!(text.lines().count(), 2);
        assert!(text.ends_with("false]}\n"));
    }

    #[test]
    fn n07_own_bytes_are_bounded_and_room_comes_back() {
        let mut outbox = Outbox::default();
        let line = Bytes::from(vec![b'x'; 1024]);
        for _ in 0..OWN_BYTES_MAX / 1024 {
            outbox.send(line.clone()).unwrap();
        }
        assert_eq!(outbox.send(line.clone()), Err(OutboxFull));
        // Jobs do not count: they are shared.
        outbox.send_job(job(1, None, true));
        drain(&mut outbox, 10_000);
        assert_eq!(outbox.send(line), Ok(()));
    }
}
