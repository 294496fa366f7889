//! The same talk with a server of either kind.

use crate::setup::Setup;
use crate::{ring, server};
use floor::frames::{Frames, decode, seal};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use stratum::v2::codec::{Bytes32, Str255, U256};
use stratum::v2::message::{
    OpenExtendedMiningChannel, OpenExtendedMiningChannelSuccess, SetNewPrevHash, SetupConnection,
    SetupConnectionSuccess, SubmitSharesExtended, SubmitSharesSuccess, Wire,
};
use stratum::v2::noise::{ACT2_BYTES, Authority, Initiator, Sealer, Transport};
use stratum::v2::{flag, keys::AuthorityKey};

type Serve = fn(Setup) -> anyhow::Result<()>;
/// More than what sockets of loopback hold.
const FLOOD_LINES: usize = 300_000;
const SUBMIT: &[u8] = b"{\"id\":4,\"method\":\"mining.submit\",\"params\":[]}\n";
const AUTHORIZE: &[u8] = b"{\"id\":3,\"method\":\"mining.authorize\",\"params\":[]}\n";
const YES: &str = "{\"id\":4,\"result\":true,\"error\":null}\n";

struct Served {
    v1: SocketAddr,
    v2: SocketAddr,
    authority: AuthorityKey,
    input: Option<io::PipeWriter>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

/// Runs `talk` with a server over epoll, then with one over io_uring if the system has that.
fn with_each(talk: fn(&mut Served)) {
    talk(&mut Served::new(server::serve));
    if let Some(error) = uring::refused() {
        eprintln!("left out: this system refuses io_uring: {error}");
        return;
    }
    talk(&mut Served::new(|setup| ring::serve(setup, 1_000)));
}

impl Served {
    fn new(serve: Serve) -> Self {
        let (reader, writer) = io::pipe().unwrap();
        let (tell, told) = mpsc::sync_channel(1);
        let serve = move || {
            let (setup, urls) = Setup::new(File::from(OwnedFd::from(reader)), 400)?;
            tell.send(urls)?;
            serve(setup)
        };
        let thread = Some(std::thread::spawn(serve));
        let urls: [String; 2] = told.recv().unwrap();
        let [v1, v2] = [&urls[0], &urls[1]].map(|url| url.split('/').nth(2).unwrap().parse().unwrap());
        let authority = urls[1].rsplit('/').next().unwrap().parse().unwrap();
        let input = Some(writer);
        Self { v1, v2, authority, input, thread }
    }

    fn connect(address: SocketAddr) -> TcpStream {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    fn new_tip(&mut self) {
        self.input.as_mut().unwrap().write_all(b"\n").unwrap();
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It ends with its input.
        self.input = None;
        let ended = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            ended.unwrap().unwrap();
        } else if let Ok(Err(error)) = ended {
            eprintln!("the server has ended: {error:#}");
        }
    }
}

fn line(reader: &mut impl BufRead) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    line
}

/// A V1 connection that works.
fn worker(served: &Served) -> BufReader<TcpStream> {
    let mut reader = BufReader::new(Served::connect(served.v1));
    reader.get_mut().write_all(AUTHORIZE).unwrap();
    assert_eq!(line(&mut reader), "{\"id\":3,\"result\":true,\"error\":null}\n");
    assert!(line(&mut reader).contains("set_difficulty"));
    assert!(line(&mut reader).contains("mining.notify"));
    reader
}

