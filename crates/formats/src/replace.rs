//! New files that take their final names only when they are complete.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A file under a temporary name beside its target. Dropped without [`replace_all`], it is
/// deleted.
pub(crate) struct NewFile {
    file: File,
    target: PathBuf,
    /// `None` once it has its final name.
    temporary: Option<PathBuf>,
}

impl NewFile {
    pub(crate) fn create(target: &Path) -> io::Result<Self> {
        // The same process may write one target twice at a time.
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = target.file_name().ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "the path has no file name")
        })?;
        let mut temporary = OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{}-{number}.partial", std::process::id()));
        let temporary = target.with_file_name(temporary);
        Ok(Self {
            file: File::create_new(&temporary)?,
            target: target.to_owned(),
            temporary: Some(temporary),
        })
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // Nothing better can be done with an error here.
            let _ = fs::remove_file(temporary);
        }
    }
}

/// Brings all files to the disk, then gives them their names. On an error before the first
/// renaming, no target has changed.
pub(crate) fn replace_all(mut files: Vec<NewFile>) -> Result<(), (PathBuf, io::Error)> {
    for new in &files {
        new.file
            .sync_all()
            .map_err(|error| (new.target.clone(), error))?;
    }
    for new in &mut files {
        if let Some(temporary) = new.temporary.take()
            && let Err(error) = fs::rename(&temporary, &new.target)
        {
            new.temporary = Some(temporary);
            return Err((new.target.clone(), error));
        }
    }
    Ok(())
}
