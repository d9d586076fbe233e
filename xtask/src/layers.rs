//! Which crate may know which: the arrows of ARCHITECTURE.md, checked against the manifests.
//!
//! Also keeps `unsafe` in the few files that are allowed to hold it. It reads manifests and
//! source text; it does not see what a crate re-exports.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::size::rust_files;
use crate::{Outcome, cargo, say};

/// The workspace crates that each crate may depend on, in tests too.
const ALLOWED: [(&str, &[&str]); 9] = [
    ("formats", &[]),
    ("tensor", &["formats"]),
    ("cpu", &["formats", "tensor"]),
    ("gpu", &["formats", "tensor"]),
    ("hybrid", &["formats", "tensor"]),
    ("model", &["formats", "tensor"]),
    ("text", &["formats"]),
    (
        "engine",
        &["formats", "tensor", "cpu", "gpu", "hybrid", "model", "text"],
    ),
    ("server", &["formats", "engine", "text"]),
];

/// Libraries that only these crates may use, outside their tests.
const ONLY_IN: [(&[&str], &[&str]); 9] = [
    (
        &[
            "tokio",
            "tokio-stream",
            "axum",
            "hyper",
            "hyper-util",
            "tower",
            "tower-http",
        ],
        &["server"],
    ),
    (
        &["clap", "anyhow", "tracing-subscriber"],
        &["tidemill", "xtask"],
    ),
    // Formats, tensor and text start no threads; model does not know what a thread is.
    (
        &["rayon", "crossbeam", "crossbeam-channel"],
        &["tidemill", "cpu", "gpu", "engine", "server"],
    ),
    (&["memmap2"], &["formats"]),
    // Models are fetched before there is an engine or a server.
    (&["reqwest"], &["tidemill"]),
    (&["libc", "rustix"], &["formats", "cpu", "gpu", "tidemill"]),
    (&["libloading"], &["gpu"]),
    (&["minijinja", "tokenizers"], &["text"]),
    // What users write to choose tensors.
    (&["regex"], &["text", "tidemill"]),
];

/// Where `unsafe` may stand: folders and files.
const UNSAFE_IN: [&str; 4] = [
    "crates/cpu/",
    "crates/gpu/",
    "crates/formats/src/bytes.rs",
    // An allocator that counts, to hold the readers to their bounds.
    "crates/formats/tests/mutation.rs",
];

/// The check.
pub(crate) fn run() -> Result<Outcome> {
    let text = cargo::stdout_of(&["metadata", "--no-deps", "--format-version", "1", "--locked"])
        .context("`cargo metadata --locked` failed: is Cargo.lock up to date?")?;
    let metadata: Value = serde_json::from_str(&text).context("read cargo's metadata")?;
    let edges = edges(&metadata)?;
    let mut faults = faults(&edges);
    for path in rust_files(Path::new("."))? {
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let shown = path.display().to_string();
        let shown = shown.trim_start_matches("./");
        if allows_unsafe(&text) && !UNSAFE_IN.iter().any(|place| shown.starts_with(place)) {
            faults.push(format!(
                "{shown} allows unsafe code, which lives in {UNSAFE_IN:?}"
            ));
        }
    }
    for fault in &faults {
        say(fault);
    }
    if !faults.is_empty() {
        bail!("{} broken rules of ARCHITECTURE.md", faults.len());
    }
    Ok(Outcome::Passed(format!(
        "{} crates, {} dependencies",
        edges.keys().len(),
        edges.values().map(Vec::len).sum::<usize>()
    )))
}

/// A dependency of a crate.
struct Edge {
    to: String,
    in_workspace: bool,
    for_tests: bool,
}

/// The dependencies of every crate of the workspace, by short name (`tidemill-cpu` is `cpu`).
fn edges(metadata: &Value) -> Result<BTreeMap<String, Vec<Edge>>> {
    let packages = metadata["packages"].as_array().context("no packages")?;
    let mut edges = BTreeMap::new();
    for package in packages {
        let dependencies = package["dependencies"].as_array().context("no list")?;
        let list = dependencies.iter().map(|dependency| Edge {
            to: short(dependency["name"].as_str().unwrap_or_default()),
            in_workspace: dependency["path"].is_string(),
            for_tests: dependency["kind"] == "dev",
        });
        let name = package["name"].as_str().context("no name")?;
        edges.insert(short(name), list.collect());
    }
    Ok(edges)
}

fn short(name: &str) -> String {
    name.strip_prefix("tidemill-").unwrap_or(name).to_owned()
}

fn faults(edges: &BTreeMap<String, Vec<Edge>>) -> Vec<String> {
    let mut faults = Vec::new();
    for (from, list) in edges {
        for edge in list {
            let to = &edge.to;
            if edge.in_workspace {
                // The program at the end may use every crate, and xtask checks them from outside.
                let allowed = ALLOWED.iter().find(|(name, _)| name == from);
                let fine = match allowed {
                    Some((_, allowed)) => allowed.contains(&to.as_str()),
                    None => from == "tidemill",
                };
                if !fine {
                    faults.push(format!("{from} must not depend on {to}"));
                }
            } else if !edge.for_tests {
                for (libraries, homes) in ONLY_IN {
                    if libraries.contains(&to.as_str()) && !homes.contains(&from.as_str()) {
                        faults.push(format!("{from} must not use {to}: only {homes:?} may"));
                    }
                }
            }
        }
    }
    faults
}

/// Whether the text lifts the workspace's lint against unsafe blocks anywhere.
fn allows_unsafe(text: &str) -> bool {
    // Spelled in two parts so that this file does not find itself.
    let lint = concat!("unsafe", "_code");
    text.contains(lint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(to: &str, in_workspace: bool, for_tests: bool) -> Edge {
        Edge {
            to: to.to_owned(),
            in_workspace,
            for_tests,
        }
    }

    #[test]
    fn broken_arrows_are_found() {
        let check =
            |from: &str, edge: Edge| faults(&BTreeMap::from([(from.to_owned(), vec![edge])])).len();
        assert_eq!(check("tensor", edge("formats", true, false)), 0);
        assert_eq!(check("formats", edge("tensor", true, false)), 1);
        assert_eq!(check("model", edge("cpu", true, true)), 1, "in tests too");
        assert_eq!(check("tidemill", edge("engine", true, false)), 0);
        assert_eq!(check("engine", edge("tokio", false, false)), 1);
        assert_eq!(check("text", edge("rayon", false, false)), 1);
        assert_eq!(check("text", edge("tokenizers", false, true)), 0);
        assert_eq!(check("model", edge("anyhow", false, true)), 0);
        assert_eq!(check("newcomer", edge("formats", true, false)), 1);
    }
}
