//! The program with models: answers, logits and everything that can be wrong with what it is given.
#![expect(clippy::unwrap_used, reason = "a test ends where it is surprised")]

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use assert_cmd::assert::Assert;
use formats::safetensors::Checkpoint;
use serde_json::Value;

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command.env_remove("TIDEMILL_MODEL").args(args);
    command
}

fn stdout(assert: &Assert) -> String {
    String::from_utf8(assert.get_output().stdout.clone()).unwrap()
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../model/tests/goldens")
        .join(name)
}

/// A small GGUF file that another program wrote.
fn foreign() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/foreign/dense_text-q8_0.gguf")
}

fn json_answer(args: &[&str]) -> Value {
    let mut all = vec!["run", "--json", "--temp", "0", "-n", "40"];
    all.extend_from_slice(args);
    serde_json::from_str(&stdout(&command(&all).assert().code(0))).unwrap()
}

#[test]
fn the_model_inside_answers() {
    let assert = command(&["run", "-p", "Who are you?", "--thinking", "off"])
        .assert()
        .code(0);
    let answer = stdout(&assert);
    assert!(answer.contains("Tidemill"), "{answer}");
    let notes = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
    assert!(notes.contains("tokens/s"), "{notes}");
}

#[test]
fn standard_input_is_a_prompt_too() {
    let mut run = command(&["run", "--thinking", "off"]);
    let answer = stdout(&run.write_stdin("Who are you?").assert().code(0));
    assert!(answer.contains("Tidemill"), "{answer}");
}

#[test]
fn an_answer_is_the_same_on_every_road() {
    let prompt = ["-p", "Tell a story about a fox and a lantern."];
    let plain = json_answer(&prompt);
    for road in [
        &["-t", "1"][..],
        &["-t", "3"],
        &["-b", "1"],
        &["-b", "7", "-t", "2"],
        &["-c", "512"],
        &["--cache-type-k", "f32", "--cache-type-v", "f32"],
        &["--backend", "reference"],
    ] {
        let answer = json_answer(&[&prompt[..], road].concat());
        assert_eq!(answer["tokens"], plain["tokens"], "{road:?}");
    }
}

#[test]
fn seeds_repeat_answers() {
    let draw = |seed: &str| {
        let sampling = ["--temp", "1.5", "--top-k", "0", "--seed", seed];
        let args = [
            &["run", "--json", "-n", "30", "-p", "Tell a story."][..],
            &sampling,
        ]
        .concat();
        let answer: Value =
            serde_json::from_str(&stdout(&command(&args).assert().code(0))).unwrap();
        answer["tokens"].clone()
    };
    assert_eq!(draw("1"), draw("1"));
    assert_ne!(draw("1"), draw("2"));
}

/// `tidemill logits` as a shell would use it, against what transformers computes.
#[test]
fn logits_agree_with_transformers_from_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("logits.safetensors");
    let floats = |checkpoint: &Checkpoint, name: &str| -> Vec<f32> {
        let bytes = checkpoint.tensor(name).unwrap().bytes;
        bytes
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect()
    };
    for name in [
        "moe_text",
        "moe_composite",
        "dense_text",
        "qwen3_next",
        "fp8",
    ] {
        let model = golden(name);
        let tokens = model.join("prompt.json");
        let expected = Checkpoint::open(&model.join("golden.safetensors")).unwrap();
        for (backend, chunk) in [
            ("cpu", "1"),
            ("cpu", "7"),
            ("cpu", "64"),
            ("cpu", "150"),
            ("reference", "64"),
        ] {
            command(&[
                "logits",
                "--backend",
                backend,
                "--chunk",
                chunk,
                "--greedy",
                "16",
            ])
            .arg("-m")
            .arg(&model)
            .arg("--tokens")
            .arg(&tokens)
            .arg("--out")
            .arg(&out)
            .assert()
            .code(0);
            let ours = Checkpoint::open(&out).unwrap();
            for what in ["logits", "greedy_logits"] {
                let (ours, theirs) = (floats(&ours, what), floats(&expected, what));
                assert_eq!(ours.len(), theirs.len());
                let differences = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs());
                let largest = differences.fold(0.0, f32::max);
                assert!(
                    largest < 5e-4,
                    "{name}, {backend}, chunks of {chunk}: {what} {largest}"
                );
            }
            let ids = |file: &Checkpoint| file.tensor("greedy_tokens").unwrap().bytes.to_vec();
            assert_eq!(
                ids(&ours),
                ids(&expected),
                "{name}, {backend}, chunks of {chunk}"
            );
        }
    }
}

