//! `sluice-verify witness`: cosigns the heads of logs, each only if it goes on from the one before
//! (c2sp.org/tlog-witness). A pool asks it; whoever sees its word sees the log that it sees.

use crate::cli::WitnessArgs;
use anyhow::{Context, bail, ensure};
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bitcoin::hashes::{Hash, sha256};
use bitcoin::hex::DisplayHex;
use share_accounting::publish::Head;
use share_accounting::publish::cosign::{Refusal, Request, WitnessKey, judge};
use share_accounting::publish::key::LogVerifier;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// Longest request, in bytes: a proof has at most 63 lines.
const BODY_BYTES_MAX: usize = 64 << 10;

/// What is witnessed; a handle.
#[derive(Clone)]
struct Witness(Arc<Shared>);

struct Shared {
    key: WitnessKey,
    /// By their names.
    logs: HashMap<String, Mutex<Log>>,
    _lock: File,
}

/// A log, and its newest cosigned head.
struct Log {
    verifier: LogVerifier,
    file: PathBuf,
    newest: Option<Head>,
}

/// Serves until it is killed: what it has cosigned is on disk before it says so.
///
/// # Errors
/// Its folder or its address cannot be used.
pub fn run(args: &WitnessArgs) -> anyhow::Result<()> {
    let witness = Witness::open(args)?;
    let public = witness.0.key.verifier();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(args.listen).await;
        let listener = listener.with_context(|| format!("cannot listen at {}", args.listen))?;
        // Whoever reads it may stop: witnesses go on.
        let (count, at) = (witness.0.logs.len(), listener.local_addr()?);
        let _ = write!(std::io::stdout(), "witness {public}\ncosigns {count} logs at http://{at}\n");
        axum::serve(listener, witness.routes()).await?;
        Ok(())
    })
}

impl Witness {
    fn open(args: &WitnessArgs) -> anyhow::Result<Self> {
        fs::create_dir_all(&args.dir).with_context(|| args.dir.display().to_string())?;
        // Two that do not know of each other would cosign two logs.
        let lock = File::create(args.dir.join("lock")).with_context(|| args.dir.display().to_string())?;
        lock.try_lock().with_context(|| format!("{} is in use by another witness", args.dir.display()))?;
        let key = witness_key(&args.dir.join("witness.key"), &args.name)?;
        let mut logs = HashMap::new();
        for verifier in &args.logs {
            let log = Log::open(&args.dir, verifier.clone())?;
            let name = log.verifier.origin().to_owned();
            ensure!(logs.insert(name.clone(), Mutex::new(log)).is_none(), "the log {name} is named twice");
        }
        Ok(Self(Arc::new(Shared { key, logs, _lock: lock })))
    }

    fn routes(self) -> Router {
        Router::new()
            .route("/add-checkpoint", post(add_checkpoint))
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(self)
    }

