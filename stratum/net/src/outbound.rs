//! Encrypted connections to a server of others: name, socket, handshake.

use crate::acceptor::prepare;
use crate::clock;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use stratum::v2::keys::{AuthorityKey, KeyError};
use stratum::v2::noise::{ACT2_BYTES, Authority, EPHEMERAL_BYTES, HandshakeError, Initiator, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// What an address has before the next one of the same name is tried beside it (RFC 8305).
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

/// How long the other side's TCP may leave unconfirmed what we send.
const UNHEARD_MAX: Duration = Duration::from_secs(10);

/// A V2 server, written `stratum2+tcp://HOST:PORT/KEY` with the key of the authority that vouches for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Who vouches for it.
    pub authority: AuthorityKey,
}

/// Text that names no server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// Not of the form of a V2 URL.
    #[error("write it as stratum2+tcp://HOST:PORT/KEY")]
    Form,
    /// Another protocol.
    #[error("it is spoken to over Stratum V2 only: write it as stratum2+tcp://HOST:PORT/KEY")]
    Scheme,
    /// Nobody vouches for it.
    #[error(
        "the authority's key is missing: write it as stratum2+tcp://HOST:PORT/KEY, with the key that the pool gives out"
    )]
    NoKey,
    /// A key that is none.
    #[error("its key is wrong: {0}")]
    Key(#[from] KeyError),
}

impl std::str::FromStr for Server {
    type Err = ServerError;

    fn from_str(text: &str) -> Result<Self, ServerError> {
        let (scheme, rest) = text.split_once("://").ok_or(ServerError::Form)?;
        if !matches!(scheme, "stratum2+tcp" | "stratum+sv2") {
            return Err(ServerError::Scheme);
        }
        let (place, key) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = place.rsplit_once(':').ok_or(ServerError::Form)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(ServerError::Form)?;
        if host.is_empty() {
            return Err(ServerError::Form);
        }
        if key.is_empty() {
            return Err(ServerError::NoKey);
        }
        Ok(Self { host: host.to_owned(), port, authority: key.parse()? })
    }
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Why there is no connection. No credentials were sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The name has no address, or no address answers.
    #[error("cannot connect: {0}")]
    Unreachable(#[source] io::Error),
    /// The connection ended during the handshake.
    #[error("no handshake: {0}")]
    Cut(#[source] io::Error),
    /// The server is not who it should be, or its certificate is no good now.
    #[error(transparent)]
    Refused(#[from] HandshakeError),
    /// It took too long.
    #[error("no handshake within {} s", .0.as_secs())]
    TooLate(Duration),
}

/// Connects and shakes hands.
///
/// # Errors
/// Why there is no connection, within this time.
pub async fn connect(server: &Server, within: Duration) -> Result<(TcpStream, Transport), ConnectError> {
    let connected = tokio::time::timeout(within, shake_hands(server)).await;
    connected.unwrap_or(Err(ConnectError::TooLate(within)))
}

async fn shake_hands(server: &Server) -> Result<(TcpStream, Transport), ConnectError> {
    // Asked anew each time: what a name stands for changes.
    let addresses = tokio::net::lookup_host((server.host.as_str(), server.port)).await;
    let addresses: Vec<SocketAddr> = addresses.map_err(ConnectError::Unreachable)?.collect();
    let mut stream = first_to_answer(addresses).await.map_err(ConnectError::Unreachable)?;
    prepare(&stream).and_then(|()| watch(&stream)).map_err(ConnectError::Cut)?;
    let mut ephemeral = [0; EPHEMERAL_BYTES];
    rand::fill(&mut ephemeral);
    let (initiator, act1) = Initiator::new(ephemeral, Authority::Pinned(server.authority));
    stream.write_all(&act1).await.map_err(ConnectError::Cut)?;
    let mut act2 = [0; ACT2_BYTES];
    stream.read_exact(&mut act2).await.map_err(ConnectError::Cut)?;
    let transport = initiator.finish(&act2, clock::unix_s())?;
    Ok((stream, transport))
}

/// A network that swallows everything is noticed soon: many wait for this one connection.
fn watch(stream: &TcpStream) -> io::Result<()> {
    let socket = socket2::SockRef::from(stream);
    let keepalive = socket2::TcpKeepalive::new().with_time(UNHEARD_MAX / 2).with_interval(UNHEARD_MAX / 4);
    socket.set_tcp_keepalive(&keepalive)?;
    // Both for probes and for what was sent.
    socket.set_tcp_user_timeout(Some(UNHEARD_MAX))
}

/// Tries addresses beside each other, each with a small head start over the next (N18).
async fn first_to_answer(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut attempts = JoinSet::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let mut addresses = addresses.into_iter();
    loop {
        let more = addresses.next().map(|address| attempts.spawn(TcpStream::connect(address))).is_some();
        let ended = if more {
            tokio::time::timeout(NEXT_ADDRESS_AFTER, attempts.join_next()).await.ok().flatten()
        } else {
            attempts.join_next().await
        };
        match ended {
            Some(Ok(Ok(stream))) => return Ok(stream),
            Some(Ok(Err(error))) => last = error,
            Some(Err(panicked)) => last = io::Error::other(panicked),
            None if !more => return Err(last),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stratum::v2::keys::AuthoritySecret;
    use tokio::net::TcpListener;

    fn key() -> AuthorityKey {
        AuthoritySecret::from_bytes([1; 32]).unwrap().public()
    }

    #[test]
    fn ns_14_servers_are_read_with_their_keys_and_mistakes_are_told_apart() {
        let good: Server = format!("stratum2+tcp://pool.example:3336/{}", key()).parse().unwrap();
        assert_eq!((good.to_string().as_str(), good.authority), ("pool.example:3336", key()));
        let v6: Server = format!("stratum2+tcp://[::1]:3336/{}", key()).parse().unwrap();
        assert_eq!(v6.host, "::1");
        for (text, error) in [
            ("pool.example:3336", ServerError::Form),
            ("stratum2+tcp://pool.example", ServerError::Form),
            ("stratum2+tcp://:3336/x", ServerError::Form),
            ("stratum2+tcp://pool.example:0/x", ServerError::Form),
            ("stratum+tcp://pool.example:3333", ServerError::Scheme),
            ("stratum2+tcp://pool.example:3336", ServerError::NoKey),
            ("stratum2+tcp://pool.example:3336/", ServerError::NoKey),
        ] {
            assert_eq!(text.parse::<Server>(), Err(error), "{text}");
        }
        let typo = format!("stratum2+tcp://pool.example:3336/{}x", key());
        assert!(matches!(typo.parse::<Server>(), Err(ServerError::Key(_))));
    }

    #[tokio::test]
    async fn n18_a_dead_address_does_not_hold_up_the_next() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let alive = listener.local_addr().unwrap();
        // A port that nobody listens on.
        let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let stream = first_to_answer(vec![dead, alive]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), alive);
        assert!(first_to_answer(vec![dead]).await.is_err());
        assert!(first_to_answer(Vec::new()).await.is_err());
    }

    #[tokio::test]
    async fn n04_a_server_that_says_nothing_is_given_up_in_time() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Server { host: "127.0.0.1".to_owned(), port, authority: key() };
        let within = Duration::from_millis(50);
        assert!(matches!(connect(&server, within).await, Err(ConnectError::TooLate(_))));
    }
}
