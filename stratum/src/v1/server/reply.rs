//! Replies in the order of their requests: some machines use one id for every share (I14).

use crate::fault::Fault;
use crate::session::{Action, Ticket};
use crate::share::Reject;
use crate::v1::message::{Id, code};
use std::collections::VecDeque;
use std::fmt::{Display, Write as _};

/// Requests of one connection that may wait for their answer; with one more it is closed.
pub const UNANSWERED_MAX: usize = 1_024;
/// Capacity that an empty queue may keep.
const IDLE_CAPACITY: usize = 8;

#[derive(Debug)]
enum Slot {
    /// Waits for the share's verdict.
    Waiting(Option<Id>),
    /// Its share is accepted; it waits for those before it.
    Accepted(Option<Id>),
    /// Lines that wait for those before them.
    Lines(String),
}

/// Holds back what may not leave yet.
#[derive(Debug, Default)]
pub(super) struct Replies {
    /// Number of the first slot.
    first: u64,
    slots: VecDeque<Slot>,
    /// May leave now.
    ready: String,
}

impl Replies {
    /// Puts complete lines behind all earlier replies.
    pub(super) fn push(&mut self, lines: String) -> Result<(), Fault> {
        if lines.is_empty() {
            // Nobody waits for it.
        } else if !self.slots.is_empty() {
            self.enqueue(Slot::Lines(lines))?;
        } else if self.ready.is_empty() {
            self.ready = lines;
        } else {
            self.ready.push_str(&lines);
        }
        Ok(())
    }

    /// Reserves the place of a share's reply.
    pub(super) fn wait(&mut self, id: Option<Id>) -> Result<Ticket, Fault> {
        let ticket = Ticket(self.first + self.slots.len() as u64); // usize is at most 64 bits
        self.enqueue(Slot::Waiting(id))?;
        Ok(ticket)
    }

    fn enqueue(&mut self, slot: Slot) -> Result<(), Fault> {
        if self.slots.len() >= UNANSWERED_MAX {
            return Err(Fault::TooFast);
        }
        self.slots.push_back(slot);
        Ok(())
    }

    /// Fills a place; what is no longer held back becomes ready.
    pub(super) fn answer(&mut self, ticket: Ticket, answer: Result<(), Reject>) {
        let at = ticket.0.checked_sub(self.first).map(|at| at as usize); // below UNANSWERED_MAX
        let Some(place @ Slot::Waiting(_)) = at.and_then(|at| self.slots.get_mut(at)) else {
            panic!("a ticket is answered once, by its session")
        };
        let Slot::Waiting(id) = std::mem::replace(place, Slot::Accepted(None)) else { unreachable!() };
        match answer {
            Ok(()) => *place = Slot::Accepted(id),
            Err(reject) => *place = Slot::Lines(error(id.as_ref(), code::of(reject), reject)),
        }
        while let Some(slot) = self.slots.pop_front_if(|slot| !matches!(slot, Slot::Waiting(_))) {
            match slot {
                Slot::Accepted(Some(id)) => write_accepted(&mut self.ready, &id),
                Slot::Lines(lines) => self.ready.push_str(&lines),
                Slot::Accepted(None) | Slot::Waiting(_) => {}
            }
            self.first += 1;
        }
        if self.slots.is_empty() && self.slots.capacity() > IDLE_CAPACITY {
            self.slots = VecDeque::new();
        }
    }

    /// Bytes of heap that the queue holds.
    #[cfg(test)]
    pub(super) fn idle_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>() + self.ready.capacity()
    }

    /// Hands over what may leave.
    pub(super) fn flush(&mut self, out: &mut Vec<Action>) {
        if !self.ready.is_empty() {
            out.push(Action::Send(std::mem::take(&mut self.ready).into()));
        }
    }
}

/// The response to an accepted share, of all lines the one that is written most often.
fn write_accepted(ready: &mut String, id: &Id) {
    const PARTS: [&str; 2] = [r#"{"id":"#, ",\"result\":true,\"error\":null}\n"];
    if ready.is_empty() {
        // A buffer without room to spare is sent as it is.
        ready.reserve_exact(PARTS[0].len() + id.json_bytes() + PARTS[1].len());
    }
    ready.push_str(PARTS[0]);
    write!(ready, "{id}").expect("writing to a String does not fail");
    ready.push_str(PARTS[1]);
}

/// A response with a result; nothing if nobody waits for one.
pub(super) fn result(id: Option<&Id>, json: impl Display) -> String {
    let mut line = String::new();
    if let Some(id) = id {
        writeln!(line, r#"{{"id":{id},"result":{json},"error":null}}"#)
            .expect("writing to a String does not fail");
    }
    line
}

/// A response with an error; nothing if nobody waits for one.
pub(super) fn error(id: Option<&Id>, code: i64, text: impl Display) -> String {
    let mut line = String::new();
    if let Some(id) = id {
        let text = serde_json::Value::String(text.to_string());
        writeln!(line, r#"{{"id":{id},"result":null,"error":[{code},{text},null]}}"#)
            .expect("writing to a String does not fail");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::message::Message;

    #[test]
    fn an_answer_that_is_sent_alone_takes_a_buffer_of_just_its_size() {
        for id in
            ["null", "0", "9", "10", "18446744073709551615", "\"7\"", "\"an id that is kept elsewhere\""]
        {
            let line = format!(r#"{{"id":{id},"method":"m"}}"#);
            let Ok(Message::Request(request)) = Message::parse(line.as_bytes()) else { panic!("{line}") };
            let mut replies = Replies::default();
            let ticket = replies.wait(request.id).unwrap();
            replies.answer(ticket, Ok(()));
            assert_eq!(replies.ready, format!("{{\"id\":{id},\"result\":true,\"error\":null}}\n"));
            assert_eq!(replies.ready.capacity(), replies.ready.len());
        }
    }
}
