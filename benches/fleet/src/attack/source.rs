//! Where the attacker comes from.

use anyhow::ensure;
use socket2::{Domain, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// The first of loopback's addresses that are used, and how many: not those that others use.
const FIRST: u32 = u32::from_be_bytes([127, 1, 0, 0]);
const ADDRESSES: u32 = 200 << 16;
/// Bytes, and of a segment, for a peer that is to be hard to tell anything.
const NARROW: (usize, u32) = (4_096, 536);

/// Makes connections to a server.
#[derive(Debug)]
pub struct Source {
    server: SocketAddr,
    from: Option<Ipv4Addr>,
    used: u32,
}

impl Source {
    /// From one address, or from all of loopback.
    ///
    /// # Errors
    /// The server is not on this machine's loopback.
    pub fn new(server: SocketAddr, from: Option<Ipv4Addr>) -> anyhow::Result<Self> {
        ensure!(
            server.is_ipv4() && server.ip().is_loopback(),
            "{server} is not attacked: only servers at 127.0.0.1"
        );
        Ok(Self { server, from, used: 0 })
    }

    /// Begins a connection. It may not be made yet.
    ///
    /// # Errors
    /// The system refuses it, or the server.
    pub fn connect(&mut self) -> io::Result<TcpStream> {
        self.begin(None)
    }

    /// The same, with as little room as there can be for what the server says.
    ///
    /// # Errors
    /// The system refuses it, or the server.
    pub fn connect_narrow(&mut self) -> io::Result<TcpStream> {
        self.begin(Some(NARROW))
    }

    fn begin(&mut self, room: Option<(usize, u32)>) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None)?;
        socket.bind(&SocketAddr::from((self.next_address(), 0)).into())?;
        // No port is kept busy by a connection that is over.
        socket.set_linger(Some(Duration::ZERO))?;
        if let Some((bytes, segment)) = room {
            socket.set_recv_buffer_size(bytes)?;
            socket.set_tcp_mss(segment)?;
        }
        match socket.connect(&self.server.into()) {
            Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {
                Err(error)
            }
            _ => Ok(socket.into()),
        }
    }

    fn next_address(&mut self) -> Ipv4Addr {
        self.used = self.used.wrapping_add(1);
        self.from.unwrap_or(Ipv4Addr::from_bits(FIRST + self.used % ADDRESSES))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_come_from_everywhere_or_from_one_address() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        let come = |from| {
            let mut source = Source::new(server, from).unwrap();
            [(); 2].map(|()| {
                let _stream = source.connect().unwrap();
                listener.accept().unwrap().1.ip()
            })
        };
        let [one, other] = come(None);
        assert!(one.is_loopback() && other.is_loopback() && one != other);
        let from = Ipv4Addr::new(127, 0, 0, 9);
        assert_eq!(come(Some(from)), [from; 2]);
    }

    #[test]
    fn no_other_machine_is_attacked() {
        for server in ["192.0.2.1:3333", "[::1]:3333"] {
            assert!(Source::new(server.parse().unwrap(), None).is_err(), "{server}");
        }
    }
}
