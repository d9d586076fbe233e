//! `tidemill serve` as a shell sees it: it says where it listens, answers, and ends when it is asked to.
#![cfg(unix)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

#[test]
fn the_server_answers_and_ends_in_order() {
    let mut server = Command::new(env!("CARGO_BIN_EXE_tidemill"))
        .env_remove("TIDEMILL_MODEL")
        .args([
            "serve",
            "--port",
            "0",
            "--ctx-size",
            "512",
            "--alias",
            "tiny,other",
        ])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(server.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("listening on http://") {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "it ended too early");
    }
    let address = line.trim().rsplit("http://").next().unwrap().to_owned();
    let ask = |path: &str| {
        let mut connection = TcpStream::connect(&address).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n");
        connection.write_all(request.as_bytes()).unwrap();
        let mut reply = String::new();
        connection.read_to_string(&mut reply).unwrap();
        reply
    };
    assert!(ask("/health").starts_with("HTTP/1.1 200"));
    let models = ask("/v1/models");
    assert!(
        models.contains("\"id\":\"tiny\"") && models.contains("\"id\":\"other\""),
        "{models}"
    );
    let asked = Command::new("kill")
        .arg(server.id().to_string())
        .status()
        .unwrap();
    assert!(asked.success());
    assert_eq!(server.wait().unwrap().code(), Some(0));
}

#[test]
fn keys_that_are_none_are_a_mistake() {
    let output = Command::new(env!("CARGO_BIN_EXE_tidemill"))
        .args(["serve", "--port", "0", "--api-key", " "])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("holds no key"), "{said}");
}
