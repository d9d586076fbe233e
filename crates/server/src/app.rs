//! What every handler can reach.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::Semaphore;

use crate::answer::Answer;
use crate::ask::Ask;
use crate::config::Config;
use crate::error::ApiError;
use crate::model::ServedModel;
use crate::worker::Worker;

/// The server's state.
pub(crate) struct App {
    model: Arc<ServedModel>,
    worker: Worker,
    config: Config,
    /// How many requests are rendered and encoded at once.
    preparing: Semaphore,
    started: SystemTime,
}

impl App {
    pub(crate) fn new(model: ServedModel, worker: Worker, config: Config) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            model: Arc::new(model),
            worker,
            config,
            preparing: Semaphore::new(cores),
            started: SystemTime::now(),
        }
    }

    pub(crate) fn model(&self) -> &Arc<ServedModel> {
        &self.model
    }

    pub(crate) fn worker(&self) -> &Worker {
        &self.worker
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// When the server was started, in seconds of the epoch.
    pub(crate) fn started(&self) -> u64 {
        seconds(self.started)
    }

    /// Gives a request to the engine.
    ///
    /// # Errors
    /// When it makes no sense, does not fit, or too much is waiting.
    pub(crate) async fn ask(&self, ask: Ask) -> Result<Answer, ApiError> {
        let choices = ask.choices;
        let model = Arc::clone(&self.model);
        let prepared = self.aside(move || ask.prepare(&model)).await??;
        let reading = prepared.reading.clone();
        let taken = self.worker.submit(prepared).await?;
        tracing::debug!("request {} was taken", taken.id.number());
        let tokenizer = Arc::clone(self.model.tokenizer());
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
        let internal = |what: &str| ApiError::new(crate::error::ErrorKind::Internal, what);
        let permit = self.preparing.acquire().await;
        let _permit = permit.map_err(|_| internal("the server is going down"))?;
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
