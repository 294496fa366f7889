//! A node that knows headers and nothing else.

use bitcoin::BlockHash;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Blocks that a node knows, and which of them are its best chain.
#[derive(Debug, Clone, Default)]
pub struct View {
    pub parents: HashMap<BlockHash, (u32, BlockHash)>,
    pub best: Vec<BlockHash>,
    /// Answers nothing.
    pub away: bool,
    pub asked: usize,
}

impl View {
    /// Makes a branch the best one; what was known of others stays known.
    pub fn follow(&mut self, branch: &[BlockHash]) {
        for (height, hash) in (0..).zip(branch) {
            let parent = if height == 0 { *hash } else { branch[height as usize - 1] };
            self.parents.insert(*hash, (height, parent));
        }
        self.best = branch.to_vec();
    }

    /// Knows this branch and nothing else, as a node that is built anew.
    pub fn restart_on(&mut self, branch: &[BlockHash]) {
        self.parents.clear();
        self.follow(branch);
    }

    fn header(&self, hash: BlockHash) -> Option<Value> {
        let (height, parent) = *self.parents.get(&hash)?;
        let in_best = self.best.get(height as usize) == Some(&hash);
        let confirmations = if in_best { self.best.len() as i64 - i64::from(height) } else { -1 };
        let mut header = json!({
            "height": height,
            "bits": "207fffff",
            "mediantime": 0,
            "confirmations": confirmations,
            "chainwork": format!("{height:064x}"),
        });
        if height > 0 {
            header["previousblockhash"] = json!(parent);
        }
        Some(header)
    }
}

/// Answers `getblockheader` of a chain that goes back and forth by hundreds of blocks in no time, which a real
/// node cannot.
pub struct StandIn {
    view: Arc<Mutex<View>>,
    pub address: String,
}

impl StandIn {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let view = Arc::new(Mutex::new(View::default()));
        let shown = view.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let shown = shown.clone();
                std::thread::spawn(move || serve(stream.unwrap(), &shown));
            }
        });
        Self { view, address }
    }

    pub fn view(&self) -> std::sync::MutexGuard<'_, View> {
        self.view.lock().unwrap()
    }

    pub fn asked(&self) -> usize {
        std::mem::take(&mut self.view().asked)
    }
}

fn serve(stream: TcpStream, view: &Mutex<View>) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let (mut length, mut line) = (0, String::new());
        while line.trim() != "" || length == 0 {
            line.clear();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if let Some(bytes) = line.strip_prefix("Content-Length: ") {
                length = bytes.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let call: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(call["method"], "getblockheader");
        let hash = call["params"][0].as_str().unwrap().parse().unwrap();
        let answer = {
            let mut view = view.lock().unwrap();
            view.asked += 1;
            if view.away {
                return None;
            }
            view.header(hash)
        };
        let error = answer.is_none().then(|| json!({ "code": -5, "message": "Block not found" }));
        let text = json!({ "result": answer, "error": error, "id": call["id"] }).to_string();
        let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len());
        reader.get_mut().write_all(text.as_bytes()).ok()?;
    }
}
