//! Thousands of connections that say nothing.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::Server;
use crate::common::client::{get, post};
use serde_json::json;

const MOST: usize = 10_000;
const ADDRESS: &str = "TIDEMILL_TEST_ADDRESS";
const COUNT: &str = "TIDEMILL_TEST_COUNT";

/// How many files a process may have open.
fn limit() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let number = line.and_then(|line| line.split_whitespace().nth(3)?.parse().ok());
    number.unwrap_or(1024)
}

/// The other end of the test below, in a process of its own: each may have only so many files open.
#[test]
#[ignore = "started by the test below"]
fn the_other_end() {
    let Ok(address) = std::env::var(ADDRESS) else {
        return;
    };
    let address: SocketAddr = address.parse().unwrap();
    let count: usize = std::env::var(COUNT).unwrap().parse().unwrap();
    let held: Vec<TcpStream> = (0..count)
        .map(|number| {
            let mut connection = TcpStream::connect(address).unwrap();
            if number % 2 == 0 {
                // Half of them have begun, and do not go on.
                connection.write_all(b"GET /health HTTP/1.1\r\nho").unwrap();
            }
            connection
        })
        .collect();
    println!("\nheld {}", held.len());
    // Until the test is done.
    let _ = std::io::stdin().read(&mut [0]);
}

#[test]
#[cfg(target_os = "linux")]
fn idle_connections_harm_nobody() {
    let server = Server::start();
    // What other tests have open at the same time counts too.
    let count = MOST.min(limit() / 2);
    let mut other = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "idle::the_other_end"])
        .env(ADDRESS, server.address.to_string())
        .env(COUNT, count.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(other.stdout.take().unwrap());
    let mut line = String::new();
    while line.trim() != format!("held {count}") {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "{line}");
    }
    let start = Instant::now();
    assert_eq!(get(server.address, "/health").status, 200);
    let body = json!({"messages": [{"role": "user", "content": "hello!!"}], "max_tokens": 4});
    assert_eq!(
        post(server.address, "/v1/chat/completions", &body).status,
        200
    );
    let took = start.elapsed();
    eprintln!("{count} connections are held; two requests beside them took {took:?}");
    assert!(took < Duration::from_secs(20), "{took:?}");
    drop(other.stdin.take());
    assert!(other.wait().unwrap().success());
    assert_eq!(get(server.address, "/health").status, 200);
}
