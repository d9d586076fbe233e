//! Prompts that come back after a restart, and drafts, as a user of `tidemill run` sees them.
#![expect(clippy::unwrap_used, reason = "a test ends where it is surprised")]

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::Value;

const QUESTION: &str = "Tell a story about a fox and a lantern.";

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command
        .env_remove("TIDEMILL_MODEL")
        .env_remove("TIDEMILL_CACHE_DIR")
        .args(args);
    command
}

fn ask(args: &[&str]) -> Value {
    let mut all = vec!["run", "--json", "--temp", "0", "-n", "24", "-p", QUESTION];
    all.extend_from_slice(args);
    let assert = command(&all).assert().code(0);
    serde_json::from_slice(&assert.get_output().stdout).unwrap()
}

/// What the program says on stderr.
fn notes(args: &[&str], code: i32) -> String {
    let assert = command(args).assert().code(code);
    String::from_utf8_lossy(&assert.get_output().stderr).into_owned()
}

fn number(answer: &Value, name: &str) -> u64 {
    answer["usage"][name].as_u64().unwrap()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let models = std::fs::read_dir(folder).unwrap();
    models
        .flat_map(|entry| std::fs::read_dir(entry.unwrap().path()).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some())
        .collect()
}

#[test]
fn prompts_come_back_from_disk() {
    let folder = tempfile::tempdir().unwrap();
    // The folder is made.
    let cache = folder.path().join("a/b");
    let cache = cache.to_str().unwrap();
    let system = "You answer briefly, and you never lie. ".repeat(20);
    let args = ["--system", &system, "--cache-dir", cache];

    let plain = ask(&args[..2]);
    let first = ask(&args);
    assert_eq!(number(&first, "cached_tokens"), 0);
    assert_eq!(first["usage"]["cached_in"], Value::Null);
    let second = ask(&args);
    // All but the header of the answer.
    let (prompt, cached) = (
        number(&second, "prompt_tokens"),
        number(&second, "cached_tokens"),
    );
    assert!((prompt - 10..prompt).contains(&cached), "{second}");
    assert_eq!(second["usage"]["cached_in"], "disk");
    for answer in [&first, &second] {
        assert_eq!(answer["tokens"], plain["tokens"]);
    }
    // Another question shares the system message; another form of keys and values shares nothing.
    let other = [&["run", "-n", "2", "-p", "Who are you?"], &args[..]].concat();
    assert!(notes(&other, 0).contains(" cached on disk ("));
    let others = ask(&[&args[..], &["--cache-type-k", "f32"]].concat());
    assert_eq!(number(&others, "cached_tokens"), 0, "{others}");
    assert_eq!(
        others["usage"]["why_not_more"],
        "stored by another model or under other settings"
    );
    // Without a cache nothing is looked up.
    let off = ask(&[&args[..2], &["--cache-ram", "0"]].concat());
    assert_eq!(off["usage"]["why_not_more"], "caching is off");
}

#[test]
fn the_folder_stays_within_its_size() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().to_str().unwrap();
    let bytes = || -> u64 {
        let files = files(folder.path());
        files
            .iter()
            .map(|path| path.metadata().unwrap().len())
            .sum()
    };
    let run = |size: &str, question: &str| {
        let args = ["run", "--cache-dir", cache, "--cache-disk", size];
        notes(&[&args[..], &["-n", "2", "-p", question]].concat(), 0);
    };
    run("1G", "Who are you?");
    let one = bytes();
    assert!(one > 0);
    for question in ["What is 1 + 1?", "What is 2 + 2?", "What is 3 + 3?"] {
        run("1G", question);
    }
    assert!(bytes() > 2 * one, "{} and {one}", bytes());
    let limit = format!("{}k", one * 3 / 2 / 1024);
    run(&limit, "What is 4 + 4?");
    assert!(
        (1..=one * 3 / 2).contains(&bytes()),
        "{} and {one}",
        bytes()
    );
}

