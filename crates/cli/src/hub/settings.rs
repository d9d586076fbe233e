//! What the environment says, under the names that Hugging Face's own tools use.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;

use super::{FetchArgs, HubError};

/// The Hub, where `HF_ENDPOINT` names no other one.
const ENDPOINT: &str = "https://huggingface.co";

/// How long a connection may be silent, where `HF_HUB_DOWNLOAD_TIMEOUT` does not say.
const SILENCE: Duration = Duration::from_secs(30);

/// Where models come from and go to.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) endpoint: Url,
    /// The cache of Hugging Face's tools, which is ours too.
    pub(super) cache: PathBuf,
    /// Where llama.cpp kept its own. It is only read.
    pub(super) llama_cache: PathBuf,
    pub(super) token: Option<String>,
    /// Where the token was looked for last.
    pub(super) token_file: PathBuf,
    pub(super) is_offline: bool,
    /// How long a connection may be silent.
    pub(super) silence: Duration,
}

impl Settings {
    /// What the flags and the environment say; flags win.
    ///
    /// # Errors
    /// When a variable makes no sense.
    pub(super) fn new(args: &FetchArgs) -> Result<Self, HubError> {
        Self::of(args, std::env::var_os)
    }

    fn of(
        args: &FetchArgs,
        variable: impl Fn(&'static str) -> Option<OsString>,
    ) -> Result<Self, HubError> {
        let variable = |name| variable(name).filter(|value| !value.is_empty());
        let folder = |name| variable(name).map(PathBuf::from);
        let text = |name| variable(name).map(|value| value.to_string_lossy().into_owned());
        let home = folder("HOME").or_else(|| folder("USERPROFILE"));
        let caches = folder("XDG_CACHE_HOME").or_else(|| Some(home?.join(".cache")));
        let caches = caches.unwrap_or_else(std::env::temp_dir);
        let hf_home = folder("HF_HOME").unwrap_or_else(|| caches.join("huggingface"));
        let token_file = folder("HF_TOKEN_PATH").unwrap_or_else(|| hf_home.join("token"));
        let token = args.hf_token.clone().or_else(|| text("HF_TOKEN"));
        let token = token.or_else(|| std::fs::read_to_string(&token_file).ok());
        let token = token.map(|token| token.trim().to_owned());
        let is_on = |value: String| matches!(&*value.to_lowercase(), "1" | "on" | "yes" | "true");
        Ok(Self {
            endpoint: endpoint(text("HF_ENDPOINT"))?,
            cache: folder("HF_HUB_CACHE").unwrap_or_else(|| hf_home.join("hub")),
            llama_cache: folder("LLAMA_CACHE").unwrap_or_else(|| caches.join("llama.cpp")),
            token: token.filter(|token| !token.is_empty()),
            token_file,
            is_offline: args.offline || text("HF_HUB_OFFLINE").is_some_and(is_on),
            silence: text("HF_HUB_DOWNLOAD_TIMEOUT").map_or(Ok(SILENCE), seconds)?,
        })
    }

    /// The endpoint as people write it.
    pub(super) fn endpoint(&self) -> &str {
        self.endpoint.as_str().trim_end_matches('/')
    }
}

fn endpoint(named: Option<String>) -> Result<Url, HubError> {
    let text = named.unwrap_or_else(|| ENDPOINT.to_owned());
    let url = Url::parse(&text).ok();
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.ok_or(HubError::Setting {
        name: "HF_ENDPOINT",
        value: text,
        expected: "an address such as https://mirror.example",
    })
}

fn seconds(text: String) -> Result<Duration, HubError> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| *seconds > 0.0);
    let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.ok_or(HubError::Setting {
        name: "HF_HUB_DOWNLOAD_TIMEOUT",
        value: text,
        expected: "a number of seconds above 0",
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<Settings, HubError> {
        Settings::of(&FetchArgs::default(), |name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.into())
        })
    }

    #[test]
    fn the_cache_is_where_hugging_faces_tools_have_it() {
        let check = |variables: &[(&str, &str)], want: &str| {
            assert_eq!(settings(variables).unwrap().cache, Path::new(want));
        };
        let home = ("HOME", "/h");
        check(&[home], "/h/.cache/huggingface/hub");
        check(&[home, ("XDG_CACHE_HOME", "/x")], "/x/huggingface/hub");
        check(&[home, ("HF_HOME", "/hf")], "/hf/hub");
        check(&[("HF_HOME", "/hf"), ("HF_HUB_CACHE", "/c")], "/c");
    }

    #[test]
    fn tokens_are_named_or_in_a_file() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "hf_file\n").unwrap();
        let home = ("HF_HOME", folder.path().to_str().unwrap());
        let token = |variables: &[(&str, &str)]| settings(variables).unwrap().token;
        assert_eq!(token(&[home]).unwrap(), "hf_file");
        assert_eq!(
            token(&[home, ("HF_TOKEN", "hf_named")]).unwrap(),
            "hf_named"
        );
        assert_eq!(token(&[("HF_HOME", "/nowhere")]), None);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for variable in [
            ("HF_ENDPOINT", "mirror.example"),
            ("HF_ENDPOINT", "file:///etc"),
            ("HF_HUB_DOWNLOAD_TIMEOUT", "-1"),
            ("HF_HUB_DOWNLOAD_TIMEOUT", "soon"),
        ] {
            let error = settings(&[variable]).unwrap_err().to_string();
            assert!(error.contains(variable.0), "{error}");
        }
        let mirror = settings(&[("HF_ENDPOINT", "http://mirror.example/hub/")]).unwrap();
        assert_eq!(mirror.endpoint(), "http://mirror.example/hub");
        assert!(!mirror.is_offline);
        assert!(settings(&[("HF_HUB_OFFLINE", "YES")]).unwrap().is_offline);
    }
}
