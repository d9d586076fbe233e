//! Models of Hugging Face, as a shell sees it: fetched from a Hub on this machine with all the faults
//! that networks have.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test ends where it is surprised")]

mod faults;
mod fetching;
mod planning;
mod refusals;
mod site;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use site::Site;
use tempfile::TempDir;

/// A cache of its own, and the way to a site.
struct Shell {
    home: TempDir,
    endpoint: String,
}

/// What the program said.
struct Said {
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Shell {
    fn new(site: &Site) -> Self {
        Self {
            home: tempfile::tempdir().unwrap(),
            endpoint: site.endpoint(),
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        for name in [
            "TIDEMILL_MODEL",
            "HF_TOKEN",
            "HF_HUB_OFFLINE",
            "http_proxy",
            "HTTP_PROXY",
            "all_proxy",
            "ALL_PROXY",
        ] {
            command.env_remove(name);
        }
        command
            .env("HF_ENDPOINT", &self.endpoint)
            .env("HF_HOME", self.home.path())
            .env("HF_HUB_CACHE", self.cache())
            .env("LLAMA_CACHE", self.home.path().join("llama"))
            .env("HF_HUB_DOWNLOAD_TIMEOUT", "2")
            .stdin(Stdio::null())
            .args(args);
        command
    }

    fn says(&self, args: &[&str]) -> Said {
        Said::of(&self.command(args).output().unwrap())
    }

    /// Fetches, and tells where the model is.
    fn pulls(&self, args: &[&str]) -> PathBuf {
        let said = self.says(&[&["pull"], args].concat());
        assert_eq!(said.status, Some(0), "{}", said.stderr);
        PathBuf::from(said.stdout.trim())
    }

    /// Fails to fetch, with a status and words.
    fn fails(&self, args: &[&str], status: i32, says: &[&str]) {
        let said = self.says(&[&["pull"], args].concat());
        assert_eq!(said.status, Some(status), "{args:?}: {}", said.stderr);
        for what in says {
            assert!(said.stderr.contains(what), "{what:?}: {}", said.stderr);
        }
        assert!(said.stdout.is_empty(), "{}", said.stdout);
    }

    fn cache(&self) -> PathBuf {
        self.home.path().join("cache")
    }

    /// The files in a folder of the repository's place in the cache.
    fn names(&self, folder: &str) -> Vec<String> {
        let folder = self.cache().join("models--a--b").join(folder);
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Said {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            status: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

/// Bytes that differ everywhere.
fn bytes(count: usize) -> Vec<u8> {
    (0..count as u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect()
}

/// A model that runs.
fn tiny() -> Vec<u8> {
    read(Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../models/tiny/tidemill-tiny.gguf"
    )))
}
