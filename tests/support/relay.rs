//! A TCP relay on loopback: the network between a proxy and its upstream, as bad as a test wants it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// How often a held connection looks whether it may go on.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Relays every connection to one server.
pub struct Relay {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<State>,
}

struct State {
    server: SocketAddr,
    /// New connections are closed at once.
    refuses: AtomicBool,
    /// Nothing passes, and nobody is told.
    holds: AtomicBool,
    delay_ms: AtomicU64,
    /// Bytes from clients to the server, and connections, so far.
    upward_bytes: AtomicU64,
    connections: AtomicU64,
    open: Mutex<Vec<[TcpStream; 2]>>,
}

impl Relay {
    /// Relays to a server, as a good network does.
    pub fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            server,
            refuses: AtomicBool::new(false),
            holds: AtomicBool::new(false),
            delay_ms: AtomicU64::new(0),
            upward_bytes: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            open: Mutex::default(),
        });
        let shared = state.clone();
        // Ends with the test's process: it waits for connections, and nobody makes any.
        thread::spawn(move || {
            listener.incoming().map_while(Result::ok).for_each(|stream| shared.relay(stream))
        });
        Self { address, state }
    }

    /// Ends all connections.
    pub fn cut(&self) {
        self.state.each(|stream| drop(stream.shutdown(Shutdown::Both)));
        self.state.open().clear();
    }

    /// Ends all connections, and each new one at once.
    pub fn down(&self) {
        self.state.refuses.store(true, Ordering::SeqCst);
        self.cut();
    }

    /// Takes connections again.
    pub fn up(&self) {
        self.state.refuses.store(false, Ordering::SeqCst);
    }

    /// Nothing passes from here on, in either direction; connections stand.
    pub fn hold(&self) {
        self.state.holds.store(true, Ordering::SeqCst);
    }

    /// Delays whatever passes.
    pub fn delay(&self, by: Duration) {
        self.state.delay_ms.store(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }

    /// Says to all clients that the server will send no more; what they send still goes through.
    pub fn half_close(&self) {
        self.state.open().iter().for_each(|[client, _]| drop(client.shutdown(Shutdown::Write)));
    }

    /// Sends bytes of its own to all clients.
    pub fn inject(&self, bytes: &[u8]) {
        self.state.open().iter_mut().for_each(|[client, _]| drop(client.write_all(bytes)));
    }

    /// Bytes that clients have sent to the server so far.
    pub fn upward_bytes(&self) -> u64 {
        self.state.upward_bytes.load(Ordering::SeqCst)
    }

    /// Connections taken so far.
    pub fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.state.holds.store(false, Ordering::SeqCst);
        self.down();
    }
}

impl State {
    fn open(&self) -> std::sync::MutexGuard<'_, Vec<[TcpStream; 2]>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn each(&self, run: impl Fn(&TcpStream)) {
        self.open().iter().flatten().for_each(run);
    }

    fn relay(self: &Arc<Self>, client: TcpStream) {
        self.connections.fetch_add(1, Ordering::SeqCst);
        if self.refuses.load(Ordering::SeqCst) {
            return;
        }
        let Ok(server) = TcpStream::connect(self.server) else { return };
        client.set_nodelay(true).unwrap();
        server.set_nodelay(true).unwrap();
        let pair = || [client.try_clone().unwrap(), server.try_clone().unwrap()];
        let [up_from, up_to] = pair();
        let [down_to, down_from] = pair();
        self.open().push(pair());
        let (upward, downward) = (self.clone(), self.clone());
        thread::spawn(move || upward.copy(up_from, up_to, true));
        thread::spawn(move || downward.copy(down_from, down_to, false));
    }

    fn copy(&self, mut from: TcpStream, mut to: TcpStream, upward: bool) {
        let mut buffer = [0; 16 * 1024];
        while let Ok(read) = from.read(&mut buffer) {
            if read == 0 {
                break;
            }
            if upward {
                self.upward_bytes.fetch_add(read as u64, Ordering::SeqCst);
            }
            while self.holds.load(Ordering::SeqCst) {
                thread::sleep(LOOK_EVERY);
            }
            thread::sleep(Duration::from_millis(self.delay_ms.load(Ordering::SeqCst)));
            if to.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        // A relay that holds says nothing of an end either.
        while self.holds.load(Ordering::SeqCst) {
            thread::sleep(LOOK_EVERY);
        }
        let _ = to.shutdown(Shutdown::Write);
    }
}
