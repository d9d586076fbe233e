//! A Hub of our own on this machine, with all the faults that a network can have.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ring::digest;
use serde_json::{Value, json};

/// What happens to a request for a file instead of a plain answer.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// A status, with further lines of the head.
    Status(u16, String),
    /// The connection ends after so many bytes of the body.
    Cut(usize),
    /// A range that was asked for is not heeded; the connection ends after so many bytes.
    Whole(usize),
    /// Bytes that are not the file's.
    Wrong,
    /// Other bytes than those that were asked for.
    OtherRange,
    /// Nothing for this long.
    Silence(Duration),
}

/// What a request was.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) range: Option<String>,
    pub(crate) has_token: bool,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<String, Vec<u8>>,
    /// What requests for files meet, each one the next.
    faults: VecDeque<Fault>,
    /// What requests for the list meet.
    list_faults: VecDeque<Fault>,
    /// Another answer than the true list.
    list: Option<Value>,
    /// Where large files are.
    elsewhere: Option<SocketAddr>,
    etag: String,
    asked: Vec<Asked>,
}

/// A server that runs until the test ends.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

impl Site {
    /// One with files of this repository: `a/b`.
    pub(crate) fn with(files: &[(&str, &[u8])]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let files = files
            .iter()
            .map(|(path, bytes)| ((*path).to_owned(), bytes.to_vec()));
        let state = State {
            files: files.collect(),
            etag: "first".to_owned(),
            ..State::default()
        };
        let site = Self {
            address: listener.local_addr().unwrap(),
            state: Arc::new(Mutex::new(state)),
        };
        let served = site.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let site = served.clone();
                // A client that goes away is what is tested.
                std::thread::spawn(move || site.answer(&connection));
            }
        });
        site
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What the next requests for files meet.
    pub(crate) fn faults(&self, faults: &[Fault]) {
        self.state.lock().unwrap().faults.extend(faults.to_vec());
    }

    /// Takes one of those away; `true` when none is left.
    pub(crate) fn takes_fault(&self) -> bool {
        self.state.lock().unwrap().faults.pop_front().is_none()
    }

    /// What the next requests for the list meet.
    pub(crate) fn list_faults(&self, faults: &[Fault]) {
        let mut state = self.state.lock().unwrap();
        state.list_faults.extend(faults.to_vec());
    }

    pub(crate) fn set_list(&self, list: Value) {
        self.state.lock().unwrap().list = Some(list);
    }

    pub(crate) fn set_etag(&self, etag: &str) {
        etag.clone_into(&mut self.state.lock().unwrap().etag);
    }

    /// Sends those who want files to another site.
    pub(crate) fn redirect_to(&self, other: &Site) {
        self.state.lock().unwrap().elsewhere = Some(other.address);
    }

    /// What was asked since the last time.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state.lock().unwrap().asked)
    }

    /// The list as the Hub has it.
    pub(crate) fn list(&self) -> Value {
        let state = self.state.lock().unwrap();
        let files = state.files.iter().map(|(path, bytes)| {
            let size = bytes.len();
            match path.ends_with(".gguf") || path.ends_with(".safetensors") {
                true => json!({
                    "rfilename": path, "size": size, "blobId": COMMIT,
                    "lfs": {"sha256": sha256(bytes), "size": size, "pointerSize": 134},
                }),
                false => json!({"rfilename": path, "size": size, "blobId": git(bytes)}),
            }
        });
        json!({"id": "a/b", "sha": COMMIT, "siblings": files.collect::<Vec<_>>()})
    }

    fn answer(&self, connection: &TcpStream) {
        let mut lines = BufReader::new(connection).lines().map_while(Result::ok);
        let first = lines.next().unwrap_or_default();
        let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
        let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
        let value = |name: &str| {
            head.iter().find_map(|line| {
                let (key, value) = line.split_once(": ")?;
                key.eq_ignore_ascii_case(name).then(|| value.to_owned())
            })
        };
        let asked = Asked {
            path,
            range: value("range"),
            has_token: value("authorization").is_some(),
        };
        self.state.lock().unwrap().asked.push(asked.clone());
        let _ = match asked.path.starts_with("/api/") {
            true => self.send_list(connection),
            false => self.send_file(connection, &asked),
        };
        let _ = connection.shutdown(Shutdown::Both);
    }

    fn send_list(&self, mut connection: &TcpStream) -> std::io::Result<()> {
        let list = self.list().to_string();
        let mut state = self.state.lock().unwrap();
        if let Some(Fault::Status(status, more)) = state.list_faults.pop_front() {
            return write!(
                connection,
                "HTTP/1.1 {status} x\r\n{more}content-length: 0\r\n\r\n"
            );
        }
        let list = state.list.as_ref().map_or(list, Value::to_string);
        let length = list.len();
        write!(
            connection,
            "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{list}"
        )
    }

    fn send_file(&self, mut connection: &TcpStream, asked: &Asked) -> std::io::Result<()> {
        let mut state = self.state.lock().unwrap();
        if let Some(other) = state.elsewhere {
            let location = format!("http://{other}{}?signature=secret", asked.path);
            return write!(
                connection,
                "HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"
            );
        }
        let path = asked.path.split('?').next().unwrap_or_default();
        let name = path.split(COMMIT).nth(1).unwrap_or_default();
        let mut body = state
            .files
            .get(name.trim_start_matches('/'))
            .cloned()
            .unwrap_or_default();
        let whole = body.len();
        let (fault, etag) = (state.faults.pop_front(), state.etag.clone());
        drop(state);
        let mut from = asked.range.as_ref().map_or(0, |range| {
            let digits = range.trim_start_matches("bytes=").split('-').next();
            digits.unwrap_or_default().parse().unwrap()
        });
        let mut sent = usize::MAX;
        match fault {
            Some(Fault::Status(status, more)) => {
                return write!(
                    connection,
                    "HTTP/1.1 {status} x\r\n{more}content-length: 0\r\n\r\n"
                );
            }
            Some(Fault::Silence(time)) => {
                std::thread::sleep(time);
                return Ok(());
            }
            Some(Fault::Cut(bytes)) => sent = bytes,
            Some(Fault::Whole(bytes)) => (from, sent) = (0, bytes),
            Some(Fault::Wrong) => body.iter_mut().for_each(|byte| *byte ^= 1),
            Some(Fault::OtherRange) => from /= 2,
            None => {}
        }
        let rest = &body[from.min(whole)..];
        let status = match from {
            0 => "200 OK".to_owned(),
            _ => format!(
                "206 Partial\r\ncontent-range: bytes {from}-{}/{whole}",
                whole - 1
            ),
        };
        let length = rest.len();
        write!(
            connection,
            "HTTP/1.1 {status}\r\ncontent-length: {length}\r\netag: \"{etag}\"\r\n\r\n"
        )?;
        connection.write_all(&rest[..sent.min(length)])
    }
}

/// The checksum of large files.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// The checksum of small ones.
fn git(bytes: &[u8]) -> String {
    let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(format!("blob {}\0", bytes.len()).as_bytes());
    hash.update(bytes);
    hex(hash.finish().as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
