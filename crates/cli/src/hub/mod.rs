//! Models of Hugging Face: `-hf owner/model:Q4_K_M` takes them from the cache of Hugging Face's tools, and
//! fetches into it what is not there. An interrupted fetch goes on where it ended.
//!
//! What is in the cache is used without asking anybody, so that a model stays what it is until
//! `tidemill pull` is told to look for a newer one.

mod cache;
mod choose;
mod error;
pub(crate) mod header;
mod heads;
mod http;
mod listing;
mod name;
mod partial;
mod progress;
mod settings;
mod transfer;

use std::path::{Path, PathBuf};

use clap::Args;

use crate::output;
use cache::{Place, Snapshot};
use choose::Choice;
pub(crate) use error::HubError;
pub(crate) use heads::heads;
use http::Hub;
use listing::{Listing, RemoteFile};
use name::{ModelName, Wanted};
use progress::Progress;
use settings::Settings;
use transfer::{Patience, Source};

/// Which model of Hugging Face.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub(crate) struct HubArgs {
    /// A model of Hugging Face, such as owner/model:Q4_K_M; it is fetched unless it is in the cache
    /// [short: -hf].
    #[arg(long, value_name = "NAME", alias = "hf")]
    pub(crate) hf_repo: Option<String>,
    #[command(flatten)]
    pub(crate) fetching: FetchArgs,
}

/// How models are fetched.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub(crate) struct FetchArgs {
    /// This file of the model's repository [short: -hff].
    #[arg(long, value_name = "PATH", alias = "hff")]
    hf_file: Option<String>,
    /// The token to ask Hugging Face with (default: HF_TOKEN, or the one of its tools) [short: -hft].
    #[arg(long, value_name = "TOKEN", alias = "hft")]
    hf_token: Option<String>,
    /// Fetch nothing: use what is in the cache (also HF_HUB_OFFLINE=1).
    #[arg(long)]
    offline: bool,
}

impl FetchArgs {
    /// Says that a file was named of no repository.
    ///
    /// # Errors
    /// If so.
    pub(crate) fn of_no_model(&self) -> Result<(), HubError> {
        let file = self.hf_file.clone();
        file.map_or(Ok(()), |path| Err(HubError::NoRepositoryNamed(path)))
    }
}

/// How often the Hub is asked for its list before the cache has to do.
const TRIES: u32 = 3;

/// How many models of the cache are named where another one cannot be had.
const NAMED: usize = 10;

/// Bytes of a disk that are left free.
const KEPT_FREE: u64 = 64 << 20;

/// The model of a name such as `owner/model` or `owner/model:Q8_0`: from the cache, else from the Hub.
///
/// # Errors
/// When the name makes no sense, or the model cannot be had.
pub(crate) fn find(name: &str, args: &FetchArgs) -> Result<PathBuf, HubError> {
    let settings = Settings::new(args)?;
    let name = named(name, args)?;
    let there = cache::snapshots(&settings.cache, &settings.llama_cache, &name.repository);
    if let Some(path) = surely(&there, &name.wanted) {
        return Ok(path);
    }
    if settings.is_offline {
        return instead(&there, &name).ok_or_else(|| HubError::Offline {
            name: name.to_string(),
            folder: settings.cache.clone(),
            cached: others(&settings.cache),
        });
    }
    match fetch(&settings, &name, &there) {
        Err(HubError::Network { host, why, .. }) => {
            let error = HubError::Network {
                host,
                why,
                cached: others(&settings.cache),
            };
            match instead(&there, &name) {
                Some(path) => {
                    output::note(&format!("warning: {error}"));
                    Ok(path)
                }
                None => Err(error),
            }
        }
        result => result,
    }
}

/// The model of a name as the Hub has it now: fetches what is not in the cache.
///
/// # Errors
/// As [`find`].
pub(crate) fn pull(name: &str, args: &FetchArgs) -> Result<PathBuf, HubError> {
    let settings = Settings::new(args)?;
    if settings.is_offline {
        return find(name, args);
    }
    fetch(&settings, &named(name, args)?, &[])
}

fn named(name: &str, args: &FetchArgs) -> Result<ModelName, HubError> {
    let name: ModelName = name.parse()?;
    Ok(match &args.hf_file {
        Some(path) => name.with_file(path),
        None => name,
    })
}

/// The model in the cache that the Hub would choose too.
fn surely(there: &[Snapshot], wanted: &Wanted) -> Option<PathBuf> {
    let usual = Wanted::Type(choose::USUAL[0].to_owned());
    let sure = match wanted {
        Wanted::Usual => &usual,
        other => other,
    };
    let checkpoint = |files: &[String]| {
        let choice = choose::choose(files, wanted).ok();
        choice.filter(|choice| choice.is_folder)
    };
    there.iter().find_map(|snapshot| {
        let choice = choose::choose(&snapshot.files, sure).ok();
        let choice = choice.or_else(|| checkpoint(&snapshot.files))?;
        Some(path_in(snapshot, &choice))
    })
}

/// The model in the cache that comes nearest where the Hub cannot be asked.
fn instead(there: &[Snapshot], name: &ModelName) -> Option<PathBuf> {
    let path = there.iter().find_map(|snapshot| {
        let choice = choose::choose(&snapshot.files, &name.wanted).ok()?;
        Some(path_in(snapshot, &choice))
    })?;
    output::note(&format!("{name}: using {} of the cache", path.display()));
    Some(path)
}

