//! Stratum V1: one JSON object per line.
//!
//! - [`mod@line`]: the frame; [`message`]: names, ids, requests and responses
//! - [`submit_line`]: the quick way for a share
//! - [`encode`]: jobs as lines; [`server`]: the server's side of a connection; [`client`]: the miner's side
//!
//! Not offered: resuming a session by its id (`mining.subscribe`'s second parameter). A prefix that
//! rests after its connection is cheaper than a secret of 128 bits per connection.

pub mod client;
pub mod encode;
pub mod line;
pub mod message;
pub mod server;
pub mod submit_line;
