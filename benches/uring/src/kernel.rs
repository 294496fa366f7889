//! All that is unsafe: the two queues, and the memory that the kernel reads and writes.
//!
//! Nothing of it is ever freed while the kernel may look at it. The ring and the buffers that it receives into are
//! leaked: a ring lives as long as its process. Bytes to send stand still in a slab until the kernel has answered for
//! them.

use crate::{Bytes, Setting};
use io_uring::types::{BufRingEntry, Fd, Fixed};
use io_uring::{CompletionQueue, IoUring, SubmissionQueue, Submitter, cqueue, opcode, squeue};
use rustix::net::SendFlags;
use slab::Slab;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU16, Ordering};

/// Entries that wait to be submitted; more of them are submitted in portions.
const SUBMISSIONS: u32 = 1_024;
/// Results that wait to be looked at; the kernel keeps what is beyond them.
const COMPLETIONS: u32 = 4_096;
/// The one group of buffers.
const GROUP: u16 = 0;

/// The ring.
pub struct Kernel {
    submitter: Submitter<'static>,
    submissions: SubmissionQueue<'static>,
    completions: CompletionQueue<'static>,
    /// Taken out of the queue and not looked at.
    seen: VecDeque<cqueue::Entry>,
    sends: Slab<Sending>,
    /// Sends among what is not submitted that will be answered for before the kernel waits.
    quick: usize,
    pub buffers: Buffers,
}

/// What the kernel was asked to send.
struct Sending {
    slot: u32,
    bytes: Bytes,
    sent: usize,
}

/// How a send went.
pub enum Sent {
    /// To this slot, all of it or as much as will ever go.
    Ended { slot: u32, whole: bool, bytes: Bytes },
    /// The socket is full: the rest follows when it has room.
    Later,
}

impl Kernel {
    pub fn new(setting: &Setting) -> io::Result<Self> {
        let ring = IoUring::builder()
            // Work for us is done when we wait, all at once, and nobody interrupts us for it.
            .setup_coop_taskrun()
            .setup_defer_taskrun()
            .setup_single_issuer()
            .setup_submit_all()
            .setup_no_sqarray()
            .setup_cqsize(COMPLETIONS)
            .build(SUBMISSIONS)?;
        let (mut submitter, submissions, completions) = Box::leak(Box::new(ring)).split();
        submitter.register_ring_fd()?;
        submitter.register_files_sparse(setting.slots)?;
        let buffers = Buffers::new(&submitter, setting)?;
        let (seen, sends) = (VecDeque::new(), Slab::new());
        Ok(Self { submitter, submissions, completions, seen, sends, quick: 0, buffers })
    }

    /// Submits all there is, and waits for at least one result that is not there yet.
    pub fn turn(&mut self) -> io::Result<()> {
        // Each quick send has a result before the kernel waits. Without counting them, that would end the wait.
        if self.seen.is_empty() { self.submit(self.quick + 1) } else { Ok(()) }
    }

    /// The next result.
    pub fn result(&mut self) -> Option<cqueue::Entry> {
        self.seen.pop_front()
    }

    pub fn accept(&mut self, listener: RawFd, tag: u64) -> io::Result<()> {
        let accept = opcode::AcceptMulti::new(Fd(listener)).allocate_file_index(true);
        self.push(&accept.build().user_data(tag))
    }

    pub fn watch(&mut self, file: RawFd, tag: u64) -> io::Result<()> {
        let readable = u32::from(rustix::event::PollFlags::IN.bits());
        self.push(&opcode::PollAdd::new(Fd(file), readable).multi(true).build().user_data(tag))
    }

    pub fn receive(&mut self, slot: u32, tag: u64) -> io::Result<()> {
        self.push(&opcode::RecvMulti::new(Fixed(slot), GROUP).build().user_data(tag))
    }

    pub fn shutdown(&mut self, slot: u32, tag: u64) -> io::Result<()> {
        let both = 2; // SHUT_RDWR
        self.push(&opcode::Shutdown::new(Fixed(slot), both).build().user_data(tag))
    }

    pub fn close(&mut self, slot: u32, tag: u64) -> io::Result<()> {
        let close = opcode::Close::new(Fixed(slot)).build();
        self.push(&close.flags(squeue::Flags::SKIP_SUCCESS).user_data(tag))
    }

    /// Sends; `tag` is made of the number under which [`Self::sent`] takes the result.
    pub fn send(&mut self, slot: u32, bytes: Bytes, tag: fn(u32) -> u64) -> io::Result<()> {
        let key = self.sends.insert(Sending { slot, bytes, sent: 0 });
        self.quick += 1;
        self.push_send(key, SendFlags::DONTWAIT, tag)
    }

