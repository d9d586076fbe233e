//! Plans for models that are elsewhere: their headers are read, and nothing is kept.

use serde_json::Value;

use crate::site::{Fault, Site};
use crate::{Shell, tiny};

const MACHINE: [&str; 6] = ["--gpu", "4090", "--ram", "8G", "--ram-bw", "50"];

fn plans(shell: &Shell, args: &[&str]) -> Value {
    let said = shell.says(&[&["plan", "-o", "json"], args, &MACHINE].concat());
    assert_eq!(said.status, Some(0), "{}", said.stderr);
    serde_json::from_str(&said.stdout).unwrap()
}

#[test]
fn a_models_header_is_enough_and_nothing_is_kept() {
    let site = Site::with(&[("m-Q8_0.gguf", &tiny())]);
    let shell = Shell::new(&site);
    site.faults(&[Fault::Status(503, String::new())]);
    let plan = plans(&shell, &["-hf", "a/b:Q8_0"]);
    assert_eq!(plan["model"]["name"], "a/b:Q8_0");
    assert_eq!(plan["model"]["parameters"], 8_872_664);
    assert_eq!(plan["layers_on_gpus"], 4);
    assert_eq!(shell.names("blobs"), Vec::<String>::new());
    // The same as of the file itself.
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../models/tiny/tidemill-tiny.gguf"
    );
    let own = plans(&shell, &["-m", path]);
    assert_eq!(own["parts"], plan["parts"]);
    assert_eq!(own["speeds"], plan["speeds"]);
}

#[test]
fn an_address_is_enough() {
    let site = Site::with(&[("m.gguf", &tiny())]);
    let shell = Shell::new(&site);
    let address = format!(
        "{}/a/b/resolve/{}/m.gguf",
        site.endpoint(),
        crate::site::COMMIT
    );
    let plan = plans(&shell, &["-m", &address]);
    assert_eq!(plan["model"]["parameters"], 8_872_664);
    let asked = site.asked();
    assert_eq!(asked[0].range.as_deref(), Some("bytes=0-2097151"));
    assert!(!asked[0].has_token);
}

#[test]
fn what_is_elsewhere_and_no_model_is_refused() {
    let site = Site::with(&[("m.gguf", b"<html>")]);
    let shell = Shell::new(&site);
    let said = shell.says(&[&["plan", "-hf", "a/b"][..], &MACHINE].concat());
    assert_eq!(said.status, Some(3), "{}", said.stderr);
    let said = shell.says(&["plan", "-m", "http://127.0.0.1:9/x.bin"]);
    assert_eq!(said.status, Some(2), "{}", said.stderr);
}