#[test]
fn lines_are_answered_however_they_are_cut_and_new_tips_are_told() {
    with_each(|served| {
        let mut reader = worker(served);
        for (at, byte) in SUBMIT.repeat(2).iter().enumerate() {
            reader.get_mut().write_all(&[*byte]).unwrap();
            if at % 8 == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        assert_eq!([line(&mut reader), line(&mut reader)], [YES, YES]);
        for _ in 0..3 {
            served.new_tip();
            assert!(line(&mut reader).contains("mining.notify"));
        }
    });
}

#[test]
fn who_reads_nothing_for_a_while_gets_everything_in_order() {
    with_each(|served| {
        let mut reader = worker(served);
        let mut writer = reader.get_ref().try_clone().unwrap();
        let writes = std::thread::spawn(move || writer.write_all(&SUBMIT.repeat(FLOOD_LINES)).unwrap());
        std::thread::sleep(Duration::from_millis(300));
        served.new_tip();
        let mut told = 0;
        for _ in 0..=FLOOD_LINES {
            let line = line(&mut reader);
            told += usize::from(line.contains("mining.notify"));
            assert!(line == YES || line.contains("mining.notify"), "{line}");
        }
        assert_eq!(told, 1);
        writes.join().unwrap();
    });
}

#[test]
fn who_talks_nonsense_or_leaves_is_let_go_and_others_stay() {
    with_each(|served| {
        let mut stays = worker(served);
        for round in 0..50 {
            let mut nonsense = Served::connect(served.v1);
            nonsense.write_all(b"nonsense\n").unwrap();
            let ended = nonsense.read(&mut [0; 16]);
            let reset = |error: &io::Error| error.kind() == ErrorKind::ConnectionReset;
            assert!(ended.as_ref().map_or_else(reset, |read| *read == 0), "{ended:?}");
            let mut leaves = worker(served);
            leaves.get_mut().write_all(&SUBMIT.repeat(round * 100)).unwrap();
            drop(leaves);
        }
        served.new_tip();
        assert!(line(&mut stays).contains("mining.notify"));
        worker(served);
    });
}

#[test]
fn frames_are_answered_together_and_new_tips_are_told() {
    with_each(|served| {
        let mut machine = Machine::connect(served);
        let setup = SetupConnection {
            protocol: flag::PROTOCOL_MINING,
            min_version: flag::PROTOCOL_VERSION,
            max_version: flag::PROTOCOL_VERSION,
            flags: 0,
            endpoint_host: Str255::from_static("127.0.0.1"),
            endpoint_port: 1,
            vendor: Str255::from_static("test"),
            hardware_version: Str255::from_static(""),
            firmware: Str255::from_static(""),
            device_id: Str255::from_static(""),
        };
        machine.say(&setup);
        assert_eq!(machine.hear::<SetupConnectionSuccess>().used_version, 2);
        let open = OpenExtendedMiningChannel {
            request_id: 7,
            user_identity: Str255::from_static("user"),
            nominal_hash_rate: 1.0,
            max_target: U256([0xff; 32]),
            min_extranonce_size: 4,
        };
        machine.say(&open);
        let channel = machine.hear::<OpenExtendedMiningChannelSuccess>();
        assert_eq!(channel.request_id, 7);
        let first = machine.hear::<SetNewPrevHash>().prev_hash;
        for sequence_number in 0..500 {
            let extranonce = Bytes32::new(&[0; 8]).unwrap();
            let channel_id = channel.channel_id;
            let share = SubmitSharesExtended {
                channel_id,
                sequence_number,
                job_id: 1,
                nonce: 0,
                ntime: 0,
                version: 0,
                extranonce,
            };
            machine.add(&share);
        }
        machine.flush();
        let mut accepted = 0;
        while accepted < 500 {
            accepted += machine.hear::<SubmitSharesSuccess>().new_submits_accepted_count;
        }
        assert_eq!(accepted, 500);
        served.new_tip();
        assert_ne!(machine.hear::<SetNewPrevHash>().prev_hash, first);
    });
}

/// A V2 client that waits for what it wants to hear.
struct Machine {
    stream: TcpStream,
    sealer: Sealer,
    frames: Frames,
    /// Opened and not heard yet.
    heard: VecDeque<(u8, Vec<u8>)>,
    rest: Vec<u8>,
    out: Vec<u8>,
}

impl Machine {
    fn connect(served: &Served) -> Self {
        let mut stream = Served::connect(served.v2);
        let (initiator, act1) = Initiator::new(rand::random(), Authority::Pinned(served.authority));
        stream.write_all(&act1).unwrap();
        let mut act2 = [0; ACT2_BYTES];
        stream.read_exact(&mut act2).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let Transport { seal, open } = initiator.finish(&act2, u32::try_from(now).unwrap()).unwrap();
        let (rest, out) = (Vec::new(), Vec::new());
        Self { stream, sealer: seal, frames: Frames::new(open), heard: [].into(), rest, out }
    }

    fn say<M: Wire>(&mut self, message: &M) {
        self.add(message);
        self.flush();
    }

    fn add<M: Wire>(&mut self, message: &M) {
        seal(&mut self.sealer, message, &mut self.out).unwrap();
    }

    fn flush(&mut self) {
        self.stream.write_all(&self.out).unwrap();
        self.out.clear();
    }

    fn hear<M: Wire>(&mut self) -> M {
        loop {
            while let Some((msg_type, payload)) = self.heard.pop_front() {
                if msg_type == M::TYPE {
                    return decode(&payload).unwrap();
                }
            }
            let mut bytes = [0; 4_096];
            let read = self.stream.read(&mut bytes).unwrap();
            assert!(read > 0, "the server has gone");
            self.rest.extend_from_slice(&bytes[..read]);
            let heard = &mut self.heard;
            let each = |msg_type: u8, payload: &[u8]| {
                heard.push_back((msg_type, payload.to_vec()));
                Ok(())
            };
            let used = self.frames.take(&mut self.rest, each).unwrap();
            self.rest.drain(..used);
        }
    }
}
