//! Fetches one file, as often as it takes.

use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use reqwest::header::CONTENT_LENGTH;

use super::HubError;
use super::header;
use super::http::{Hub, Reply, Trouble, chain};
use super::listing::RemoteFile;
use super::name::Repository;
use super::partial::Partial;
use crate::{interrupt, output};

/// How often something is tried that brings nothing.
pub(super) const TRIES: u32 = 6;

/// The first pause between tries; each is twice as long as the one before, but for the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Longer than this nobody is waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// How long it is gone on trying.
pub(super) struct Patience {
    tries: u32,
    left: u32,
    host: String,
}

impl Patience {
    /// To be tried so often before a host is given up.
    pub(super) fn new(tries: u32, host: &str) -> Self {
        Self {
            tries,
            left: tries,
            host: host.to_owned(),
        }
    }

    /// Something came: all is well again.
    fn renew(&mut self) {
        self.left = self.tries;
    }

    /// Waits before the next try.
    ///
    /// # Errors
    /// When there is to be none: the trouble lasts, there were too many, or on Ctrl-C.
    pub(super) fn wait(&mut self, trouble: Trouble) -> Result<(), HubError> {
        let (why, after) = match trouble {
            Trouble::Lasting(error) => return Err(error),
            Trouble::Passing { why, after } => (why, after),
        };
        self.left = self.left.saturating_sub(1);
        let doubled = FIRST_PAUSE * 2u32.saturating_pow(self.tries - self.left - 1);
        let pause = after.unwrap_or_default().max(doubled.min(LONGEST_PAUSE));
        if self.left == 0 || pause > LONGEST_WAIT {
            let host = self.host.clone();
            let cached = String::new();
            return Err(HubError::Network { host, why, cached });
        }
        let seconds = pause.as_secs_f64();
        output::note(&format!(
            "{}: {why}; once more in {seconds:.1} s",
            self.host
        ));
        let until = Instant::now() + pause;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            interrupt::check()?;
            std::thread::sleep(left.min(Duration::from_millis(100)));
        }
        Ok(())
    }
}

/// Where a file comes from.
pub(super) struct Source<'s> {
    pub(super) hub: &'s Hub<'s>,
    pub(super) host: &'s str,
    pub(super) repository: &'s Repository,
    pub(super) commit: &'s str,
}

impl Source<'_> {
    /// Brings a file to its place in the cache. `progress` takes how many of its bytes are there.
    /// Nobody else may fetch it at the same time ([`super::cache::Place::lock`]).
    ///
    /// # Errors
    /// When it cannot be had, is not what was promised, cannot be written, or on Ctrl-C.
    pub(super) fn fetch(
        &self,
        file: &RemoteFile,
        blob: &Path,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), HubError> {
        let mut partial = Partial::open(blob, file, progress)?;
        let mut was_wrong = false;
        loop {
            self.fill(file, &mut partial, progress)?;
            let Some(found) = partial.wrong_digest() else {
                return partial.finish(blob);
            };
            partial.restart()?;
            if was_wrong {
                return Err(HubError::Checksum {
                    path: file.path.clone(),
                    found,
                    expected: file.digest.text().to_owned(),
                });
            }
            was_wrong = true;
            output::note(&format!("{}: wrong checksum; fetched anew", file.path));
        }
    }

    /// Tries until all bytes are there.
    fn fill(
        &self,
        file: &RemoteFile,
        partial: &mut Partial,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), HubError> {
        let mut patience = Patience::new(TRIES, self.host);
        let mut most = partial.bytes();
        while partial.rest() > 0 {
            let outcome = self.go_on(file, partial, progress);
            // More than ever before: a server that always starts over and breaks off is not it.
            if partial.bytes() > most {
                most = partial.bytes();
                patience.renew();
            }
            if let Err(trouble) = outcome {
                patience.wait(trouble)?;
            }
        }
        Ok(())
    }

    /// One request, for what is not there yet.
    fn go_on(
        &self,
        file: &RemoteFile,
        partial: &mut Partial,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), Trouble> {
        let from = partial.bytes();
        let reply = self
            .hub
            .file(self.repository, self.commit, &file.path, from)?;
        let Reply { mut response, tag } = reply;
        let is_same = partial.goes_on_with(tag.as_deref());
        match response.status() {
            StatusCode::PARTIAL_CONTENT if from > 0 => {
                let has_rest =
                    header::content_range(response.headers()) == Some((from, file.bytes));
                if !is_same || !has_rest {
                    partial.restart()?;
                    let why = match has_rest {
                        true => "the file is another one now; it is fetched from its start",
                        false => "other bytes came than were asked for; starting over",
                    };
                    return Err(Trouble::passing(why));
                }
            }
            StatusCode::OK => {
                if from > 0 {
                    // A server that knows no ranges, or whose file is another one now.
                    partial.restart()?;
                }
                let length = response.headers().get(CONTENT_LENGTH);
                let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
                if let Some(length) = length.filter(|length| *length != file.bytes) {
                    return Err(self.wrong_length(file, length).into());
                }
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                partial.restart()?;
                return Err(Trouble::passing("there are no such bytes; starting over"));
            }
            status => return Err(Trouble::passing(format!("status {status}"))),
        }
        partial.set_tag(tag)?;
        let mut piece = vec![0; 1 << 18];
        while partial.rest() > 0 {
            interrupt::check().map_err(HubError::from)?;
            let read = response.read(&mut piece);
            let count = read.map_err(|error| Trouble::passing(chain(error)))?;
            if count == 0 {
                return Err(Trouble::passing("the connection ended too early"));
            }
            if count as u64 > partial.rest() {
                let length = partial.bytes() + count as u64;
                return Err(self.wrong_length(file, length).into());
            }
            partial.push(&piece[..count])?;
            progress(partial.bytes());
        }
        Ok(())
    }

    fn wrong_length(&self, file: &RemoteFile, length: u64) -> HubError {
        HubError::Answer {
            what: file.path.clone(),
            why: format!(
                "{} sends {length} bytes or more, and promised {}",
                self.host, file.bytes
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_has_an_end() {
        let mut patience = Patience::new(2, "h");
        patience.wait(Trouble::passing("x")).unwrap();
        assert!(patience.wait(Trouble::passing("x")).is_err());
        let after = Some(Duration::from_secs(3600));
        let why = String::new();
        let waits = Patience::new(9, "h").wait(Trouble::Passing { why, after });
        assert!(waits.is_err(), "an hour is too long");
    }
}
