//! A server of ours as a process: its log, its pages, its end.

use super::{PATIENCE, wait_for};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// A running server; killed when dropped.
pub struct Served {
    name: &'static str,
    http_port: u16,
    process: Child,
    log: Arc<Mutex<String>>,
    log_reader: Option<JoinHandle<()>>,
}

impl Served {
    /// Starts a program that logs to standard error and has its pages on this port.
    pub fn spawn(name: &'static str, command: &mut Command, http_port: u16) -> Self {
        let mut process = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let sink = log.clone();
        let log_reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut log = sink.lock().unwrap_or_else(PoisonError::into_inner);
                log.push_str(&line);
                log.push('\n');
            }
        });
        Self { name, http_port, process, log, log_reader: Some(log_reader) }
    }

    /// Waits until /health says that miners have work.
    pub fn wait_until_healthy(&self) {
        wait_for(&format!("the {} to be healthy", self.name), || {
            self.health().filter(|report| report["ok"] == true)
        });
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Does something while nobody reads the log: soon there is no room for another line.
    pub fn with_log_unread<T>(&self, run: impl FnOnce() -> T) -> T {
        let _unread = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        run()
    }

    /// All that it has logged, once it has ended.
    pub fn whole_log(&mut self) -> String {
        if let Some(reader) = self.log_reader.take() {
            reader.join().unwrap();
        }
        self.log()
    }

    /// Waits for a piece of text in the log.
    pub fn wait_for_log(&self, text: &str) {
        wait_for(&format!("\"{text}\" in the log of the {}", self.name), || {
            self.log().contains(text).then_some(())
        });
    }

    /// The report of /health, whatever its status.
    pub fn health(&self) -> Option<Value> {
        serde_json::from_str(&self.http("/health")?).ok()
    }

    /// The value of a metric, its labels included in the name as Prometheus writes them.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.metrics();
        value(&text, name).unwrap_or_else(|| panic!("no {name} in:\n{text}"))
    }

    /// Everything at /metrics.
    pub fn metrics(&self) -> String {
        self.http("/metrics").unwrap_or_else(|| panic!("the {} answers /metrics", self.name))
    }

    /// The body of a page, whatever its status; nothing if there is no answer.
    pub fn http(&self, path: &str) -> Option<String> {
        Some(self.answer("GET", path, "")?.1)
    }

    /// Status and body of what a page says to a JSON text.
    pub fn post(&self, path: &str, json: &str) -> (u16, String) {
        let (head, body) = self.answer("POST", path, json).unwrap_or_else(|| panic!("{path} answers"));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.unwrap_or_else(|| panic!("a status: {head}")), body)
    }

    /// Status and headers of a page.
    pub fn http_head(&self, path: &str) -> Option<String> {
        Some(self.answer("GET", path, "")?.0)
    }

    fn answer(&self, method: &str, path: &str, json: &str) -> Option<(String, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.http_port)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let length = json.len();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n");
        write!(stream, "{head}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{json}")
            .ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let answer = String::from_utf8_lossy(&answer);
        answer.split_once("\r\n\r\n").map(|(head, body)| (head.to_owned(), body.to_owned()))
    }

    /// Kills the process as a power cut would.
    pub fn kill_now(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Sends SIGTERM and waits for the end.
    pub fn terminate(&mut self) -> ExitStatus {
        let id = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        let status = self.wait_for_exit();
        if !status.success() {
            let log = self.whole_log();
            eprintln!("--- log of the {}, which ended with {status} ---\n{log}", self.name);
        }
        status
    }

    /// Waits for the process to end by itself.
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        wait_for(&format!("the {} to end", self.name), || self.process.try_wait().unwrap())
    }

    /// Whether it runs still.
    pub fn is_alive(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }

    /// The id of the process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Processor time that it has used, to a hundredth of a second.
    pub fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        // Behind the name, which may hold anything: user and system time are the 12th and the 13th field.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
        Duration::from_millis(10 * ticks)
    }

    /// How far a thread of it gives way to others, by the thread's name.
    pub fn niceness(&self, name: &str) -> i32 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        let stats = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap());
        let of_name = |stat: &String| stat.contains(&format!(" ({name}) "));
        let stat = stats.into_iter().find(of_name).unwrap_or_else(|| panic!("no thread {name}"));
        stat.rsplit_once(')').unwrap().1.split_whitespace().nth(16).unwrap().parse().unwrap()
    }

    /// Its memory, in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

/// The value of a metric in Prometheus' text.
pub fn value(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.parse().ok()
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("--- log of the {} ---\n{}", self.name, self.log());
        }
    }
}
