//! What every handler can reach.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use text::tokenizer::Decode;
use tokio::sync::Semaphore;

use crate::answer::Answer;
use crate::ask::Ask;
use crate::config::Config;
use crate::error::{ApiError, ErrorKind};
use crate::http::RateLimit;
use crate::models::{Lease, Registry};

/// The server's state.
pub(crate) struct App {
    models: Arc<Registry>,
    config: Config,
    /// How many requests are rendered and encoded at once.
    preparing: Arc<Semaphore>,
    rate_limit: Option<RateLimit>,
    started: SystemTime,
    /// The model of the start is still being loaded.
    is_starting: AtomicBool,
}

impl App {
    pub(crate) fn new(models: Arc<Registry>, config: Config) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            models,
            rate_limit: config.rate_limit.map(RateLimit::new),
            config,
            preparing: Arc::new(Semaphore::new(cores)),
            started: SystemTime::now(),
            is_starting: AtomicBool::new(false),
        }
    }

    pub(crate) fn models(&self) -> &Arc<Registry> {
        &self.models
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// How often one client may ask, if that is bounded.
    pub(crate) fn rate_limit(&self) -> Option<&RateLimit> {
        self.rate_limit.as_ref()
    }

    /// Whether the model of the start is still being loaded.
    pub(crate) fn is_starting(&self) -> bool {
        self.is_starting.load(Ordering::Relaxed)
    }

    pub(crate) fn set_starting(&self, is_starting: bool) {
        self.is_starting.store(is_starting, Ordering::Relaxed);
    }

    /// When the server was started, in seconds of the epoch.
    pub(crate) fn started(&self) -> u64 {
        seconds(self.started)
    }

    /// The use of the model of this name; waits while it is loaded.
    ///
    /// # Errors
    /// When no model has the name, or it cannot be loaded.
    pub(crate) async fn lease(&self, name: Option<&str>) -> Result<Lease, ApiError> {
        let place = self.models.find(name)?;
        Arc::clone(&self.models).lease(place).await
    }

    /// Gives a request to a model's engine.
    ///
    /// # Errors
    /// When it makes no sense, does not fit, or too much is waiting.
    pub(crate) async fn ask(&self, lease: &Lease, ask: Ask) -> Result<Answer, ApiError> {
        let choices = ask.choices;
        let model = Arc::clone(lease.model());
        let is_logged = self.config.log_prompts;
        let prepare = move || {
            let prepared = ask.prepare(&model)?;
            if is_logged {
                let prompt = &prepared.request.prompt;
                let text = model.tokenizer().decode(prompt, Decode::Everything);
                tracing::info!(prompt = text.unwrap_or_default(), "asked");
            }
            Ok::<_, ApiError>(prepared)
        };
        let prepared = self.aside(prepare).await??;
        let reading = prepared.reading.clone();
        let taken = lease.worker().submit(prepared, lease.ticket()).await?;
        tracing::debug!("request {} was taken", taken.id.number());
        let tokenizer = Arc::clone(lease.model().tokenizer());
        Ok(Answer::new(taken, &reading, choices, tokenizer))
    }

    /// Does what takes a while on a thread that nobody waits for.
    ///
    /// # Errors
    /// When the work panicked.
    pub(crate) async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let internal = |what: &str| ApiError::new(ErrorKind::Internal, what);
        let permit = Arc::clone(&self.preparing).acquire_owned().await;
        let permit = permit.map_err(|_| internal("the server is going down"))?;
        let work = move || {
            // Held until the work is done, whether or not the client is there to see it.
            let _permit = permit;
            work()
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|_| internal("the request could not be prepared; the server's log says why"))
    }
}

/// Now, in seconds of the epoch.
pub(crate) fn now() -> u64 {
    seconds(SystemTime::now())
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::models::{LoadError, LoadedModel, Loader, Loading};

    struct NoModels;

    impl Loader for NoModels {
        fn load(&self, _: usize, _: Loading<'_>) -> Result<LoadedModel, LoadError> {
            Err("there is none".into())
        }
    }

    #[test]
    fn work_counts_until_it_is_done_even_if_nobody_waits_for_it() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let config = Config::default();
        let handle = runtime.handle().clone();
        let models = Registry::new(Vec::new(), Box::new(NoModels), config.models, handle);
        let app = Arc::new(App::new(Arc::new(models), config));
        let cores = app.preparing.available_permits();
        let (begun, begins) = channel();
        let (end, ends) = channel::<()>();
        let asked = Arc::clone(&app);
        let waiter = runtime.spawn(async move {
            let work = move || {
                begun.send(()).unwrap();
                ends.recv().unwrap();
            };
            asked.aside(work).await
        });
        begins.recv().unwrap();
        waiter.abort();
        assert!(runtime.block_on(waiter).is_err(), "its client has left");
        assert_eq!(app.preparing.available_permits(), cores - 1);
        end.send(()).unwrap();
        while app.preparing.available_permits() < cores {
            std::thread::yield_now();
        }
    }
}
