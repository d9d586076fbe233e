//! `tidemill serve` as a shell sees it: it says where it listens, answers, and ends when it is asked to.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "tests end where they are surprised")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

/// A running server. Dropping it ends it at once.
struct Server {
    program: Child,
    said: BufReader<ChildStderr>,
    address: String,
}

impl Server {
    /// One that was started with these flags and listens.
    fn start(flags: &[&str]) -> Self {
        let mut program = Command::new(env!("CARGO_BIN_EXE_tidemill"))
            .env_remove("TIDEMILL_MODEL")
            .args(["serve", "--port", "0", "--ctx-size", "512"])
            .args(flags)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(program.stderr.take().unwrap());
        let mut server = Self {
            program,
            said,
            address: String::new(),
        };
        let line = server.says("listening on ");
        server.address = line.rsplit("//").next().unwrap().to_owned();
        server
    }

    /// Waits for a line with this in it.
    fn says(&mut self, what: &str) -> String {
        let mut line = String::new();
        let mut all = String::new();
        while !line.contains(what) {
            line.clear();
            let read = self.said.read_line(&mut line).unwrap();
            all.push_str(&line);
            assert!(read > 0, "{what:?} was not said: {all}");
        }
        line.trim().to_owned()
    }

    fn get(&self, path: &str) -> String {
        self.send(&format!("GET {path} HTTP/1.1"), "")
    }

    fn post(&self, path: &str, body: &str) -> String {
        self.send(&format!("POST {path} HTTP/1.1"), body)
    }

    fn send(&self, first: &str, body: &str) -> String {
        let mut connection = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        let head = format!("{first}\r\nhost: t\r\nconnection: close\r\ncontent-length: {length}");
        write!(connection, "{head}\r\n\r\n{body}").unwrap();
        let mut reply = String::new();
        connection.read_to_string(&mut reply).unwrap();
        reply
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

fn fails(flags: &[&str], status: i32, says: &str) {
    let output = Command::new(env!("CARGO_BIN_EXE_tidemill"))
        .env_remove("TIDEMILL_MODEL")
        .args(["serve", "--port", "0"])
        .args(flags)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(status), "{flags:?}: {said}");
    assert!(said.contains(says), "{flags:?}: {said}");
}

#[test]
fn the_server_answers_and_ends_in_order() {
    let mut server = Server::start(&["--alias", "tiny,other"]);
    server.says("loaded in");
    while !server.get("/health").starts_with("HTTP/1.1 200") {
        std::thread::sleep(Duration::from_millis(10));
    }
    let models = server.get("/v1/models");
    assert!(
        models.contains("\"id\":\"tiny\"") && models.contains("\"id\":\"other\""),
        "{models}"
    );
    let asked = Command::new("kill")
        .arg(server.program.id().to_string())
        .status()
        .unwrap();
    assert!(asked.success());
    assert_eq!(server.program.wait().unwrap().code(), Some(0));
}

const CHAT: &str =
    r#"{"model": "NAME", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}"#;

#[test]
fn models_of_a_folder_and_profiles_are_loaded_when_they_are_asked_for() {
    let tiny = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../models/tiny/tidemill-tiny.gguf"
    );
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::os::unix::fs::symlink(std::fs::canonicalize(tiny).unwrap(), path("small.gguf")).unwrap();
    std::fs::write(path("damaged.gguf"), "GGUF").unwrap();
    let profiles = "[coder]\nmodel = SMALL\nclient-sampling = not-greedy\npreset = coding\n\
                    [brief]\nmodel = SMALL\nn-predict = 1\nn-gpu-layers = 99\n";
    let profiles = profiles.replace("SMALL", &path("small.gguf"));
    std::fs::write(path("profiles.ini"), profiles).unwrap();
    let (models, profiles) = (path(""), path("profiles.ini"));
    let mut server = Server::start(&["--models-dir", &models, "--profiles", &profiles]);
    let listed = server.get("/v1/models");
    for name in ["coder", "brief", "small", "damaged"] {
        assert!(listed.contains(&format!("\"id\":\"{name}\"")), "{listed}");
    }
    for name in ["brief", "small", "claude-sonnet-4-5"] {
        let reply = server.post("/v1/chat/completions", &CHAT.replace("NAME", name));
        assert!(reply.starts_with("HTTP/1.1 200"), "{name}: {reply}");
    }
    let reply = server.post("/v1/chat/completions", &CHAT.replace("NAME", "damaged"));
    assert!(reply.starts_with("HTTP/1.1 503"), "{reply}");
    let reply = server.post("/v1/chat/completions", &CHAT.replace("NAME", "nobody"));
    assert!(reply.starts_with("HTTP/1.1 404"), "{reply}");
    let reply = server.get("/props?model=coder");
    assert!(reply.contains("\"temperature\":0.6"), "{reply}");
    server.says("loaded in");
}