    /// Judges a request; the line to be answered, once the head is on disk.
    fn cosign(&self, body: &str) -> Result<String, Answer> {
        let request = Request::parse(body).ok_or(Answer::Refused(Refusal::Malformed))?;
        let origin = request.checkpoint.lines().next().unwrap_or_default();
        let log = self.0.logs.get(origin).ok_or(Answer::Refused(Refusal::UnknownLog))?;
        // Held until the head is on disk: two requests must not both go on from the same head.
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        let head = judge(&request, &log.verifier, log.newest).map_err(Answer::Refused)?;
        if log.newest != Some(head) {
            keep(&log.file, request.checkpoint.as_bytes())
                .map_err(|error| Answer::Disk(error.to_string()))?;
            log.newest = Some(head);
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Ok(self.0.key.cosign(&request.checkpoint, now.as_secs()))
    }
}

impl Log {
    fn open(dir: &Path, verifier: LogVerifier) -> anyhow::Result<Self> {
        // Pools choose their names.
        let name = sha256::Hash::hash(verifier.origin().as_bytes()).to_byte_array().to_lower_hex_string();
        let file = dir.join(format!("{name}.checkpoint"));
        let newest = match fs::read(&file) {
            Ok(note) => {
                let head = verifier.head(&note).with_context(|| {
                    format!("{} is of another log, or damaged: bring back the newest one", file.display())
                })?;
                Some(head.0)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| file.display().to_string()),
        };
        Ok(Self { verifier, file, newest })
    }
}

/// Why there is no cosignature.
enum Answer {
    Refused(Refusal),
    Disk(String),
}

async fn add_checkpoint(State(witness): State<Witness>, body: String) -> Response {
    let judged = tokio::task::spawn_blocking(move || witness.cosign(&body)).await;
    match judged {
        Ok(Ok(line)) => line.into_response(),
        Ok(Err(Answer::Refused(refusal))) => {
            let status = StatusCode::from_u16(refusal.status()).expect("each is one of HTTP's");
            match refusal {
                // As the protocol has it: the size alone.
                Refusal::Conflict(size) => {
                    (status, [(header::CONTENT_TYPE, "text/x.tlog.size")], format!("{size}\n"))
                        .into_response()
                }
                refusal => (status, format!("{refusal}\n")).into_response(),
            }
        }
        Ok(Err(Answer::Disk(reason))) => (StatusCode::INSUFFICIENT_STORAGE, reason).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Whole, and on disk, or not at all.
fn keep(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let unfinished = file.with_extension("new");
    let mut new = File::create(&unfinished)?;
    new.write_all(bytes)?;
    new.sync_all()?;
    fs::rename(&unfinished, file)?;
    File::open(file.parent().expect("it is in a folder"))?.sync_all()
}

/// The witness's key, made at the first start.
fn witness_key(file: &Path, name: &str) -> anyhow::Result<WitnessKey> {
    let shown = file.display();
    match fs::read_to_string(file) {
        Ok(text) => {
            let key =
                WitnessKey::parse(&text).with_context(|| format!("{shown} holds no key of a witness"))?;
            let known = key.verifier();
            ensure!(known.name() == name, "{shown} is the key of {}, not of {name}", known.name());
            Ok(key)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let is_name =
                !name.is_empty() && !name.contains(|letter: char| letter.is_whitespace() || letter == '+');
            if !is_name {
                bail!("\"{name}\" is no name of a witness: no spaces, no plus");
            }
            let (key, text) = WitnessKey::generate(name);
            let new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
            new.and_then(|mut new| new.write_all(text.as_bytes()).and_then(|()| new.sync_all()))
                .with_context(|| format!("cannot write {shown}"))?;
            Ok(key)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {shown}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::Network;
    use share_accounting::publish::key::LogKey;
    use share_accounting::tree::{Tree, leaves};

    fn args(dir: &Path, log: &LogKey) -> WitnessArgs {
        WitnessArgs {
            dir: dir.to_owned(),
            name: "witness.example".to_owned(),
            logs: vec![log.verifier()],
            listen: "127.0.0.1:0".parse().unwrap(),
        }
    }

    fn request(key: &LogKey, entries: &[&[u8]], old_size: u64, proof: &[[u8; 32]]) -> String {
        let tree: Tree = leaves(entries).into_iter().collect();
        let checkpoint = key.sign(&Head { size: tree.size(), root: tree.root() }, Network::Signet);
        Request { old_size, proof: proof.to_vec(), checkpoint }.text()
    }

    fn refused(answer: Result<String, Answer>) -> Option<Refusal> {
        match answer {
            Err(Answer::Refused(refusal)) => Some(refusal),
            _ => None,
        }
    }

    #[test]
    fn logs_of_like_names_have_each_their_own_head() {
        let dir = tempfile::tempdir().unwrap();
        let (one, _) = LogKey::generate("pool.example/x");
        let (two, _) = LogKey::generate("pool.example_x");
        let both =
            WitnessArgs { logs: [&one, &two].map(LogKey::verifier).to_vec(), ..args(dir.path(), &one) };
        for (size, proof) in [(0, vec![]), (1, leaves(&[b"b"]))] {
            let entries: &[&[u8]] = if size == 0 { &[b"a"] } else { &[b"a", b"b"] };
            let witness = Witness::open(&both).unwrap();
            for log in [&one, &two] {
                assert!(witness.cosign(&request(log, entries, size, &proof)).is_ok());
            }
        }
    }

    #[test]
    fn what_it_has_cosigned_it_remembers_through_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let (log, _) = LogKey::generate("sluice/x");
        let (other, _) = LogKey::generate("sluice/y");
        let proof = leaves(&[b"b"]);
        let key = {
            let witness = Witness::open(&args(dir.path(), &log)).unwrap();
            assert!(witness.cosign(&request(&log, &[b"a"], 0, &[])).is_ok());
            assert_eq!(refused(witness.cosign(&request(&other, &[b"a"], 0, &[]))), Some(Refusal::UnknownLog));
            assert_eq!(refused(witness.cosign("old 0\n")), Some(Refusal::Malformed));
            witness.0.key.verifier()
        };
        let witness = Witness::open(&args(dir.path(), &log)).unwrap();
        assert_eq!(witness.0.key.verifier(), key);
        assert_eq!(
            refused(witness.cosign(&request(&log, &[b"x", b"b"], 0, &[]))),
            Some(Refusal::Conflict(1))
        );
        let forged = request(&log, &[b"x", b"b"], 1, &proof);
        assert_eq!(refused(witness.cosign(&forged)), Some(Refusal::Inconsistent));
        let body = request(&log, &[b"a", b"b"], 1, &proof);
        let line = witness.cosign(&body).unwrap_or_default();
        let checkpoint = Request::parse(&body).unwrap().checkpoint;
        assert!(key.cosigned((checkpoint + &line).as_bytes()).is_some());
        // Nobody else is this witness meanwhile.
        let second = Witness::open(&args(dir.path(), &log)).err().unwrap().to_string();
        assert!(second.contains("in use by another witness"), "{second}");
        drop(witness);
        // Its name stands in its key.
        let renamed = WitnessArgs { name: "else".to_owned(), ..args(dir.path(), &log) };
        assert!(Witness::open(&renamed).is_err());
    }
}
