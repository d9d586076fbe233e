//! The server's life: it binds, answers, and when asked to stop lets answers under way come to
//! their ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use engine::Scheduler;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::{accept, router};
use crate::app::App;
use crate::config::Config;
use crate::model::ServedModel;
use crate::worker::Worker;

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
    /// The system refused threads or sockets.
    #[error("the server cannot be run")]
    System(#[from] std::io::Error),
    /// The thread that drives the engine ended by itself.
    #[error("the engine has stopped; this is a mistake in the program, please report it")]
    EngineStopped,
}

/// A server that listens and does not answer yet.
pub struct Bound {
    runtime: Runtime,
    listener: TcpListener,
    address: SocketAddr,
    app: Arc<App>,
    engine: JoinHandle<()>,
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
    /// Listens at the address of `config` and starts the thread that drives the engine.
    ///
    /// # Errors
    /// When the address is taken, or the system is short of threads.
    pub fn new(
        scheduler: Scheduler,
        model: ServedModel,
        config: Config,
    ) -> Result<Self, ServeError> {
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
        let (worker, engine) = Worker::start(scheduler)?;
        Ok(Self {
            runtime,
            listener,
            address,
            app: Arc::new(App::new(model, worker, config)),
            engine,
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

    /// Answers until it is asked to stop.
    ///
    /// # Errors
    /// When the engine ended by itself.
    pub fn run(self) -> Result<(), ServeError> {
        let Self {
            runtime,
            listener,
            app,
            engine,
            stop,
            ..
        } = self;
        let drain = app.config().drain;
        // Grammars need the vocabulary arranged; the first request should not wait for that.
        let model = Arc::clone(app.model());
        runtime.spawn_blocking(move || {
            if let Err(error) = model.grammars() {
                tracing::warn!("{error}");
            }
        });
        let watched = Arc::clone(&app);
        let outcome = runtime.block_on(async move {
            let drained = reached(stop.subscribe(), Stop::Drain);
            tokio::select! {
                () = accept::serve(listener, router(app), drained) => Ok(()),
                () = cut(&stop, drain) => {
                    tracing::warn!("answers under way were cut off");
                    Ok(())
                }
                () = engine_ends(&watched) => Err(ServeError::EngineStopped),
            }
        });
        // Whatever still runs is dropped, which cancels it; then nothing holds the engine.
        runtime.shutdown_timeout(Duration::from_secs(5));
        match engine.join() {
            Ok(()) => outcome,
            Err(_) => Err(ServeError::EngineStopped),
        }
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

/// Waits until the engine's thread has ended.
async fn engine_ends(app: &App) {
    app.worker().ended().await;
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
