//! Our Stratum V2 against the reference implementation's crates, without sockets: what one side
//! writes the other reads as the same, and what one side refuses the other refuses.
//!
//! - [`messages`]: payloads and frame headers; [`noise`]: handshake and transport, in both roles; [`codec`]: whole
//!   frames over such a transport, of any length; [`shares`]: the verdicts on shares
#![forbid(unsafe_code)]

mod codec;
mod messages;
mod noise;
mod shares;