fn path_in(snapshot: &Snapshot, choice: &Choice) -> PathBuf {
    match choice.files.first() {
        Some(file) if !choice.is_folder => snapshot.path_of(file),
        _ => snapshot.folder.clone(),
    }
}

/// What else there is in the cache, for people.
fn others(cache: &Path) -> String {
    let models = cache::models(cache);
    let more = match models.len() {
        0 => return String::new(),
        count if count > NAMED => ", ...",
        _ => "",
    };
    let named: Vec<&str> = models.iter().take(NAMED).map(String::as_str).collect();
    format!("; in the cache there are {}{more}", named.join(", "))
}

/// Asks the Hub what it has, and fetches what is not `there` in any state.
fn fetch(settings: &Settings, name: &ModelName, there: &[Snapshot]) -> Result<PathBuf, HubError> {
    let hub = Hub::new(settings)?;
    let listing = listing(&hub, settings, name)?;
    let paths: Vec<String> = listing.files.iter().map(|file| file.path.clone()).collect();
    let choice = choose::choose(&paths, &name.wanted).map_err(|why| HubError::NoFile {
        name: name.to_string(),
        why,
    })?;
    let has_all = |snapshot: &&Snapshot| {
        let mut files = choice.files.iter();
        files.all(|file| snapshot.files.contains(file))
    };
    if let Some(snapshot) = there.iter().find(has_all) {
        return Ok(path_in(snapshot, &choice));
    }
    let is_chosen = |file: &&RemoteFile| choice.files.contains(&file.path);
    let mut files: Vec<&RemoteFile> = listing.files.iter().filter(is_chosen).collect();
    // Weights last: a folder that has them has all.
    files.sort_by_key(|file| (choice.is_folder.then_some(file.bytes), &file.path));
    let place = Place::make(&settings.cache, &name.repository)?;
    let missing = |file: &&RemoteFile| !place.has(&listing.commit, file);
    let missing: Vec<&RemoteFile> = files.iter().copied().filter(missing).collect();
    announce(settings, name, &place, &missing)?;
    let mut readers = choose::image_readers(&paths).filter(|path| !choice.files.contains(path));
    if let Some(reader) = readers.next() {
        let why = "images cannot be read yet";
        output::note(&format!("note: {reader} is not fetched: {why}"));
    }
    let source = Source {
        hub: &hub,
        host: settings.endpoint(),
        repository: &name.repository,
        commit: &listing.commit,
    };
    let sizes = files.iter().map(|file| file.bytes);
    let mut progress = Progress::new(sizes.fold(0, u64::saturating_add));
    for file in files {
        let digest = file.digest.text();
        let blob = place.blob(digest);
        let _lock = place.lock(digest)?;
        if !place.has(&listing.commit, file) {
            if !cache::is_whole(&blob, file) {
                source.fetch(file, &blob, &mut |bytes| progress.at(bytes))?;
            }
            place.link(&listing.commit, &file.path, digest)?;
        }
        progress.file_done(file.bytes);
    }
    place.set_main(&listing.commit)?;
    let snapshot = place.snapshot(&listing.commit);
    Ok(match choice.files.first() {
        Some(file) if !choice.is_folder => snapshot.join(file),
        _ => snapshot,
    })
}

fn listing(hub: &Hub<'_>, settings: &Settings, name: &ModelName) -> Result<Listing, HubError> {
    let mut patience = Patience::new(TRIES, settings.endpoint());
    loop {
        match hub.list(&name.repository) {
            Ok(listing) => return Ok(listing),
            Err(trouble) => patience.wait(trouble)?,
        }
    }
}

/// Says what comes, if there is room for it.
fn announce(
    settings: &Settings,
    name: &ModelName,
    place: &Place,
    files: &[&RemoteFile],
) -> Result<(), HubError> {
    let missing = files.iter().map(|file| {
        let blob = place.blob(file.digest.text());
        let incomplete = blob.with_added_extension("incomplete");
        let has = std::fs::metadata(&incomplete).map_or(0, |found| found.len());
        match cache::is_whole(&blob, file) {
            true => 0,
            false => file.bytes.saturating_sub(has),
        }
    });
    let needed: u64 = missing.fold(0, u64::saturating_add);
    if needed == 0 {
        return Ok(());
    }
    if let Some(free) = free_bytes(&settings.cache)
        && free < needed.saturating_add(KEPT_FREE)
    {
        return Err(HubError::Space {
            needed,
            free,
            folder: settings.cache.clone(),
        });
    }
    let (count, size) = (files.len(), output::bytes(needed));
    let what = match count {
        1 => files[0].path.clone(),
        count => format!("{count} files"),
    };
    let (host, folder) = (settings.endpoint(), settings.cache.display());
    output::note(&format!(
        "fetching {what} of {name} from {host} into {folder}: {size}"
    ));
    Ok(())
}

/// How much a folder's disk can take, where the system tells.
#[cfg(unix)]
fn free_bytes(folder: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(folder).ok()?;
    found.f_bavail.checked_mul(found.f_frsize)
}

#[cfg(not(unix))]
fn free_bytes(_: &Path) -> Option<u64> {
    None
}
