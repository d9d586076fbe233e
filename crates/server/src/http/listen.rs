//! The server's life: it binds, answers, and when asked to stop lets answers under way come to
//! their ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::tls::{TlsError, TlsFiles};
use super::{accept, router};
use crate::app::App;
use crate::config::Config;
use crate::error::ApiError;
use crate::models::{Loader, Offer, Registry};

/// Why the server does not run, or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("cannot listen on {host}:{port}; is another server there? choose another --port")]
    Bind {
        /// The address.
        host: String,
        /// The port.
        port: u16,
        /// What the system said.
        source: std::io::Error,
    },
    /// Connections cannot be encrypted.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The system refused threads or sockets.
    #[error("the server cannot be run")]
    System(#[from] std::io::Error),
    /// There is nothing to serve.
    #[error("there is no model to serve")]
    NoModels,
    /// The model that was to be loaded at the start could not be.
    #[error("{0}")]
    Load(ApiError),
}

/// A server that listens and does not answer yet.
pub struct Bound {
    runtime: Runtime,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    address: SocketAddr,
    app: Arc<App>,
    stop: watch::Sender<Stop>,
}

/// Asks a server to stop, from any thread.
#[derive(Debug, Clone)]
pub struct Stopper(watch::Sender<Stop>);

/// How far the server is with stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stop {
    No,
    /// Answers under way may end.
    Drain,
    /// Nothing is waited for.
    Now,
}

impl Stopper {
    /// The first call lets answers under way end, the second does not.
    pub fn stop(&self) {
        self.0.send_modify(|stop| {
            *stop = match stop {
                Stop::No => Stop::Drain,
                Stop::Drain | Stop::Now => Stop::Now,
            };
        });
    }
}

impl Bound {
    /// Listens at the address of `config`, for requests to models that `loader` loads.
    ///
    /// # Errors
    /// When the address is taken, the system is short of threads, or there is no model.
    pub fn new(
        offers: Vec<Offer>,
        loader: Box<dyn Loader>,
        config: Config,
    ) -> Result<Self, ServeError> {
        if offers.iter().all(|offer| offer.profiles.is_empty()) {
            return Err(ServeError::NoModels);
        }
        let tls = config.tls.as_ref().map(TlsFiles::acceptor).transpose()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("tidemill-http")
            .enable_all()
            .build()?;
        let address = (config.host.clone(), config.port);
        let listener = runtime
            .block_on(TcpListener::bind(address))
            .map_err(|source| ServeError::Bind {
                host: config.host.clone(),
                port: config.port,
                source,
            })?;
        let address = listener.local_addr()?;
        let handle = runtime.handle().clone();
        let models = Arc::new(Registry::new(offers, loader, config.models, handle));
        Ok(Self {
            runtime,
            listener,
            tls,
            address,
            app: Arc::new(App::new(models, config)),
            stop: watch::Sender::new(Stop::No),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What asks it to stop.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.stop.clone())
    }

    /// Stops it on Ctrl-C and when the system asks it to end, as [`Stopper::stop`] does.
    ///
    /// # Errors
    /// When the system refuses to tell of them.
    pub fn stop_on_signals(&self) -> Result<(), ServeError> {
        let stopper = self.stopper();
        let _inside = self.runtime.enter();
        let mut signals = Signals::new()?;
        self.runtime.spawn(async move {
            while signals.next().await {
                tracing::warn!("stopping; answers under way may end, once more to end at once");
                stopper.stop();
            }
        });
        Ok(())
    }

    /// Answers until it is asked to stop. With `loads_first` the first model is loaded at once:
    /// requests for it wait, and `/health` says how far it is.
    ///
    /// # Errors
    /// When the first model was to be loaded and cannot be.
    pub fn run(self, loads_first: bool) -> Result<(), ServeError> {
        let Self {
            runtime,
            listener,
            tls,
            app,
            stop,
            ..
        } = self;
        let (drain, head_time) = (app.config().drain, app.config().head_time);
        let models = Arc::clone(app.models());
        runtime.spawn(Arc::clone(&models).unload_idle());
        let first = Arc::clone(&app);
        first.set_starting(loads_first);
        let outcome = runtime.block_on(async move {
            let drained = reached(stop.subscribe(), Stop::Drain);
            tokio::select! {
                () = accept::serve(listener, tls, router(app), head_time, drained) => Ok(()),
                () = cut(&stop, drain) => {
                    tracing::warn!("answers under way were cut off");
                    Ok(())
                }
                error = failure_of(first, loads_first) => Err(ServeError::Load(error)),
            }
        });
        // Whatever still runs is dropped, which cancels it; then nothing holds the engines.
        runtime.shutdown_timeout(Duration::from_secs(5));
        models.close();
        outcome
    }
}

/// Waits until the server is asked to stop so urgently.
async fn reached(mut stop: watch::Receiver<Stop>, urgency: Stop) {
    // The sender lives as long as the server.
    let _ = stop.wait_for(|stop| *stop >= urgency).await;
}

/// Waits until nothing is to be waited for any more.
async fn cut(stop: &watch::Sender<Stop>, drain: Duration) {
    reached(stop.subscribe(), Stop::Drain).await;
    tokio::select! {
        () = tokio::time::sleep(drain) => {}
        () = reached(stop.subscribe(), Stop::Now) => {}
    }
}

/// Loads the first model, if that is wanted; comes back only if it cannot be loaded.
async fn failure_of(app: Arc<App>, is_wanted: bool) -> ApiError {
    if is_wanted {
        let lease = app.lease(None).await;
        app.set_starting(false);
        if let Err(error) = lease {
            return error;
        }
    }
    std::future::pending().await
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the next; `false` if there are no more.
    async fn next(&mut self) -> bool {
        tokio::select! {
            signal = self.interrupt.recv() => signal.is_some(),
            signal = self.terminate.recv() => signal.is_some(),
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> bool {
        tokio::signal::ctrl_c().await.is_ok()
    }
}
