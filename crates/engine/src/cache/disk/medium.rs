//! The file operations that can fail in interesting ways.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::index::Tick;

/// The end of the names of files that are being written.
pub(super) const PARTIAL: &str = "partial";

/// Where files are written; tests have one that runs full.
pub(super) trait Medium: Send + Sync {
    /// Writes a file of several parts. Afterwards it is there with all its bytes, or nothing of
    /// this name has changed.
    fn write(&self, path: &Path, parts: &[&[u8]]) -> io::Result<()>;
}

/// The file system.
pub(super) struct Files;

impl Medium for Files {
    fn write(&self, path: &Path, parts: &[&[u8]]) -> io::Result<()> {
        let partial = partial_path(path);
        let written = (|| {
            let mut file = File::create(&partial)?;
            for part in parts {
                file.write_all(part)?;
            }
            // Before the name is given: a name without its bytes must not survive a power cut.
            file.sync_all()?;
            fs::rename(&partial, path)
        })();
        if written.is_err() {
            // It may never have been made. What is left is removed at the next start.
            fs::remove_file(&partial).ok();
        }
        written
    }
}

pub(super) fn partial_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(PARTIAL);
    PathBuf::from(name)
}

/// Makes renames in a folder durable, where the system can.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// Notes in a file's time of change when it was used, for the next start.
pub(super) fn set_used(path: &Path, used: Tick) -> io::Result<()> {
    let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(used);
    File::options().write(true).open(path)?.set_modified(time)
}

/// When a file was last used or written.
pub(super) fn used(metadata: &fs::Metadata) -> Tick {
    metadata
        .modified()
        .ok()
        .and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok())
        .map_or(0, |since| since.as_nanos() as Tick)
}

/// A point of time after all earlier ones, also when the system's clock is set back.
pub(super) fn tick_after(last: Tick) -> Tick {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as Tick);
    now.max(last + 1)
}
