//! Asking the Hub: redirects that the token does not follow, answers that are failures, and which of
//! these are worth another try.

use std::io::Read;
use std::time::Duration;

use reqwest::blocking::{Client, Response};
use reqwest::header::{ETAG, HeaderMap, LOCATION, RANGE, RETRY_AFTER};
use reqwest::{StatusCode, Url};

use super::name::Repository;
use super::settings::Settings;
use super::{HubError, listing};

/// How many times an answer may send us elsewhere.
const MOST_REDIRECTS: usize = 10;

/// The most bytes of a list of files.
const LONGEST_LIST: u64 = 32 << 20;

/// How long it may take to be connected.
const CONNECTING: Duration = Duration::from_secs(15);

/// Why a request brought nothing.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It may go better later, or after as long as the other side says.
    Passing {
        why: String,
        after: Option<Duration>,
    },
    /// It will not.
    Lasting(HubError),
}

impl From<HubError> for Trouble {
    fn from(error: HubError) -> Self {
        Self::Lasting(error)
    }
}

impl Trouble {
    pub(super) fn passing(why: impl Into<String>) -> Self {
        let why = why.into();
        Self::Passing { why, after: None }
    }
}

/// A file's bytes, or some of them.
pub(super) struct Reply {
    pub(super) response: Response,
    /// Which bytes these are, if any of the servers on the way said it: bytes of two replies belong
    /// together where this is the same.
    pub(super) tag: Option<String>,
}

/// The way to the Hub.
pub(super) struct Hub<'s> {
    client: Client,
    settings: &'s Settings,
}

impl<'s> Hub<'s> {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// When the system's certificates cannot be used.
    pub(super) fn new(settings: &'s Settings) -> Result<Self, HubError> {
        // The algorithms that the server has, too. A second call changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .user_agent(concat!("tidemill/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECTING)
            .timeout(settings.silence)
            .build();
        let client = client.map_err(|error| HubError::Answer {
            what: "connections to the Hub".to_owned(),
            why: chain(error),
        })?;
        Ok(Self { client, settings })
    }

    /// What a repository holds.
    ///
    /// # Errors
    /// [`Trouble`]
    pub(super) fn list(&self, repository: &Repository) -> Result<listing::Listing, Trouble> {
        let Repository { owner, model } = repository;
        let mut url = self.url(&["api", "models", owner, model, "revision", "main"]);
        url.set_query(Some("blobs=true"));
        let reply = self.get(url.clone(), repository, None)?;
        let mut json = Vec::new();
        let mut body = reply.response.take(LONGEST_LIST + 1);
        body.read_to_end(&mut json)
            .map_err(|error| Trouble::passing(chain(error)))?;
        let wrong = |why: String| HubError::Answer {
            what: format!("the list of files at {url}"),
            why,
        };
        if json.len() as u64 > LONGEST_LIST {
            return Err(wrong(format!("it is longer than {LONGEST_LIST} bytes")).into());
        }
        Ok(listing::read(&json).map_err(wrong)?)
    }

    /// A file's bytes, from that of this number on.
    ///
    /// # Errors
    /// [`Trouble`]
    pub(super) fn file(
        &self,
        repository: &Repository,
        commit: &str,
        path: &str,
        from: u64,
    ) -> Result<Reply, Trouble> {
        let Repository { owner, model } = repository;
        let mut parts = vec![owner.as_str(), model, "resolve", commit];
        parts.extend(path.split('/'));
        self.get(self.url(&parts), repository, (from > 0).then_some(from))
    }

