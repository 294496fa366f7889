//! What a server is given to serve with.

use crate::session::Host;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::File;
use std::net::TcpListener;
use stratum::v2::keys::AuthorityKey;

/// Sockets, words and a file.
pub struct Setup {
    /// Of V1, of V2: they do not block, and what is sent to whom they accept is not held back.
    pub listeners: [TcpListener; 2],
    /// A line of it is a new tip; its end is the server's.
    pub input: File,
    /// Who speaks.
    pub host: Host,
}

impl Setup {
    /// Listens on loopback; gives what clients connect to, too.
    ///
    /// # Errors
    /// The machine gives no sockets.
    pub fn new(input: File, coinbase_bytes: usize) -> anyhow::Result<(Self, [String; 2])> {
        let (host, authority): (Host, AuthorityKey) = Host::new(coinbase_bytes)?;
        let listeners = [listen()?, listen()?];
        let [v1, v2] = [listeners[0].local_addr()?, listeners[1].local_addr()?];
        let urls = [format!("stratum+tcp://{v1}"), format!("stratum2+tcp://{v2}/{authority}")];
        Ok((Self { listeners, input, host }, urls))
    }
}

fn listen() -> std::io::Result<TcpListener> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    // Accepted sockets are as their listener is.
    rustix::net::sockopt::set_tcp_nodelay(&listener, true)?;
    Ok(listener)
}

/// Opens as many files as the machine lets this process; gives their number.
pub fn raise_file_limit() -> u64 {
    let maximum = getrlimit(Resource::Nofile).maximum;
    // If it stays as it is, connections beyond it are refused.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
