//! What is fetched, where it is kept, and when nothing is asked for.

use crate::site::{COMMIT, Site, sha256};
use crate::{Shell, bytes, read, tiny};

#[test]
fn the_type_that_is_named_is_fetched_and_kept_as_hugging_faces_tools_do() {
    let (small, large) = (bytes(1000), bytes(3_000_000));
    let site = Site::with(&[
        ("b-Q4_K_M.gguf", &small),
        ("Q8_0/b-Q8_0-00001-of-00002.gguf", &large),
        ("Q8_0/b-Q8_0-00002-of-00002.gguf", &small),
        ("mmproj-F16.gguf", &small),
    ]);
    let shell = Shell::new(&site);
    assert_eq!(read(&shell.pulls(&["a/b"])), small);
    let path = shell.pulls(&["a/b:q8_0"]);
    assert!(path.ends_with(format!(
        "models--a--b/snapshots/{COMMIT}/Q8_0/b-Q8_0-00001-of-00002.gguf"
    )));
    assert_eq!(read(&path), large);
    assert_eq!(
        read(&path.with_file_name("b-Q8_0-00002-of-00002.gguf")),
        small
    );
    let mut blobs = vec![sha256(&small), sha256(&large)];
    blobs.sort();
    assert_eq!(shell.names("blobs"), blobs);
    assert_eq!(
        read(&shell.cache().join("models--a--b/refs/main")),
        COMMIT.as_bytes()
    );
    let link = std::fs::read_link(&path).unwrap();
    assert!(link.is_relative(), "the cache can be moved: {link:?}");

    site.asked();
    let said = shell.says(&["pull", "a/b:Q8_0"]);
    assert_eq!(said.status, Some(0));
    let asked = site.asked();
    assert_eq!(asked.len(), 1, "only the list: {asked:?}");
    let reader = shell.pulls(&["a/b", "--hf-file", "mmproj-F16.gguf"]);
    assert_eq!(read(&reader), small);
}

#[test]
fn what_has_no_blob_but_a_name_is_there() {
    let model = bytes(1000);
    let site = Site::with(&[("b-Q4_K_M.gguf", &model)]);
    let shell = Shell::new(&site);
    let path = shell.pulls(&["a/b"]);
    // As on a disk that knows no links.
    let blob = std::fs::canonicalize(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::rename(blob, &path).unwrap();
    site.asked();
    assert_eq!(read(&shell.pulls(&["a/b"])), model);
    assert_eq!(site.asked().len(), 1, "only the list");
    // A link that leads nowhere is no file.
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("nowhere", &path).unwrap();
    assert_eq!(read(&shell.pulls(&["a/b"])), model);
}

#[test]
fn a_model_runs_by_its_name_and_is_fetched_but_once() {
    let site = Site::with(&[("tiny-Q8_0.gguf", &tiny()), ("README.md", b"read me")]);
    let shell = Shell::new(&site);
    let ask = ["run", "-hf", "a/b:Q8_0", "-p", "Who are you?", "-n", "2"];
    let said = shell.says(&ask);
    assert_eq!(said.status, Some(0), "{}", said.stderr);
    assert!(
        said.stderr.contains("fetching tiny-Q8_0.gguf"),
        "{}",
        said.stderr
    );
    assert_eq!(site.asked().len(), 2, "the list and the model");
    assert_eq!(shell.says(&ask).status, Some(0));
    assert!(site.asked().is_empty(), "what is there needs no network");
    // Without a type the Hub is asked which one is usual, and the cache has it.
    assert_eq!(shell.says(&["inspect", "/nowhere"]).status, Some(3));
    let said = shell.says(&["run", "-hf", "a/b", "-p", "Who are you?", "-n", "2"]);
    assert_eq!(
        (said.status, site.asked().len()),
        (Some(0), 1),
        "{}",
        said.stderr
    );
}

#[test]
fn a_checkpoint_is_a_folder() {
    let weights = bytes(100_000);
    let site = Site::with(&[
        ("config.json", b"{}"),
        ("tokenizer.json", b"{ }"),
        ("model.safetensors", &weights),
        ("original/model.safetensors", &weights),
    ]);
    let shell = Shell::new(&site);
    let folder = shell.pulls(&["a/b"]);
    assert_eq!(read(&folder.join("model.safetensors")), weights);
    assert_eq!(read(&folder.join("config.json")), b"{}");
    assert!(!folder.join("original").exists());
    let asked = site.asked();
    assert!(
        asked.last().unwrap().path.ends_with("model.safetensors"),
        "weights come last"
    );
}

#[test]
fn two_programs_fetch_a_file_once() {
    let model = bytes(2_000_000);
    let site = Site::with(&[("b-Q4_K_M.gguf", &model)]);
    let shell = Shell::new(&site);
    let started: Vec<_> = (0..3)
        .map(|_| shell.command(&["pull", "a/b"]).spawn().unwrap())
        .collect();
    for mut program in started {
        assert!(program.wait().unwrap().success());
    }
    let asked = site.asked();
    let files = asked
        .iter()
        .filter(|asked| !asked.path.starts_with("/api/"));
    assert_eq!(files.count(), 1, "{asked:?}");
}

#[test]
fn without_a_network_the_cache_has_to_do() {
    let site = Site::with(&[("b-Q8_0.gguf", &bytes(10)), ("b-Q2_K.gguf", &bytes(20))]);
    let mut shell = Shell::new(&site);
    let path = shell.pulls(&["a/b:Q2_K"]);
    site.asked();
    let said = shell.says(&["pull", "a/b", "--offline"]);
    assert_eq!(
        said.stdout.trim(),
        path.to_str().unwrap(),
        "{}",
        said.stderr
    );
    shell.fails(
        &["a/b:Q8_0", "--offline"],
        5,
        &["a/b (Q2_K)", "nothing may be fetched"],
    );
    assert!(site.asked().is_empty());
    // Nobody listens there.
    shell.endpoint = "http://127.0.0.1:1".to_owned();
    let run = ["run", "-hf", "a/b", "-p", "x"];
    let said = shell.says(&run);
    assert!(said.stderr.contains("cannot be reached"), "{}", said.stderr);
    assert!(
        said.stderr.contains("b-Q2_K.gguf of the cache"),
        "{}",
        said.stderr
    );
    shell.fails(&["a/b:Q8_0"], 1, &["http://127.0.0.1:1 cannot be reached"]);
    let said = shell.says(&["run", "-hf", "x/y", "-p", "x"]);
    assert_eq!(said.status, Some(1));
    assert!(
        said.stderr.contains("in the cache there are a/b (Q2_K)"),
        "{}",
        said.stderr
    );
}

#[test]
fn what_changed_at_the_hub_is_fetched_by_pull_alone() {
    let site = Site::with(&[("b-Q4_K_M.gguf", &bytes(10))]);
    let shell = Shell::new(&site);
    let old = shell.pulls(&["a/b"]);
    let newer = Site::with(&[("b-Q4_K_M.gguf", &bytes(30))]);
    let mut list = newer.list();
    let commit = COMMIT.replace('0', "f");
    list["sha"] = commit.clone().into();
    site.set_list(list);
    let said = shell.says(&["pull", "a/b", "--offline"]);
    assert_eq!(said.stdout.trim(), old.to_str().unwrap());
    // The site has the bytes of before: they are refused, and the old ones stay.
    shell.fails(&["a/b"], 1, &["promised 30"]);
    assert_eq!(read(&old), bytes(10));
    assert_eq!(
        read(&shell.cache().join("models--a--b/refs/main")),
        COMMIT.as_bytes()
    );
}