#[test]
fn bad_input_is_refused_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let check = |args: &[&str], code: i32, says: &[&str]| {
        let assert = command(args).write_stdin("").assert().code(code);
        let notes = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
        for part in says {
            assert!(notes.contains(part), "{args:?}: {notes}");
        }
        assert!(!notes.contains("panicked"), "{args:?}: {notes}");
    };
    check(&["run", "-p", " "], 5, &["the prompt is empty"]);
    check(&["run"], 5, &["the prompt is empty"]);
    check(
        &["run", "-c", "8", "-p", "Tell a long story."],
        5,
        &["context is 8", "-c"],
    );
    check(&["run", "-p", "hi", "--temp", "-1"], 2, &["-1"]);
    check(&["run", "-p", "hi", "--top-p", "7"], 2, &["top_p is 7"]);
    check(
        &["run", "-p", "hi", "--chat-template-kwargs", "{"],
        2,
        &["JSON object"],
    );
    check(
        &[
            "run",
            "-p",
            "hi",
            "--chat-template-kwargs",
            "{\"messages\": 1}",
        ],
        5,
        &["messages"],
    );
    check(
        &["run", "-p", "hi", "-m", "/no/such.gguf"],
        3,
        &["/no/such.gguf"],
    );
    check(
        &["run", "-p", "hi", "-m", folder.path().to_str().unwrap()],
        3,
        &["config.json"],
    );

    let looping = "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}";
    let looping = file("looping.jinja", looping.as_bytes());
    check(
        &["run", "-p", "hi", "--chat-template-file", &looping],
        3,
        &["loop"],
    );
    let raising = file("raising.jinja", b"{{ raise_exception('no such talk') }}");
    check(
        &["run", "-p", "hi", "--chat-template-file", &raising],
        5,
        &["no such talk"],
    );
    let broken = file("broken.jinja", b"{% if %}");
    check(
        &["run", "-p", "hi", "--chat-template-file", &broken],
        3,
        &["line 1"],
    );

    let tools = file("tools.json", b"{}");
    check(
        &["run", "-p", "hi", "--tools", &tools],
        5,
        &["JSON list of tools"],
    );

    let model = golden("dense_text");
    let model = model.to_str().unwrap();
    let out = folder.path().join("out.safetensors");
    let out = out.to_str().unwrap();
    let logits = |ids: &str| -> Vec<String> {
        ["logits", "-m", model, "--out", out, "--tokens", ids]
            .map(str::to_owned)
            .to_vec()
    };
    for (content, says) in [
        (&b"[1, 2, 999]"[..], "999"),
        (b"[]", "no tokens"),
        (b"[1, -2]", "JSON list of token ids"),
        (b"nonsense", "JSON list of token ids"),
    ] {
        let args = logits(&file("ids.json", content));
        check(
            &args.iter().map(String::as_str).collect::<Vec<_>>(),
            5,
            &[says],
        );
    }
    check(&["run", "-p", "hi", "-m", model], 3, &["no chat template"]);
}

#[test]
fn damaged_files_are_refused_with_their_reason() {
    let folder = tempfile::tempdir().unwrap();
    let whole = std::fs::read(foreign()).unwrap();
    let path = folder.path().join("damaged.gguf");
    let path = path.to_str().unwrap();
    let check = |content: &[u8], code: i32, says: &str| {
        std::fs::write(path, content).unwrap();
        for args in [&["run", "-p", "hi", "-m", path][..], &["inspect", path]] {
            let assert = command(args).assert();
            let output = assert.get_output();
            let text = [output.stderr.as_slice(), &output.stdout].concat();
            let text = String::from_utf8_lossy(&text).into_owned();
            assert!(text.contains(says), "{args:?}: {text}");
            assert!(!text.contains("panicked"), "{args:?}: {text}");
            assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        }
    };
    check(&whole[..whole.len() - 5000], 3, "blk.");
    check(&whole[..2000], 3, "damaged.gguf");
    check(b"", 3, "damaged.gguf");
    check(b"<!DOCTYPE html><html>not found</html>", 3, "HTML");
    check(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
        3,
        "git-lfs",
    );
    let mut wrong = whole.clone();
    let at = wrong.windows(6).position(|w| w == b"qwen35").unwrap();
    wrong[at..at + 6].copy_from_slice(b"llama9");
    std::fs::write(path, &wrong).unwrap();
    let assert = command(&["run", "-p", "hi", "-m", path]).assert().code(4);
    let notes = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
    assert!(
        notes.contains("llama9") && notes.contains("qwen35moe"),
        "{notes}"
    );
}
