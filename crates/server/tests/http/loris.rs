//! Clients that send so slowly that they only mean to keep a connection.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::common::Server;
use crate::common::client::post;
use serde_json::json;

const CHAT: &str = "/v1/chat/completions";
const HEAD: Duration = Duration::from_millis(900);
const BODY: Duration = Duration::from_millis(1600);
/// Between two bytes.
const DRIP: Duration = Duration::from_millis(30);

/// Sends bytes one by one until the server has had enough. Tells what it said, and after how long.
fn drip(server: &Server, first: &[u8], then: u8) -> (String, Duration) {
    let mut connection = TcpStream::connect(server.address).unwrap();
    connection.write_all(first).unwrap();
    connection.set_read_timeout(Some(DRIP)).unwrap();
    let start = Instant::now();
    let mut said = Vec::new();
    let mut piece = [0; 1024];
    while start.elapsed() < Duration::from_secs(30) {
        match connection.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => said.extend_from_slice(&piece[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                // Fails when the server has hung up.
                if then != 0 && connection.write_all(&[then]).is_err() {
                    break;
                }
            }
            Err(_) => break,
        }
    }
    let said = String::from_utf8_lossy(&said).into_owned();
    (said, start.elapsed())
}

#[test]
fn whoever_sends_too_slowly_is_hung_up_on_and_others_are_served() {
    let server = Server::with(|config, _| (config.head_time, config.body_time) = (HEAD, BODY));
    let post_head = format!("POST {CHAT} HTTP/1.1\r\nhost: t\r\ncontent-length: 100000\r\n\r\n");
    std::thread::scope(|scope| {
        let server = &server;
        let drips = |first: &'static [u8], then| scope.spawn(move || drip(server, first, then));
        let silent = drips(b"", 0);
        let heads: Vec<_> = (0..8)
            .map(|_| drips(b"GET /health HTTP/1.1\r\nx-slow: ", b'a'))
            .collect();
        let kept = drips(b"GET /health HTTP/1.1\r\nhost: t\r\n\r\n", 0);
        let body = scope.spawn(|| drip(server, post_head.as_bytes(), b' '));
        let start = Instant::now();
        while start.elapsed() < BODY {
            let asked = json!({
                "messages": [{"role": "user", "content": "bye"}], "max_tokens": 2,
            });
            assert_eq!(post(server.address, CHAT, &asked).status, 200);
        }
        let in_time = |time: Duration, bound: Duration| {
            assert!(
                time >= bound && time < bound + Duration::from_secs(8),
                "{time:?}"
            );
        };
        let (said, time) = silent.join().unwrap();
        assert_eq!(said, "");
        in_time(time, HEAD - DRIP);
        for head in heads {
            let (said, time) = head.join().unwrap();
            assert!(
                said.is_empty() || said.starts_with("HTTP/1.1 408"),
                "{said}"
            );
            in_time(time, HEAD - DRIP);
        }
        let (said, time) = kept.join().unwrap();
        assert!(said.starts_with("HTTP/1.1 200"), "{said}");
        in_time(time, HEAD - DRIP);
        let (said, time) = body.join().unwrap();
        assert!(said.starts_with("HTTP/1.1 408"), "{said}");
        assert!(said.contains("the body did not come within"), "{said}");
        in_time(time, BODY - DRIP);
    });
}
