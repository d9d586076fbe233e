//! What cannot be had, and what is not taken.

use std::time::Instant;

use serde_json::json;

use crate::site::{COMMIT, Fault, Site};
use crate::{Shell, bytes, read};

fn refused(status: u16, more: &str, args: &[&str], says: &[&str]) {
    let site = Site::with(&[("b-Q4_K_M.gguf", &bytes(10))]);
    site.list_faults(&[Fault::Status(status, more.to_owned())]);
    let args = [&["a/b"], args].concat();
    Shell::new(&site).fails(&args, 5, says);
}

#[test]
fn what_may_not_be_had_says_how_it_can_be() {
    let gated = "x-error-code: GatedRepo\r\n";
    refused(
        401,
        gated,
        &[],
        &["only to those who ask", "/a/b", "HF_TOKEN"],
    );
    refused(
        403,
        gated,
        &["--hf-token", "t"],
        &["account that your token is of"],
    );
    let none = "x-error-code: RepoNotFound\r\n";
    refused(
        401,
        none,
        &[],
        &["no repository a/b", "is public", "HF_TOKEN"],
    );
    refused(
        404,
        none,
        &["--hf-token", "t"],
        &["is there for your token"],
    );
    refused(404, "", &[], &["no repository a/b"]);
    refused(401, "", &["--hf-token", "t"], &["the token was refused"]);
}

#[test]
fn other_types_are_named_and_the_nearest_one() {
    let model = bytes(10);
    let site = Site::with(&[("b-Q4_K_M.gguf", &model), ("b-Q8_0.gguf", &model)]);
    let shell = Shell::new(&site);
    shell.fails(
        &["a/b:Q4_K_L"],
        5,
        &["Q4_K_M, Q8_0", "did you mean \"Q4_K_M\"?"],
    );
    shell.fails(&["a/b", "--hf-file", "x.gguf"], 5, &["b-Q8_0.gguf"]);
    shell.fails(&["nonsense"], 2, &["owner/model"]);
    let empty = Site::with(&[("README.md", b"no model")]);
    Shell::new(&empty).fails(&["a/b"], 5, &["no model"]);
}

#[test]
fn servers_that_stay_away_are_given_up() {
    let site = Site::with(&[("b-Q4_K_M.gguf", &bytes(10))]);
    let status = |status| Fault::Status(status, String::new());
    site.list_faults(&[status(503), status(502), status(429)]);
    let start = Instant::now();
    Shell::new(&site).fails(&["a/b"], 1, &["cannot be reached", "status 429"]);
    assert!(start.elapsed().as_secs() < 10);
    let hour = Fault::Status(429, "retry-after: 3600\r\n".to_owned());
    site.list_faults(&[hour]);
    Shell::new(&site).fails(&["a/b"], 1, &["status 429"]);
}

#[test]
fn bytes_with_a_wrong_checksum_are_not_taken() {
    let site = Site::with(&[("b-Q4_K_M.gguf", &bytes(1000))]);
    site.faults(&[Fault::Wrong, Fault::Wrong]);
    let shell = Shell::new(&site);
    shell.fails(&["a/b"], 1, &["wrong checksum"]);
    assert!(shell.names("snapshots").is_empty());
    assert_eq!(
        read(&shell.pulls(&["a/b"])),
        bytes(1000),
        "nothing wrong is left"
    );
}

#[test]
fn lists_that_make_no_sense_are_refused() {
    let site = Site::with(&[("b-Q4_K_M.gguf", &bytes(10))]);
    let shell = Shell::new(&site);
    let file = |path: &str, bytes: u64| {
        json!({
            "sha": COMMIT,
            "siblings": [{"rfilename": path, "size": bytes, "blobId": COMMIT}],
        })
    };
    site.set_list(file("../../../evil-Q4_K_M.gguf", 10));
    shell.fails(&["a/b"], 1, &["evil", "is no name of a file"]);
    site.set_list(json!({"sha": "../../x", "siblings": []}));
    shell.fails(&["a/b"], 1, &["no commit"]);
    site.set_list(json!("nonsense"));
    shell.fails(&["a/b"], 1, &["the list of files"]);
    site.set_list(file("b-Q4_K_M.gguf", u64::MAX / 4));
    shell.fails(&["a/b"], 1, &["more are needed", "are free"]);
    // Less than the file has, and more.
    site.set_list(file("b-Q4_K_M.gguf", 9));
    shell.fails(&["a/b"], 1, &["promised 9"]);
    assert!(shell.names("snapshots").is_empty());
}

#[test]
fn the_token_stays_with_the_hub() {
    let model = bytes(10_000);
    let files = [("b-Q4_K_M.gguf", model.as_slice())];
    let (site, elsewhere) = (Site::with(&files), Site::with(&files));
    site.redirect_to(&elsewhere);
    elsewhere.faults(&[Fault::Cut(100), Fault::Status(403, String::new())]);
    let shell = Shell::new(&site);
    let said = shell.says(&["pull", "a/b", "--hf-token", "hf_secret"]);
    assert_eq!(said.status, Some(0), "{}", said.stderr);
    assert!(read(said.stdout.trim().as_ref()) == model);
    assert!(!said.stderr.contains("secret"), "{}", said.stderr);
    assert!(site.asked().iter().all(|asked| asked.has_token));
    let asked = elsewhere.asked();
    assert_eq!(asked.len(), 3, "{asked:?}");
    assert!(asked.iter().all(|asked| !asked.has_token), "{asked:?}");

    // Round and round.
    site.redirect_to(&site);
    let other = Shell::new(&site);
    other.fails(&["a/b"], 1, &["redirects"]);
}
