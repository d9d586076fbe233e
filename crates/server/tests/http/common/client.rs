//! HTTP/1.1 by hand, so that tests can also say what no client would.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// A response that was read to its end.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// The body, if all went well.
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        self.json()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// A response that is being read.
pub(crate) struct Reading {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    stream: BufReader<TcpStream>,
    is_chunked: bool,
    length: Option<usize>,
}

pub(crate) fn get(address: SocketAddr, path: &str) -> Reply {
    send(address, "GET", path, &[], b"").finish()
}

pub(crate) fn post(address: SocketAddr, path: &str, body: &Value) -> Reply {
    send(address, "POST", path, &[], body.to_string().as_bytes()).finish()
}

/// Sends a request and reads the head of what comes back.
pub(crate) fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Reading {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    // A server that refuses a body need not read it.
    let _ = stream.write_all(body);
    Reading::begin(stream)
}

impl Reading {
    /// Reads the head of a response.
    pub(crate) fn begin(stream: TcpStream) -> Self {
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        let status = line.split(' ').nth(1).unwrap_or_default().parse();
        let status = status.unwrap_or_else(|_| panic!("{line:?} is no status line"));
        let mut headers = Vec::new();
        loop {
            line.clear();
            stream.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                break;
            };
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        let find = |name: &str| {
            headers
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, v)| v.clone())
        };
        Self {
            status,
            is_chunked: find("transfer-encoding").as_deref() == Some("chunked"),
            length: find("content-length").and_then(|length| length.parse().ok()),
            headers,
            stream,
        }
    }

    /// The next piece of the body; `None` at its end.
    pub(crate) fn piece(&mut self) -> Option<Vec<u8>> {
        if !self.is_chunked {
            let mut body = Vec::new();
            match self.length {
                Some(length) => {
                    body.resize(length, 0);
                    self.stream.read_exact(&mut body).unwrap();
                    self.length = Some(0);
                }
                None => {
                    self.stream.read_to_end(&mut body).unwrap();
                }
            }
            return (!body.is_empty()).then_some(body);
        }
        let mut line = String::new();
        self.stream.read_line(&mut line).ok()?;
        let size = usize::from_str_radix(line.trim(), 16).ok()?;
        let mut piece = vec![0; size + 2];
        self.stream.read_exact(&mut piece).ok()?;
        piece.truncate(size);
        (size > 0).then_some(piece)
    }

    /// Reads the rest.
    pub(crate) fn finish(mut self) -> Reply {
        let mut body = Vec::new();
        while let Some(piece) = self.piece() {
            body.extend_from_slice(&piece);
        }
        Reply {
            status: self.status,
            headers: self.headers,
            body,
        }
    }
}
