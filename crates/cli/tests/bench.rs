//! `tidemill bench`: the forms of its results, and what it refuses.
#![expect(clippy::unwrap_used, reason = "a test ends where it is surprised")]

use std::collections::BTreeMap;

use assert_cmd::Command;
use serde_json::Value;

fn bench(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command
        .env_remove("TIDEMILL_MODEL")
        .env_remove("TIDEMILL_THREADS")
        .args(["bench", "-r", "1", "--no-warmup"])
        .args(args);
    command
}

fn stdout(args: &[&str]) -> String {
    let output = bench(args).assert().code(0).get_output().stdout.clone();
    String::from_utf8(output).unwrap()
}

fn records(args: &[&str]) -> Vec<Value> {
    let text = stdout(&[args, &["-o", "json"]].concat());
    serde_json::from_str(&text).unwrap()
}

fn names(records: &[Value]) -> Vec<&str> {
    records
        .iter()
        .map(|record| record["test"].as_str().unwrap())
        .collect()
}

#[test]
fn json_says_what_was_measured_and_how_far_the_limits_are() {
    let records = records(&["-p", "8", "-n", "4", "-d", "0,16", "-t", "1"]);
    assert_eq!(names(&records), ["pp8", "tg4", "pp8 @ d16", "tg4 @ d16"]);
    for record in &records {
        assert_eq!(record["n_threads"], 1);
        assert_eq!(record["model_n_params"], 8_872_664);
        assert_eq!(record["samples_ns"].as_array().unwrap().len(), 1);
        assert!(record["avg_ts"].as_f64().unwrap() > 0.0);
        assert_eq!(record["median_ts"], record["max_ts"]);
        assert!(record["system"].as_str().unwrap().len() > 3);
    }
    let decode = &records[3];
    assert_eq!(
        (&decode["n_depth"], &decode["n_gen"]),
        (&16.into(), &4.into())
    );
    // Two heads of 64 keys and 64 values in f16, one layer, 16 + 2.5 tokens on average.
    assert_eq!(decode["cache_bytes_per_token"], 512.0 * 18.5);
    let fraction = decode["bandwidth_fraction"].as_f64().unwrap();
    let rate = decode["bytes_per_second"].as_f64().unwrap();
    let bandwidth = decode["read_bandwidth"].as_f64().unwrap();
    assert!((fraction * bandwidth / rate - 1.0).abs() < 1e-9);
    assert!(records[0]["macs_per_token"].as_f64().unwrap() > 1e6);
    assert_eq!(records[0]["bytes_per_token"], Value::Null);
}

#[test]
fn every_form_has_the_same_results() {
    let args = ["-p", "8", "-n", "4", "-t", "2"];
    let with = |form: &str| stdout(&[&args[..], &["-o", form]].concat());

    let lines = with("jsonl");
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(names(&lines), ["pp8", "tg4"]);

    let csv = with("csv");
    let rows: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows.len(), 3, "{csv}");
    let column: BTreeMap<_, _> = rows[0]
        .iter()
        .enumerate()
        .map(|(at, name)| (*name, at))
        .collect();
    assert_eq!(rows[1][column["test"]], "pp8");
    assert_eq!(rows[2][column["n_gen"]], "4");
    let fields: Vec<_> = lines[0]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(rows[0], fields);

    let table = with("md");
    let rows: Vec<_> = table
        .lines()
        .take_while(|line| line.starts_with('|'))
        .collect();
    assert_eq!(rows.len(), 4, "{table}");
    assert!(
        rows[2].contains("| pp8 ") && rows[3].contains("| tg4 "),
        "{table}"
    );
    assert!(
        table.contains("peak memory") || !cfg!(target_os = "linux"),
        "{table}"
    );
}

#[test]
fn options_of_one_dash_are_those_people_know() {
    let args = [
        "-p", "0", "-n", "0", "-pg", "6,2", "-ub", "4", "-ctk", "f32,q8_0", "-ctv", "f32",
    ];
    let records = records(&args);
    assert_eq!(names(&records), ["pp6+tg2", "pp6+tg2"]);
    assert_eq!(records[0]["type_k"], "f32");
    assert_eq!(records[1]["type_k"], "q8_0");
    assert_eq!(records[1]["n_ubatch"], 4);
}

#[test]
fn sequences_decode_together() {
    let records = records(&["-npl", "1,3", "-n", "2", "-d", "70"]);
    assert_eq!(names(&records), ["tg2 @ d70", "tg2 x3 @ d70"]);
    let weights = |at: usize| records[at]["weight_bytes_per_token"].as_f64().unwrap();
    assert!(weights(1) < weights(0), "three share what one reads");
}

