//! The web page: its parts in node, the whole of it in a headless Chromium against the program.
//!
//! Fetches what it needs where it may: playwright into an environment of its own below `target`,
//! Chromium from the system's packages. Where a part cannot be had, that part is skipped and the
//! report says so. Pictures of the page are left in `target/screenshots`.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{Outcome, cargo, say, tools};

const BROWSERS: [&str; 4] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
];
/// Where the tests leave pictures: an artefact that continuous integration keeps.
const SCREENSHOTS: &str = "target/screenshots";
const ENVIRONMENT: &str = "target/page-venv";

/// The check.
pub(crate) fn run() -> Result<Outcome> {
    let parts = parts_in_node()?;
    let whole = whole_in_browser()?;
    match (parts, whole) {
        (Ok(()), Ok(())) => Ok(Outcome::Passed(
            "in node and in Chromium; pictures in target/screenshots".to_owned(),
        )),
        (Ok(()), Err(why)) => Ok(Outcome::Skipped(format!("the browser tests: {why}"))),
        (Err(why), Ok(())) => Ok(Outcome::Skipped(format!("the tests in node: {why}"))),
        (Err(node), Err(browser)) => Ok(Outcome::Skipped(format!("{node}; {browser}"))),
    }
}

/// Why something cannot be run here.
type Missing = String;

fn parts_in_node() -> Result<Result<(), Missing>> {
    let Some(version) = stdout_of(Command::new("node").arg("--version")) else {
        return Ok(Err("there is no node".to_owned()));
    };
    let major = version.trim().trim_start_matches('v').split('.').next();
    if major.and_then(|text| text.parse::<u32>().ok()) < Some(20) {
        return Ok(Err(format!("node is {}, too old", version.trim())));
    }
    passes(Command::new("node").args(["--test", "web/tests/"]))?;
    Ok(Ok(()))
}

fn whole_in_browser() -> Result<Result<(), Missing>> {
    let python = match environment() {
        Ok(python) => python,
        Err(error) => return Ok(Err(format!("no playwright: {error:#}"))),
    };
    let Some(browser) = browser() else {
        return Ok(Err("there is no Chromium, and none to install".to_owned()));
    };
    cargo::passes(&mut cargo::command(&[
        "build", "--locked", "-p", "tidemill",
    ]))?;
    let here = std::env::current_dir().context("name the repository")?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(here.join("target"), PathBuf::from);
    let program = format!("tidemill{}", std::env::consts::EXE_SUFFIX);
    let mut tests = Command::new(python);
    tests
        .args(["-m", "unittest", "discover", "-s", "web/browser"])
        .env("TIDEMILL", target.join("debug").join(program))
        .env("CHROMIUM", browser)
        .env("SCREENSHOTS", here.join(SCREENSHOTS));
    clear(Path::new(SCREENSHOTS))?;
    let outcome = passes(&mut tests);
    // Where a test failed, those before it.
    tell_pictures(&here.join(SCREENSHOTS))?;
    outcome.map(Ok)
}

/// Takes away what an earlier run left.
fn clear(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("empty {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Says where the pictures are, and which.
fn tell_pictures(folder: &Path) -> Result<()> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let entry = entry.with_context(|| format!("read {}", folder.display()))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    let (count, folder) = (names.len(), folder.display());
    say(&format!(
        "{count} pictures of the page in {folder}: {}",
        names.join(", ")
    ));
    Ok(())
}

/// The python that has playwright.
fn environment() -> Result<PathBuf> {
    let python = std::path::absolute(Path::new(ENVIRONMENT).join("bin/python"))?;
    if !python.is_file() {
        passes(Command::new("python3").args(["-m", "venv", ENVIRONMENT]))?;
    }
    passes(Command::new(&python).args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--requirement",
        "web/browser/requirements.txt",
    ]))?;
    Ok(python)
}

/// A Chromium: the one that is there, else the system's package where that can be installed.
fn browser() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("CHROMIUM") {
        return Some(named.into());
    }
    tools::on_path(&BROWSERS).or_else(|| {
        tools::install_packages(&["chromium", "fonts-inter"]).ok()?;
        tools::on_path(&BROWSERS)
    })
}

fn stdout_of(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then_some(text)
}

/// Runs a command that talks to the user itself.
fn passes(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    say(&format!("$ {shown}"));
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("start {shown}"))?;
    if !status.success() {
        bail!("{shown} ended with {status}");
    }
    Ok(())
}
