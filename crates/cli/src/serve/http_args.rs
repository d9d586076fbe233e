//! Flags of the HTTP server.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use server::{ApiKeys, Config, TlsFiles};

use super::several_args::SeveralArgs;
use crate::exit::Failure;
use crate::output;

/// Where to listen, for whom, and how much to take.
#[derive(Debug, Args)]
pub(super) struct HttpArgs {
    /// The address to listen on; 0.0.0.0 for all.
    #[arg(long, default_value = "127.0.0.1", env = "TIDEMILL_HOST")]
    host: String,
    /// The port; 0 for one that the system chooses.
    #[arg(long, default_value_t = 8080, env = "TIDEMILL_PORT")]
    port: u16,
    /// A key that clients have to send; several after commas.
    #[arg(
        long,
        value_name = "KEYS",
        value_delimiter = ',',
        env = "TIDEMILL_API_KEY",
        hide_env_values = true
    )]
    api_key: Vec<String>,
    /// A file with such keys, one in each line.
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Encrypt connections with this certificate (and those up to its root), a file in PEM form.
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_key",
        visible_alias = "ssl-cert-file"
    )]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key, a file in PEM form.
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_cert",
        visible_alias = "ssl-key-file"
    )]
    tls_key: Option<PathBuf>,
    /// Web pages of this origin may use the server; `*` for all. May be given several times.
    #[arg(long, value_name = "ORIGIN")]
    cors_origin: Vec<String>,
    /// The largest body of a request, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 64,
          value_parser = clap::value_parser!(u32).range(1..))]
    max_body_mib: u32,
    /// How many requests of one client (its key, else its address) are answered in a minute; further
    /// ones are refused with status 429 (default: any number).
    #[arg(long, value_name = "N")]
    rate_limit: Option<NonZeroU32>,
    /// Log prompts too, at `--log-level info`. Otherwise nothing is logged of what requests say.
    #[arg(long)]
    log_prompts: bool,
    /// When asked to stop (Ctrl-C or SIGTERM), how many seconds answers under way may take to end;
    /// asked once more, the server ends at once.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    drain_timeout: u64,
    /// Do not tell at /slots what is going on.
    #[arg(long)]
    no_slots: bool,
    /// Do not tell figures at /metrics.
    #[arg(long)]
    no_metrics: bool,
}

impl HttpArgs {
    /// What addresses begin with.
    pub(super) fn scheme(&self) -> &'static str {
        if self.tls_cert.is_some() {
            "https"
        } else {
            "http"
        }
    }

    fn tls(&self) -> Option<TlsFiles> {
        let (certificates, key) = self.tls_cert.clone().zip(self.tls_key.clone())?;
        Some(TlsFiles { certificates, key })
    }

    /// The server's settings.
    ///
    /// # Errors
    /// When the file of keys cannot be read, or keys were asked for and there are none.
    pub(super) fn config(&self, models: &SeveralArgs) -> anyhow::Result<Config> {
        let mut keys = self.api_key.clone();
        if let Some(path) = &self.api_key_file {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("read the keys in {}", path.display()))?;
            keys.extend(text.lines().map(str::to_owned));
        }
        let is_wanted = !self.api_key.is_empty() || self.api_key_file.is_some();
        let keys = ApiKeys::new(keys.iter().map(String::as_str));
        if is_wanted && keys.is_empty() {
            let why = "--api-key or --api-key-file was given, and holds no key";
            return Err(Failure::Usage(why.to_owned()).into());
        }
        let is_local = matches!(self.host.as_str(), "127.0.0.1" | "::1" | "localhost");
        if keys.is_empty() && !is_local {
            output::note(&format!(
                "warning: everyone who reaches {} may use this server; --api-key asks for a key",
                self.host
            ));
        }
        Ok(Config {
            host: self.host.clone(),
            port: self.port,
            keys,
            rate_limit: self.rate_limit,
            log_prompts: self.log_prompts,
            max_body_bytes: (self.max_body_mib as usize) << 20,
            cors_origins: self.cors_origin.clone(),
            drain: Duration::from_secs(self.drain_timeout),
            slots: !self.no_slots,
            metrics: !self.no_metrics,
            tls: self.tls(),
            models: models.limits(),
            ..Config::default()
        })
    }
}
