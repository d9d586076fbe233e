//! The program as a shell sees it: streams, exit codes, help.

use assert_cmd::Command;

fn tidemill(args: &[&str]) -> assert_cmd::assert::Assert {
    Command::new(env!("CARGO_BIN_EXE_tidemill"))
        .env_remove("TIDEMILL_MODEL")
        .args(args)
        .assert()
}

fn stderr_of(assert: &assert_cmd::assert::Assert) -> String {
    String::from_utf8_lossy(&assert.get_output().stderr).into_owned()
}

#[test]
fn help_goes_to_stdout_and_names_the_exit_codes() {
    let assert = tidemill(&["--help"]).code(0);
    let output = assert.get_output();
    let help = String::from_utf8_lossy(&output.stdout);
    assert!(
        help.contains("convert") && help.contains("Exit codes"),
        "{help}"
    );
    assert!(output.stderr.is_empty());
}

#[test]
fn mistakes_end_with_their_codes() {
    let check = |args: &[&str], code: i32, says: &str| {
        let assert = tidemill(args).code(code);
        let stderr = stderr_of(&assert);
        assert!(stderr.contains(says), "{args:?}: {stderr}");
        assert!(assert.get_output().stdout.is_empty(), "{args:?}");
    };
    check(&["nothing"], 2, "unrecognized subcommand");
    check(
        &["synth", "--arch", "gpt-2", "-o", "x.gguf"],
        2,
        "qwen3.5-35b-a3b",
    );
    check(
        &["convert", "/does/not/exist", "-o", "x.gguf"],
        3,
        "/does/not/exist",
    );
}

#[test]
fn a_model_of_another_family_is_unsupported() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("config.json"),
        r#"{"model_type": "llama"}"#,
    )
    .unwrap();
    let target = folder.path().join("x.gguf");
    let assert = tidemill(&[
        "convert",
        folder.path().to_str().unwrap(),
        "-o",
        target.to_str().unwrap(),
    ])
    .code(4);
    assert!(stderr_of(&assert).contains("llama"));
    assert!(!target.exists());
}

#[test]
fn a_machine_is_looked_over() {
    let assert = tidemill(&["doctor", "-o", "json"]).code(0);
    let said = String::from_utf8_lossy(&assert.get_output().stdout).into_owned();
    assert!(said.contains("\"runs\": true"), "{said}");
}

#[test]
fn a_machine_that_is_not_there_is_planned_for() {
    let described = [
        "plan", "-m", "35b-a3b", "--gpu", "5080", "--ram", "64G", "--ram-bw", "80",
    ];
    let assert = tidemill(&[&described[..], &["--all"]].concat()).code(0);
    let said = String::from_utf8_lossy(&assert.get_output().stdout).into_owned();
    assert!(said.contains("| MXFP4_MOE |"), "{said}");
    let assert = tidemill(&["plan", "-m", "35b-a3b", "--vram", "16G"]).code(2);
    assert!(stderr_of(&assert).contains("--gpu-bw"));
    let small = [
        "plan",
        "-m",
        "397b-a17b",
        "--gpu",
        "none",
        "--ram",
        "64G",
        "--ram-bw",
        "80",
    ];
    let assert = tidemill(&small).code(1);
    assert!(stderr_of(&assert).contains("of RAM are needed"));
}
