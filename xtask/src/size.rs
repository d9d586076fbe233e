//! How long the source files are: small files are a rule of the house.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::{Outcome, say};

/// At this many lines one should think of a split.
const WARN_LINES: usize = 500;
/// Longer files are refused, except tables and tests.
const MAX_LINES: usize = 800;

/// The check.
pub(crate) fn run() -> Result<Outcome> {
    let mut files = Vec::new();
    for path in rust_files(Path::new("."))? {
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        files.push((text.lines().count(), path));
    }
    files.sort();
    let (Some((longest, longest_path)), Some((median, _))) =
        (files.last(), files.get(files.len() / 2))
    else {
        bail!("no source files");
    };
    let mut per_crate: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for (lines, path) in &files {
        let entry = per_crate.entry(crate_of(path)).or_default();
        entry.0 += 1;
        entry.1 += lines;
    }
    for (name, (count, lines)) in &per_crate {
        say(&format!("{name:<10} {count:>4} files {lines:>7} lines"));
    }
    say(&format!(
        "median {median}, longest {longest}: {}",
        longest_path.display()
    ));
    let mut too_long = 0;
    for (lines, path) in files.iter().filter(|(lines, _)| *lines > WARN_LINES) {
        let verdict = match (is_exempt(path), *lines > MAX_LINES) {
            (true, _) => continue,
            (false, true) => {
                too_long += 1;
                "too long: split it"
            }
            (false, false) => "warning: think of a split",
        };
        say(&format!("{}: {lines} lines, {verdict}", path.display()));
    }
    if too_long > 0 {
        bail!("{too_long} files have more than {MAX_LINES} lines");
    }
    let total: usize = files.iter().map(|(lines, _)| lines).sum();
    Ok(Outcome::Passed(format!(
        "{} files, {total} lines, median {median}, longest {longest}",
        files.len()
    )))
}

/// Every `.rs` file below a folder, without build outputs and hidden folders, sorted.
pub(crate) fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries =
            std::fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))?;
        for entry in entries {
            let path = entry
                .with_context(|| format!("list {}", folder.display()))?
                .path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() {
                if !name.starts_with('.') && !name.starts_with("target") {
                    folders.push(path);
                }
            } else if name.ends_with(".rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Tables and tests may be long.
fn is_exempt(path: &Path) -> bool {
    let in_tests = path.components().any(|part| part.as_os_str() == "tests");
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    in_tests || stem == "tests" || stem.contains("table")
}

fn crate_of(path: &Path) -> String {
    let parts: Vec<_> = path
        .components()
        .map(|part| part.as_os_str().to_string_lossy())
        .filter(|part| part != ".")
        .collect();
    match parts.as_slice() {
        [folder, name, ..] if folder == "crates" => name.to_string(),
        [name, ..] => name.to_string(),
        [] => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tables_and_tests_may_be_long() {
        assert!(is_exempt(Path::new("./crates/cli/tests/run.rs")));
        assert!(is_exempt(Path::new("./crates/tensor/src/quant/tables.rs")));
        assert!(!is_exempt(Path::new("./crates/cpu/src/lib.rs")));
    }

    #[test]
    fn files_are_counted_by_crate() {
        assert_eq!(crate_of(Path::new("./crates/cpu/src/lib.rs")), "cpu");
        assert_eq!(crate_of(Path::new("./xtask/src/main.rs")), "xtask");
    }
}
