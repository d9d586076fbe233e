//! The headers of a model's files, where the model itself is not wanted yet.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::choose;
use super::header::{self, ReadAt};
use super::http::{Hub, Trouble};
use super::listing::{Listing, RemoteFile};
use super::name::Repository;
use super::settings::Settings;
use super::transfer::Patience;
use super::{FetchArgs, HubError, TRIES, cache, listing, named, surely};

/// The model of a name from the cache, or a stand-in below `folder` that has the headers of its files.
///
/// # Errors
/// When the name makes no sense, or the headers cannot be had.
pub(crate) fn heads(name: &str, args: &FetchArgs, folder: &Path) -> anyhow::Result<PathBuf> {
    let settings = Settings::new(args)?;
    let name = named(name, args)?;
    let there = cache::snapshots(&settings.cache, &settings.llama_cache, &name.repository);
    if let Some(path) = surely(&there, &name.wanted) {
        return Ok(path);
    }
    if settings.is_offline {
        return Ok(super::find(&name.to_string(), args)?);
    }
    let hub = Hub::new(&settings)?;
    let listing = listing(&hub, &settings, &name)?;
    let paths: Vec<String> = listing.files.iter().map(|file| file.path.clone()).collect();
    let no_file = |why| HubError::NoFile {
        name: name.to_string(),
        why,
    };
    let choice = choose::choose(&paths, &name.wanted).map_err(no_file)?;
    if choice.is_folder {
        let why = "it is a checkpoint; headers of those are not read from afar, pull it first";
        return Err(no_file(why.to_owned()).into());
    }
    let files = listing.files.iter();
    for file in files.filter(|file| choice.files.contains(&file.path)) {
        let mut remote = Remote {
            hub: &hub,
            settings: &settings,
            repository: &name.repository,
            listing: &listing,
            file,
        };
        header::write(&mut remote, &folder.join(own_name(&file.path)))?;
    }
    let first = choice.files.first().context("a choice has files")?;
    Ok(folder.join(own_name(first)))
}

/// Without the folders it is in: all parts of a model are in the same.
fn own_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// A file at the Hub.
struct Remote<'s> {
    hub: &'s Hub<'s>,
    settings: &'s Settings,
    repository: &'s Repository,
    listing: &'s Listing,
    file: &'s RemoteFile,
}

impl ReadAt for Remote<'_> {
    fn read_at(&mut self, from: u64, most: u64) -> anyhow::Result<(Vec<u8>, u64)> {
        let mut patience = Patience::new(TRIES, self.settings.endpoint());
        loop {
            match self.try_read(from, most) {
                Ok(bytes) => return Ok((bytes, self.file.bytes)),
                Err(trouble) => patience.wait(trouble)?,
            }
        }
    }
}

impl Remote<'_> {
    fn try_read(&self, from: u64, most: u64) -> Result<Vec<u8>, Trouble> {
        let (commit, path) = (&self.listing.commit, &self.file.path);
        let reply = self.hub.file(self.repository, commit, path, from)?;
        let status = reply.response.status();
        if from > 0 && status != reqwest::StatusCode::PARTIAL_CONTENT {
            return Err(Trouble::passing(format!(
                "status {status} for a part of {path}"
            )));
        }
        let mut bytes = Vec::new();
        // The rest is not waited for.
        let read = reply.response.take(most).read_to_end(&mut bytes);
        read.map_err(|error| Trouble::passing(error.to_string()))?;
        Ok(bytes)
    }
}
