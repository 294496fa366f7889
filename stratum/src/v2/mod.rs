//! Stratum V2: binary messages in encrypted frames.
//!
//! - [`codec`]: data types; [`message`]: the table of messages, [`error_code`] and [`flag`]: the words in them
//! - [`keys`]: who a server is and who vouches for it; [`noise`]: the handshake and the encrypted transport
//! - [`frame`]: the header before each payload, and what a session takes, skips or ends at
//! - [`extension`]: what is beyond that table
//! - `encode`: jobs as frames; [`server`] and [`client`]: the two sides of a connection
//!
//! Known are the common messages and the mining protocol, and to a server that offers it one extension. Job declaration,
//! template distribution and every other extension are not: their frames are judged by their header alone.

pub mod client;
pub mod codec;
pub(crate) mod encode;
pub mod error_code;
pub mod extension;
pub mod flag;
pub mod frame;
mod frames;
pub mod keys;
pub mod message;
pub mod noise;
pub mod server;
