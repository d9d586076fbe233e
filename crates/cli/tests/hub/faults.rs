//! Networks that break, and servers that answer something else.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use crate::site::{Fault, Site};
use crate::{Shell, bytes, read};

const SIZE: usize = 1_500_000;

/// Fetches one file in spite of faults. Tells the ranges that were asked for.
fn fetches(faults: &[Fault], says: &[&str]) -> Vec<Option<String>> {
    let model = bytes(SIZE);
    let site = Site::with(&[("b-Q4_K_M.gguf", &model)]);
    site.faults(faults);
    let shell = Shell::new(&site);
    let said = shell.says(&["pull", "a/b"]);
    assert_eq!(said.status, Some(0), "{}", said.stderr);
    for what in says {
        assert!(said.stderr.contains(what), "{what:?}: {}", said.stderr);
    }
    assert!(
        read(said.stdout.trim().as_ref()) == model,
        "the bytes are those of the model"
    );
    assert_eq!(shell.names("blobs").len(), 1, "nothing else is left");
    let asked = site.asked().into_iter();
    let files = asked.filter(|asked| !asked.path.starts_with("/api/"));
    files.map(|asked| asked.range).collect()
}

fn from(byte: usize) -> Option<String> {
    Some(format!("bytes={byte}-"))
}

#[test]
fn connections_that_break_are_continued() {
    let ranges = fetches(
        &[Fault::Cut(500_000), Fault::Cut(0), Fault::Cut(700_000)],
        &[],
    );
    assert_eq!(
        ranges,
        [None, from(500_000), from(500_000), from(1_200_000)]
    );
}

#[test]
fn servers_that_know_no_ranges_are_asked_for_all() {
    let ranges = fetches(
        &[
            Fault::Cut(500_000),
            Fault::Whole(800_000),
            Fault::Whole(SIZE),
        ],
        &[],
    );
    assert_eq!(ranges, [None, from(500_000), from(800_000)]);
}

#[test]
fn wrong_bytes_are_fetched_anew() {
    let ranges = fetches(&[Fault::Wrong], &["wrong checksum"]);
    assert_eq!(ranges, [None, None]);
    let ranges = fetches(&[Fault::Cut(9), Fault::OtherRange], &["starting over"]);
    assert_eq!(ranges, [None, from(9), None]);
}

#[test]
fn servers_that_are_busy_are_asked_again() {
    let busy = |status, more: &str| Fault::Status(status, more.to_owned());
    let faults = [
        busy(503, ""),
        busy(429, "retry-after: 1\r\n"),
        busy(500, ""),
        busy(416, ""),
    ];
    assert_eq!(
        fetches(&faults, &["status 429", "once more in 1.0 s"]).len(),
        5
    );
}

#[test]
fn silence_is_no_answer() {
    let ranges = fetches(&[Fault::Silence(Duration::from_secs(4))], &["once more"]);
    assert_eq!(ranges.len(), 2);
}

#[test]
fn a_fetch_that_was_ended_goes_on() {
    let model = bytes(SIZE);
    let site = Site::with(&[("b-Q4_K_M.gguf", &model)]);
    let shell = Shell::new(&site);
    // As many as are tried in vain: the program gives up.
    site.faults(&[Fault::Cut(400_000)]);
    site.faults(&[const { Fault::Cut(0) }; 6]);
    let mut program = shell.command(&["pull", "a/b"]).spawn().unwrap();
    let incomplete = || {
        shell
            .names("blobs")
            .iter()
            .any(|name| name.ends_with(".incomplete"))
    };
    while site.asked().iter().all(|asked| asked.range.is_none()) {
        std::thread::sleep(Duration::from_millis(20));
    }
    program.kill().unwrap();
    program.wait().unwrap();
    assert!(incomplete());
    // What is left of the faults.
    while !site.takes_fault() {}
    site.asked();
    assert!(read(&shell.pulls(&["a/b"])) == model);
    let ranges: Vec<_> = site.asked().into_iter().map(|asked| asked.range).collect();
    assert_eq!(ranges, [None, from(400_000)], "the list, and the rest");
    assert!(!incomplete());
}

#[test]
fn another_file_of_the_same_name_starts_over() {
    let model = bytes(SIZE);
    let site = Site::with(&[("b-Q4_K_M.gguf", &model)]);
    let shell = Shell::new(&site);
    site.faults(&[Fault::Cut(400_000), Fault::Status(404, String::new())]);
    shell.fails(&["a/b"], 5, &["no repository a/b"]);
    site.set_etag("second");
    site.asked();
    let said = shell.says(&["pull", "a/b"]);
    assert_eq!(said.status, Some(0), "{}", said.stderr);
    assert!(said.stderr.contains("another one now"), "{}", said.stderr);
    let ranges: Vec<_> = site.asked().into_iter().map(|asked| asked.range).collect();
    assert_eq!(
        ranges,
        [None, from(400_000), None],
        "the list, the rest, all"
    );
    assert!(read(said.stdout.trim().as_ref()) == model);
}

#[test]
fn ctrl_c_keeps_what_has_come() {
    let site = Site::with(&[("b-Q4_K_M.gguf", &bytes(SIZE))]);
    let shell = Shell::new(&site);
    site.faults(&[Fault::Cut(400_000), Fault::Silence(Duration::from_secs(20))]);
    let mut program = shell.command(&["pull", "a/b"]).spawn().unwrap();
    while site.asked().iter().all(|asked| asked.range.is_none()) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let id = program.id().to_string();
    let asked = std::process::Command::new("kill")
        .args(["-INT", &id])
        .status();
    assert!(asked.unwrap().success());
    let start = Instant::now();
    assert_eq!(program.wait().unwrap().signal(), Some(2));
    assert!(start.elapsed() < Duration::from_secs(2), "at once");
    let names = shell.names("blobs");
    assert!(
        names.iter().any(|name| name.ends_with(".incomplete")),
        "{names:?}"
    );
}