    fn url(&self, parts: &[&str]) -> Url {
        let mut url = self.settings.endpoint.clone();
        // Addresses with a host, which this one has, can always be extended.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(parts);
        }
        url
    }

    fn get(
        &self,
        mut url: Url,
        repository: &Repository,
        from: Option<u64>,
    ) -> Result<Reply, Trouble> {
        let mut linked = None;
        for _ in 0..MOST_REDIRECTS {
            let is_hub = url.origin() == self.settings.endpoint.origin();
            let mut request = self.client.get(url.clone());
            if let (true, Some(token)) = (is_hub, &self.settings.token) {
                request = request.bearer_auth(token);
            }
            if let Some(from) = from {
                request = request.header(RANGE, format!("bytes={from}-"));
            }
            let response = request.send();
            let response =
                response.map_err(|error| Trouble::passing(chain(error.without_url())))?;
            let status = response.status();
            let headers = response.headers();
            linked = linked.or_else(|| text_of(headers, "x-linked-etag"));
            if status.is_redirection() {
                url = next(&url, headers)?;
                continue;
            }
            let is_there = status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE;
            return if is_there {
                let tag = linked.or_else(|| text_of(headers, ETAG.as_str()));
                let tag = tag.map(|tag| tag.trim_start_matches("W/").to_owned());
                Ok(Reply { response, tag })
            } else {
                Err(self.failure(status, headers, is_hub, repository))
            };
        }
        Err(answer(
            &url,
            format!("more than {MOST_REDIRECTS} redirects"),
        ))
    }

    fn failure(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        is_hub: bool,
        repository: &Repository,
    ) -> Trouble {
        let after = text_of(headers, RETRY_AFTER.as_str());
        let after = after.and_then(|text| text.parse().ok().map(Duration::from_secs));
        let is_passing = matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
        ) || status.is_server_error()
            // Addresses of other hosts are lent for a while; the Hub gives new ones.
            || !is_hub;
        if is_passing {
            let why = format!("status {status}");
            return Trouble::Passing { why, after };
        }
        let endpoint = self.settings.endpoint().to_owned();
        let code = text_of(headers, "x-error-code").unwrap_or_default();
        let has_token = self.settings.token.is_some();
        let error = match (status, code.as_str()) {
            (_, "GatedRepo") | (StatusCode::FORBIDDEN, _) => HubError::Gated {
                repository: repository.to_string(),
                endpoint,
                token: match has_token {
                    true => "with the account that your token is of",
                    false => "then make a token in your account's settings and name it in HF_TOKEN",
                },
            },
            (_, "EntryNotFound" | "RevisionNotFound") => HubError::NoFile {
                name: repository.to_string(),
                why: format!("it has changed meanwhile ({code}); try again"),
            },
            (StatusCode::UNAUTHORIZED, code) if has_token && code != "RepoNotFound" => {
                let file = self.settings.token_file.clone();
                HubError::Token { endpoint, file }
            }
            (StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND, _) => {
                let who = match has_token {
                    true => "is there for your token",
                    false => "is public; for a private one name a token in HF_TOKEN",
                };
                let why = format!("no repository {repository} at {endpoint} {who}");
                HubError::NoRepository(why)
            }
            (status, _) => HubError::Answer {
                what: repository.to_string(),
                why: format!("status {status}"),
            },
        };
        Trouble::Lasting(error)
    }
}

/// Where an answer sends us.
fn next(from: &Url, headers: &HeaderMap) -> Result<Url, Trouble> {
    let location = text_of(headers, LOCATION.as_str()).unwrap_or_default();
    let to = from.join(&location).ok();
    let is_open = |url: &Url| url.scheme() == "https" || from.scheme() == "http";
    let is_web = |url: &Url| matches!(url.scheme(), "http" | "https");
    match to.filter(|url| is_web(url) && is_open(url) && !location.is_empty()) {
        Some(url) => Ok(url),
        None => Err(answer(from, format!("a redirect to {location:?}"))),
    }
}

fn answer(url: &Url, why: String) -> Trouble {
    let mut url = url.clone();
    // What is behind it may be a key.
    url.set_query(None);
    let what = url.to_string();
    HubError::Answer { what, why }.into()
}

fn text_of(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// An error with its reasons, in one line.
pub(super) fn chain(error: impl std::error::Error + Send + Sync + 'static) -> String {
    format!("{:#}", anyhow::Error::new(error))
}
