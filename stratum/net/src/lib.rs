//! Everything between sockets and sessions that the Sluice servers share.
//!
//! - [`acceptor`]: listeners, connection limits, hand-off to the least loaded shard; [`limits`]: who may connect
//! - [`handshake`]: V2 listeners, whose handshakes are done before a connection reaches a shard
//! - [`driver`]: one connection's life, socket ⇄ session; [`outbox`]: what waits to be sent to a peer
//! - [`shard`]: one thread with one single-threaded runtime, [`connections`]: those it owns, [`serve`]: its life;
//!   `fan_out`: who is told of new work when; [`priority`]: who goes before whom
//! - [`http`]: /health and /metrics; [`fetch`]: what others serve; [`outbound`]: encrypted connections to a server of others
//! - [`settings`]: layered settings that report every mistake at once; [`logging`]; [`metrics`];
//!   [`shutdown`]; [`clock`]; [`wake`]
//!
//! What this crate does not do: it has no rule by which a share is judged, makes no job and knows no payout. That is the
//! business of `stratum` and of the servers that own its sessions.
#![forbid(unsafe_code)]

pub mod acceptor;
pub mod clock;
pub mod connections;
pub mod driver;
mod fan_out;
pub mod fetch;
pub mod handshake;
pub mod http;
pub mod limits;
pub mod logging;
pub mod metrics;
pub mod outbound;
pub mod outbox;
pub mod pending;
pub mod priority;
pub mod serve;
pub mod settings;
pub mod shard;
pub mod shutdown;
pub mod wake;