    /// Takes the result of a send.
    pub fn sent(&mut self, number: u32, result: i32, tag: fn(u32) -> u64) -> io::Result<Sent> {
        let key = number as usize; // as it was given out
        let sending = &mut self.sends[key];
        let full = -rustix::io::Errno::AGAIN.raw_os_error();
        // Anything else that is negative is an error, of the connection.
        let Ok(sent) = usize::try_from(if result == full { 0 } else { result }) else {
            let Sending { slot, bytes, .. } = self.sends.remove(key);
            return Ok(Sent::Ended { slot, whole: false, bytes });
        };
        sending.sent += sent;
        if sending.sent < sending.bytes.len() {
            self.push_send(key, SendFlags::empty(), tag)?;
            return Ok(Sent::Later);
        }
        let Sending { slot, bytes, .. } = self.sends.remove(key);
        Ok(Sent::Ended { slot, whole: true, bytes })
    }

    fn push_send(&mut self, key: usize, patience: SendFlags, tag: fn(u32) -> u64) -> io::Result<()> {
        let Sending { slot, bytes, sent } = &self.sends[key];
        let left = &bytes[*sent..];
        let len = u32::try_from(left.len()).map_err(io::Error::other)?;
        // All at once, so that there is one result.
        let flags = patience | SendFlags::NOSIGNAL | SendFlags::from_bits_retain(0x100); // MSG_WAITALL
        let send = opcode::Send::new(Fixed(*slot), left.as_ptr(), len).flags(flags.bits().cast_signed());
        let tag = tag(u32::try_from(key).map_err(io::Error::other)?);
        self.push(&send.build().user_data(tag))
    }

    /// Every entry comes from above.
    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: The only entries with a pointer are those of `push_send`. It leads into bytes on the heap that
            // `sends` holds, and nobody changes or frees, until `sent` takes the one result of this entry: `Drop`
            // below lets them be. What the kernel receives into was registered, and is leaked.
            let pushed = unsafe { self.submissions.push(entry) };
            if pushed.is_ok() {
                return Ok(());
            }
            self.submit(0)?;
        }
    }

    fn submit(&mut self, wanted: usize) -> io::Result<()> {
        self.submissions.sync();
        match self.submitter.submit_and_wait(wanted) {
            // Both tell to look at results first.
            Err(error) if [ErrorKind::Interrupted, ErrorKind::ResourceBusy].contains(&error.kind()) => {}
            submitted => {
                submitted?;
                self.quick = 0;
            }
        }
        self.submissions.sync();
        self.completions.sync();
        self.seen.extend(&mut self.completions);
        Ok(())
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        std::mem::forget(std::mem::take(&mut self.sends));
    }
}

/// What the kernel receives into, as it needs it: a ring of buffers, all of one size.
pub struct Buffers {
    ring: *mut BufRingEntry,
    /// As many as the ring has entries, one after the other.
    memory: *mut u8,
    count: u16,
    buffer_bytes: usize,
    /// How many were ever given to the kernel, as it counts.
    given: u16,
}

/// Entries start where a page does, of whatever size pages are.
#[repr(C, align(65536))]
struct Entries([u8; 65_536]);

impl Buffers {
    fn new(submitter: &Submitter<'_>, setting: &Setting) -> io::Result<Self> {
        let Setting { buffers: count, buffer_bytes, .. } = *setting;
        let entries = usize::from(count);
        if !count.is_power_of_two() || entries * size_of::<BufRingEntry>() > size_of::<Entries>() {
            return Err(ErrorKind::InvalidInput.into());
        }
        let ring = Box::leak(Box::new(Entries([0; 65_536])));
        let ring: *mut BufRingEntry = (&raw mut *ring).cast();
        let memory = Box::leak(vec![0; entries * buffer_bytes].into_boxed_slice()).as_mut_ptr();
        let mut buffers = Self { ring, memory, count, buffer_bytes, given: 0 };
        // SAFETY: `count` entries fit into the ring's memory, which is aligned to a page and leaked.
        unsafe { submitter.register_buf_ring_with_flags(ring as u64, count, GROUP, 0)? };
        (0..count).for_each(|id| buffers.give(id));
        Ok(buffers)
    }

    /// What was received into a buffer that the kernel has handed over.
    pub fn lend(&mut self, id: u16, len: usize) -> &mut [u8] {
        assert!(id < self.count && len <= self.buffer_bytes, "the kernel hands over what it was given");
        // SAFETY: Within the memory, as asserted. The kernel leaves the buffer alone until `give`, which nobody calls
        // while the slice is borrowed from `self`.
        unsafe { std::slice::from_raw_parts_mut(self.memory.add(usize::from(id) * self.buffer_bytes), len) }
    }

    /// Hands a buffer to the kernel; it is not ours from then on.
    pub fn give(&mut self, id: u16) {
        let at = usize::from(self.given & (self.count - 1)); // a power of two
        self.given = self.given.wrapping_add(1);
        let len = u32::try_from(self.buffer_bytes).expect("a buffer is small");
        // SAFETY: `at` is within the ring. The kernel reads no entry that is not before the tail, and the tail, in the
        // first entry's unused field, is written last; it is aligned to two bytes.
        unsafe {
            let entry = &mut *self.ring.add(at);
            entry.set_addr(self.memory.add(usize::from(id) * self.buffer_bytes) as u64);
            entry.set_len(len);
            entry.set_bid(id);
            let tail = BufRingEntry::tail(self.ring).cast_mut();
            AtomicU16::from_ptr(tail).store(self.given, Ordering::Release);
        }
    }
}