#[test]
fn turns_run_what_is_new_and_no_more() {
    let records = records(&["--turns", "3", "-p", "50", "-n", "10"]);
    // The first question with its header; then the kept half of the answer, a question, a header.
    assert_eq!(
        names(&records),
        ["turn 1: 54 new", "turn 2: 73 new", "turn 3: 73 new"]
    );
    let cached: Vec<_> = records
        .iter()
        .map(|record| record["n_depth"].as_u64().unwrap())
        .collect();
    assert_eq!(cached, [0, 50, 119]);
    assert!(
        records
            .iter()
            .all(|record| record["first_token_ms"].as_f64().unwrap() > 0.0)
    );
}

#[test]
fn loads_states_and_bandwidth() {
    let loads = records(&["--load", "warm"]);
    assert_eq!(names(&loads), ["load warm"]);
    assert!(loads[0]["first_token_ms"].as_f64().unwrap() > 0.0);

    let states = records(&["--state"]);
    let of = |name: &str| {
        let found = states.iter().find(|record| record["model_type"] == name);
        found.unwrap()["state_bytes"].as_f64().unwrap()
    };
    // 30 delta layers of 32 x 128 x 128 values and three inputs of 8,192 channels, f32.
    assert_eq!(
        of("qwen3.5-35b-a3b"),
        30.0 * (32.0 * 16_384.0 + 3.0 * 8192.0) * 4.0
    );

    let bandwidth = records(&["--bandwidth", "-t", "1"]);
    assert_eq!(names(&bandwidth), ["read bandwidth"]);
    assert!(bandwidth[0]["read_bandwidth"].as_f64().unwrap() > 1e8);
}

#[test]
fn repetitions_are_measured_when_they_are_asked_for() {
    let args = [
        "-p",
        "8",
        "-n",
        "4",
        "-d",
        "0,16",
        "-o",
        "jsonl",
        "--on-demand",
    ];
    let input = "tg4 @ d16\npp8\ntg4 @ d16\nread bandwidth\n";
    let output = bench(&args)
        .write_stdin(input)
        .assert()
        .code(0)
        .get_output()
        .stdout
        .clone();
    let text = String::from_utf8(output).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        names(&lines),
        ["tg4 @ d16", "pp8", "tg4 @ d16", "read bandwidth"]
    );

    let refused = bench(&args).write_stdin("tg5\n").assert().code(5);
    let why = String::from_utf8_lossy(&refused.get_output().stderr).into_owned();
    assert!(why.contains("pp8 @ d16"), "{why}");
}

#[test]
fn files_are_told_apart_by_their_hash() {
    let model = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../engine/tests/foreign/dense_text-q8_0.gguf"
    );
    let record = |more: &[&str]| {
        let all = [&["-m", model, "-p", "4", "-n", "0"][..], more].concat();
        records(&all).remove(0)
    };
    let sampled = record(&[]);
    assert_eq!(sampled["model_hash_kind"], "xxh64-sampled");
    assert_eq!(sampled["model_hash"], record(&[])["model_hash"]);
    let full = record(&["--full-hash", "--no-mmap"]);
    assert_eq!(
        (&sampled["use_mmap"], &full["use_mmap"]),
        (&true.into(), &false.into())
    );
    assert_eq!(full["model_hash_kind"], "xxh64");
    assert_ne!(full["model_hash"], sampled["model_hash"]);
    assert_eq!(full["model_size"], std::fs::metadata(model).unwrap().len());
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let refused = |args: &[&str], code: i32, what: &str| {
        let assert = bench(args).assert().code(code);
        let output = assert.get_output();
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(why.contains(what), "{args:?}: {why}");
    };
    refused(&["-p", "many"], 2, "no list of numbers");
    refused(&["-p", "4", "-b", "0"], 2, "-b 0");
    refused(&["-ctk", "q3_k"], 2, "q3_k");
    refused(&["-pg", "12"], 2, "no pair");
    refused(&["-o", "yaml"], 2, "yaml");
    refused(&["--turns", "0"], 2, "0");
    refused(&["-t", "0"], 2, "0");
    refused(&["-npl", "0"], 2, "-npl 0");
    refused(&["-m", "/nowhere/model.gguf"], 3, "/nowhere/model.gguf");
    refused(&["--on-demand", "-ctk", "f16,f32"], 2, "--on-demand");
    refused(&["--load", "lukewarm"], 2, "lukewarm");
}

#[test]
fn lists_of_threads_are_for_bench_alone() {
    let mut run = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    let assert = run.args(["run", "-p", "x", "-t", "1,2"]).assert().code(2);
    let why = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
    assert!(why.contains("bench"), "{why}");
    let records = records(&["-p", "4", "-n", "0", "-t", "1,2"]);
    let threads: Vec<_> = records
        .iter()
        .map(|record| record["n_threads"].as_u64())
        .collect();
    assert_eq!(threads, [Some(1), Some(2)]);
}
