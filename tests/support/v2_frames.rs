//! A V2 connection frame by frame, for what our client does not say or passes over.

use super::PATIENCE;
use super::v2_link::shake_hands;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use stratum::v2::frame::{HEADER_BYTES, Header, write_frame};
use stratum::v2::keys::AuthorityKey;
use stratum::v2::message::Wire;
use stratum::v2::noise::{SEALED_HEADER_BYTES, Transport, sealed_payload_bytes};

/// A connection after its handshake.
pub struct V2Frames {
    stream: TcpStream,
    transport: Transport,
}

impl V2Frames {
    /// Connects and shakes hands.
    pub fn connect(server: SocketAddr, authority: AuthorityKey) -> Self {
        let mut stream = TcpStream::connect(server).unwrap();
        stream.set_nodelay(true).unwrap();
        let transport = shake_hands(&mut stream, authority).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream, transport }
    }

    /// Sends a message.
    pub fn say(&mut self, message: &impl Wire) {
        let (mut frame, mut sealed) = (Vec::new(), Vec::new());
        write_frame(message, &mut frame);
        let (header, payload) = frame.split_first_chunk::<HEADER_BYTES>().unwrap();
        self.transport.seal.seal(header, payload, &mut sealed).unwrap();
        self.stream.write_all(&sealed).unwrap();
    }

    /// Waits for the next frame: its header and its payload.
    pub fn hear(&mut self) -> (Header, Vec<u8>) {
        let mut sealed = [0; SEALED_HEADER_BYTES];
        self.stream.read_exact(&mut sealed).unwrap();
        let header = Header::from_bytes(self.transport.open.header(&sealed).unwrap());
        let mut sealed = vec![0; sealed_payload_bytes(header.payload_bytes)];
        self.stream.read_exact(&mut sealed).unwrap();
        (header, self.transport.open.payload(&mut sealed).unwrap().to_vec())
    }
}