#[test]
fn folders_that_cannot_be_used_are_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let below = file.join("cache");
    let check = |args: &[&str], code: i32, says: &[&str]| {
        let notes = notes(&[&["run", "-p", "hi"], args].concat(), code);
        for part in says {
            assert!(notes.contains(part), "{args:?}: {notes}");
        }
    };
    let (file, below) = (file.to_str().unwrap(), below.to_str().unwrap());
    for path in [file, below] {
        check(&["--cache-dir", path], 1, &["the cache directory", path]);
    }
    let cache = folder.path().join("cache");
    let cache = ["--cache-dir", cache.to_str().unwrap()];
    check(
        &[&cache[..], &["--cache-disk", "1k"]].concat(),
        2,
        &["--cache-disk is 1.00 KiB"],
    );
    check(
        &[&cache[..], &["--cache-disk", "20 apples"]].concat(),
        2,
        &["20G"],
    );
    check(
        &[&cache[..], &["--cache-ram", "0"]].concat(),
        2,
        &["--cache-ram"],
    );
}

/// A limit on the size of files stands for a full disk.
#[cfg(unix)]
#[test]
fn a_full_disk_is_said_once_and_costs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let plain = ask(&[]);
    let script = "trap '' XFSZ; ulimit -f 4; exec \"$0\" \"$@\"";
    let assert = Command::new("sh")
        .env_remove("TIDEMILL_MODEL")
        .args([
            "-c",
            script,
            env!("CARGO_BIN_EXE_tidemill"),
            "run",
            "--json",
        ])
        .args(["--temp", "0", "-n", "24", "-p", QUESTION, "--cache-dir"])
        .arg(folder.path())
        .assert()
        .code(0);
    let output = assert.get_output();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["tokens"], plain["tokens"]);
    let notes = String::from_utf8_lossy(&output.stderr);
    assert_eq!(notes.matches("cannot be written").count(), 1, "{notes}");
    let left: Vec<PathBuf> = files(folder.path());
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn drafts_never_change_an_answer() {
    let off = ask(&["--spec", "off"]);
    assert_eq!(number(&off, "drafted_tokens"), 0);
    for args in [
        &[][..],
        &["--spec", "mtp", "--draft-max", "1"],
        &["--spec", "mtp", "--draft-max", "8"],
        &["--spec", "lookup"],
        &["--spec-type", "draft-mtp", "--draft", "3"],
    ] {
        let answer = ask(args);
        assert_eq!(answer["tokens"], off["tokens"], "{args:?}");
        let (drafted, accepted) = (
            number(&answer, "drafted_tokens"),
            number(&answer, "accepted_tokens"),
        );
        assert!(accepted <= drafted, "{args:?}: {answer}");
    }
}

#[test]
fn drafts_that_cannot_be_made_are_refused() {
    let without = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/goldens/fp8");
    let without = without.to_str().unwrap();
    let args = ["run", "-p", "hi", "-m", without, "--spec", "mtp"];
    let said = notes(&args, 5);
    assert!(said.contains("no multi-token-prediction head"), "{said}");
    let said = notes(&["run", "-p", "hi", "--draft-max", "9"], 2);
    assert!(said.contains("1..=8"), "{said}");
}

#[test]
fn another_model_drafts() {
    let tiny = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../models/tiny/tidemill-tiny.gguf"
    );
    let plain = ask(&["--spec", "off"]);
    let drafted = ask(&["-md", tiny, "--spec", "model"]);
    assert_eq!(drafted["tokens"], plain["tokens"]);
    // What pays is measured, but the first steps always draft.
    assert!(number(&drafted, "drafted_tokens") > 0, "{drafted}");
    let words = |flags: &[&str], code| {
        let mut all = vec!["run", "-p", QUESTION];
        all.extend_from_slice(flags);
        notes(&all, code)
    };
    let usage = words(&["-md", tiny, "--spec", "lookup"], 2);
    assert!(usage.contains("--spec auto or --spec model"), "{usage}");
    let missing = words(&["--spec", "model"], 2);
    assert!(missing.contains("--model-draft"), "{missing}");
}
