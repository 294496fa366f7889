//! Both ends of a Stratum connection at the least that they cost: one read and one write each time the other side has
//! said something, and no buffer while it is silent.
//!
//! - [`link`]: a socket, and what is left over of a read or a write
//! - [`frames`]: sealed frames, opened where they were read
//!
//! The program of this crate is a server that stands on them and judges nothing; the load generator stands on them too,
//! so that it costs less than what it measures. There is no protection against a hostile peer here.
#![forbid(unsafe_code)]

pub mod frames;
pub mod link;
