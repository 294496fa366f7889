//! A node that answers as a test wants: a real one cannot be made to fail in these ways.

use super::rpc::{Node, Timeouts};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How the stand-in answers one call.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// `result` in JSON.
    Result(String),
    /// RPC error.
    Error(i32, &'static str),
    /// Bare HTTP status with a text.
    Status(u16, &'static str),
    /// Takes the call and never answers.
    Silence,
    /// Takes the call and closes without an answer.
    Close,
    /// Announces a long answer and closes in the middle.
    Cut,
}

type Answer = dyn Fn(&str, &serde_json::Value) -> Reply + Send + Sync;

/// Serves until the test ends.
pub(crate) struct StandIn {
    pub(crate) node: Node,
    /// Holds the cookie.
    _dir: tempfile::TempDir,
    /// Every call: authorization and method.
    pub(crate) calls: Arc<Mutex<Vec<(String, String)>>>,
}

impl StandIn {
    pub(crate) fn start(answer: impl Fn(&str, &serde_json::Value) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self::on(listener, answer)
    }

    pub(crate) fn on(
        listener: TcpListener,
        answer: impl Fn(&str, &serde_json::Value) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let credentials = dir.path().join("cookie");
        std::fs::write(&credentials, "__cookie__:first\n").unwrap();
        let quick = Duration::from_millis(250);
        let timeouts =
            Timeouts { tip: quick, template: quick, long_poll: quick, submit: quick, other: quick };
        let node = Node { address: listener.local_addr().unwrap().to_string(), credentials, timeouts };
        let calls = Arc::new(Mutex::new(Vec::new()));
        let (log, answer): (_, Arc<Answer>) = (Arc::clone(&calls), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                std::thread::spawn(move || serve(stream.unwrap(), &log, &*answer));
            }
        });
        Self { node, _dir: dir, calls }
    }
}

fn serve(stream: TcpStream, log: &Mutex<Vec<(String, String)>>, answer: &Answer) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut length, mut authorization, mut line) = (0, String::new(), String::new());
        loop {
            line.clear();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            match line.trim().split_once(": ") {
                Some(("Content-Length", n)) => length = n.parse().unwrap(),
                Some(("Authorization", value)) => authorization = value.to_owned(),
                _ if line.trim().is_empty() => break,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let call: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let method = call["method"].as_str().unwrap();
        log.lock().unwrap().push((authorization, method.to_owned()));
        let id = &call["id"];
        let (status, text) = match answer(method, &call["params"]) {
            Reply::Result(json) => (200, format!(r#"{{"result":{json},"error":null,"id":{id}}}"#)),
            Reply::Error(code, words) => {
                (500, format!(r#"{{"result":null,"error":{{"code":{code},"message":"{words}"}},"id":{id}}}"#))
            }
            Reply::Status(status, words) => (status, words.to_owned()),
            Reply::Silence => {
                // Until the caller gives up.
                let _ = reader.read(&mut [0]);
                return None;
            }
            Reply::Close => {
                let _ = reader.get_ref().shutdown(Shutdown::Both);
                return None;
            }
            Reply::Cut => {
                let head = b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{\"result\":nu";
                reader.get_mut().write_all(head).ok()?;
                return None;
            }
        };
        let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{text}", text.len());
        reader.get_mut().write_all(answer.as_bytes()).ok()?;
    }
}