#[test]
fn profiles_without_a_model_are_of_the_one_inside_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let profiles = folder.path().join("profiles.ini");
    std::fs::write(
        &profiles,
        "[coder]\npreset = coding\n[brief]\nn-predict = 1\n",
    )
    .unwrap();
    let profiles = profiles.to_str().unwrap();
    let server = Server::start(&["--profiles", profiles]);
    for name in ["coder", "brief"] {
        let reply = server.post("/v1/chat/completions", &CHAT.replace("NAME", name));
        assert!(reply.starts_with("HTTP/1.1 200"), "{name}: {reply}");
    }
    // In a folder of models it may be a slip of the pen.
    let models = folder.path().to_str().unwrap();
    let flags = ["--profiles", profiles, "--models-dir", models];
    fails(&flags, 2, "\"coder\" names no model");
}

#[test]
fn keys_that_are_none_are_a_mistake() {
    fails(&["--api-key", " "], 2, "holds no key");
}

#[test]
fn what_llama_server_takes_is_taken() {
    // One of each in the list of flags that people have in their scripts.
    let taken = [
        "-b 64",
        "-ub 64",
        "-t 1",
        "-tb 1",
        "-np 2",
        "-ctk f16",
        "-ctv f16",
        "-fa on",
        "-fa",
        "-ngl 99",
        "-ot exps=CPU",
        "--n-cpu-moe 4",
        "--fit on",
        "--fit-target 1024",
        "--no-mmap",
        "--jinja",
        "--chat-template-kwargs {\"enable_thinking\":false}",
        "--reasoning-format deepseek",
        "--reasoning-budget 64",
        "--mmproj /nowhere.gguf",
        "--no-context-shift",
        "--cache-reuse 256",
        "--temp 0.5",
        "--top-k 20",
        "--top-p 0.9",
        "--min-p 0.05",
        "--presence-penalty 0.1",
        "--repeat-penalty 1.0",
        "--seed 7",
        "--host 127.0.0.1",
        "--api-key k",
        "--alias a",
        "--metrics",
        "--slots",
        "-n 5",
        "-c 512",
    ];
    let flags: Vec<&str> = taken.iter().flat_map(|flag| flag.split(' ')).collect();
    let mut server = Server::start(&flags);
    for flag in ["--n-gpu-layers", "--n-cpu-moe", "--override-tensor"] {
        server.says(&format!("note: {flag}: models are computed by the CPU"));
    }
    server.says("loaded in");
    for (typed, name) in [
        ("-fa", "-fa"),
        ("-tb", "-tb"),
        ("--fit-ctx", "--fit-ctx"),
        ("--mmproj", "--mmproj"),
        ("--cache-reuse", "--cache-reuse"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_tidemill"))
            .args(["serve", typed, "1", "--no-such-flag"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(&format!("note: {name}: ")), "{typed}: {said}");
        assert!(said.contains("ignored"), "{typed}: {said}");
    }
    fails(&["-m", "/nowhere.gguf"], 3, "/nowhere.gguf");
    fails(
        &["--chat-template-file", "/nowhere.jinja", "--mlock"],
        3,
        "/nowhere.jinja",
    );
    fails(
        &["-hf", "nobody/nothing:Q8_0", "--offline"],
        5,
        "nobody/nothing:Q8_0 is not in the cache",
    );
    fails(&["-hff", "x.gguf"], 2, "-hf owner/model");
    fails(&["--ctx-sizes", "5"], 2, "--ctx-size");
    fails(&["--n-gpu-layer", "5"], 2, "--n-gpu-layers");
    fails(&["--temprature", "5"], 2, "--temperature");
    fails(&["--tls-cert", "x"], 2, "--tls-key");
}
