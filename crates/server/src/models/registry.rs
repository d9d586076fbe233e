//! Which models are loaded. Requests come for them, wait while they are loaded, and leave.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::watch;

use super::lease::{Lease, Ticket};
use super::names::{self, Place};
use super::status::{Leaving, Phase, Running, Slot, Status};
use super::{KeptLoaded, LoadError, LoadedModel, Loader, Loading, ModelLimits, Offer};
use crate::error::{ApiError, ErrorKind};
use crate::model::ServedModel;
use crate::worker::Worker;

/// How often it is looked for models that nobody uses.
const ROUND: Duration = Duration::from_millis(200);

/// After a load failed, requests are told so for this long before it is tried again.
const RETRY: Duration = Duration::from_secs(3);

/// All models.
pub(crate) struct Registry {
    pub(super) offers: Vec<Offer>,
    pub(super) limits: ModelLimits,
    loader: Box<dyn Loader>,
    pub(super) state: Mutex<State>,
    /// Notified after every change: the one for threads, the other for tasks.
    pub(super) changed: Condvar,
    changes: watch::Sender<()>,
    runtime: Handle,
}

pub(super) struct State {
    pub(super) slots: Vec<Slot>,
    /// Nothing is loaded any more.
    pub(super) is_closed: bool,
    loads: u64,
}

impl Registry {
    /// Models of which none is loaded yet. There has to be one at least.
    pub(crate) fn new(
        offers: Vec<Offer>,
        loader: Box<dyn Loader>,
        limits: ModelLimits,
        runtime: Handle,
    ) -> Self {
        let slots = offers.iter().map(|offer| Slot::new(offer.fault.as_ref()));
        let state = State {
            slots: slots.collect(),
            is_closed: false,
            loads: 0,
        };
        Self {
            offers,
            limits,
            loader,
            state: Mutex::new(state),
            changed: Condvar::new(),
            changes: watch::Sender::new(()),
            runtime,
        }
    }

    pub(crate) fn offers(&self) -> &[Offer] {
        &self.offers
    }

    /// The model that a name means.
    ///
    /// # Errors
    /// When no model has it.
    pub(crate) fn find(&self, name: Option<&str>) -> Result<Place, ApiError> {
        names::find(&self.offers, name)
    }

    /// What a model is doing.
    pub(crate) fn status(&self, model: usize) -> Status {
        let state = self.held();
        state
            .slots
            .get(model)
            .map_or(Status::Unloaded, Slot::status)
    }

    /// A profile as it is served, and the way to its engine, if it is loaded. Does not keep it so.
    pub(crate) fn running(&self, place: Place) -> Option<(Arc<ServedModel>, Worker)> {
        match &self.held().slots.get(place.model)?.phase {
            Phase::Loaded(running) => {
                let served = running.served.get(place.profile)?;
                Some((Arc::clone(served), running.worker.clone()))
            }
            _ => None,
        }
    }

    /// When a model would be unloaded if nobody used it from now on, if ever.
    pub(crate) fn expires_in(&self, model: usize) -> Option<Duration> {
        let state = self.held();
        let slot = state.slots.get(model)?;
        match slot.kept.unwrap_or(self.limits.idle) {
            KeptLoaded::Always => None,
            KeptLoaded::For(time) if slot.leases > 0 => Some(time),
            KeptLoaded::For(time) => Some(time.saturating_sub(slot.used.elapsed())),
        }
    }

    /// The use of a model. Loads it if need be, for which others may have to leave.
    ///
    /// # Errors
    /// When it cannot be loaded, or the server is going down.
    pub(crate) async fn lease(self: Arc<Self>, place: Place) -> Result<Lease, ApiError> {
        let mut changes = self.changes.subscribe();
        let mut ticket = None;
        loop {
            if let Some(lease) = self.try_lease(place, &mut ticket)? {
                return Ok(lease);
            }
            if changes.changed().await.is_err() {
                return Err(going_down());
            }
        }
    }

    /// One look at whether the model can be used; `ticket` is what makes us count as a user.
    fn try_lease(
        self: &Arc<Self>,
        place: Place,
        ticket: &mut Option<Ticket>,
    ) -> Result<Option<Lease>, ApiError> {
        let mut state = self.held();
        if state.is_closed {
            drop(state);
            return Err(going_down());
        }
        let Some(slot) = state.slots.get_mut(place.model) else {
            return Ok(None);
        };
        let had_ticket = ticket.is_some();
        let counted = |ticket: &mut Option<Ticket>, leases: &mut usize| {
            if !had_ticket {
                *ticket = Some(Ticket::new(self, place.model, leases));
            }
        };
        match &slot.phase {
            Phase::Ending => {}
            // Whoever came before it was told to leave may still use it.
            Phase::Loaded(_) if slot.leaving != Leaving::No && !had_ticket => {}
            Phase::Loaded(running) => {
                let worker = running.worker.clone();
                let served = running.served.get(place.profile).map(Arc::clone);
                counted(ticket, &mut slot.leases);
                // Both are there: `run` has counted the profiles. (Dropping a ticket here would
                // wait for the lock that is held.)
                let (Some(served), true) = (served, ticket.is_some()) else {
                    return Ok(None);
                };
                let lease = ticket.take();
                return Ok(lease.map(|ticket| Lease::new(place, worker, served, ticket)));
            }
            Phase::Loading { .. } => counted(ticket, &mut slot.leases),
            Phase::Failed { why, at } if had_ticket || is_recent(*at) => {
                return Err(self.failed(place, why));
            }
            Phase::Failed { .. } | Phase::Unloaded => {
                counted(ticket, &mut slot.leases);
                slot.leaving = Leaving::No;
                slot.phase = Phase::Loading {
                    has_room: false,
                    done: 0,
                    total: 0,
                };
                if let Err(error) = self.start_loading(place.model) {
                    slot.phase = Phase::failed(error.to_string());
                    return Err(self.failed(place, &error.to_string()));
                }
            }
        }
        Ok(None)
    }

    fn failed(&self, place: Place, why: &str) -> ApiError {
        let profile = self.offers.get(place.model);
        let profile = profile.and_then(|offer| offer.profiles.get(place.profile));
        let name = profile.map_or("", |profile| profile.name.as_str());
        let message = format!("the model {name:?} cannot be loaded: {why}");
        ApiError::new(ErrorKind::Unavailable, message)
    }

    fn start_loading(self: &Arc<Self>, model: usize) -> std::io::Result<()> {
        let registry = Arc::clone(self);
        let thread = std::thread::Builder::new().name("tidemill-load".to_owned());
        thread.spawn(move || registry.load(model)).map(drop)
    }

    /// Loads a model, on a thread of its own.
    fn load(self: &Arc<Self>, model: usize) {
        let mut make_room = || self.make_room(model);
        let progress = |now: usize, of: usize| {
            self.change(|slots| {
                if let Some(Slot {
                    phase: Phase::Loading { done, total, .. },
                    ..
                }) = slots.get_mut(model)
                {
                    (*done, *total) = (now, of);
                }
            });
        };
        let loading = Loading {
            make_room: &mut make_room,
            progress: &progress,
        };
        let load = || self.loader.load(model, loading);
        // Requests wait for what becomes of it, whatever that is.
        let loaded = catch_unwind(AssertUnwindSafe(load))
            .unwrap_or_else(|_| Err("loading it panicked; the server's log says why".into()));
        let running = loaded.and_then(|loaded| self.run(model, loaded));
        let phase = match running {
            Ok(running) => {
                self.watch(model, &running);
                Phase::Loaded(running)
            }
            Err(error) if error.is::<super::room::NobodyWaits>() => Phase::Unloaded,
            Err(error) => {
                let why = chain(error.as_ref());
                tracing::error!("{}: {why}", self.name(model));
                Phase::failed(why)
            }
        };
        self.change(|slots| {
            if let Some(slot) = slots.get_mut(model) {
                slot.phase = phase;
                slot.used = Instant::now();
            }
        });
    }

    fn run(&self, model: usize, loaded: LoadedModel) -> Result<Running, LoadError> {
        let LoadedModel { scheduler, served } = loaded;
        let profiles = self.offers.get(model).map_or(0, |o| o.profiles.len());
        if served.len() != profiles {
            let why = format!("{} of {profiles} profiles were loaded", served.len());
            return Err(why.into());
        }
        let served: Vec<Arc<ServedModel>> = served.into_iter().map(Arc::new).collect();
        // Grammars need the vocabulary arranged; the first request should not wait for that.
        if let Some(model) = served.first().map(Arc::clone) {
            self.runtime.spawn_blocking(move || {
                if let Err(error) = model.grammars() {
                    tracing::warn!("{error}");
                }
            });
        }
        let (worker, thread) = Worker::start(scheduler, &self.runtime)?;
        let number = {
            let mut state = self.held();
            state.loads += 1;
            state.loads
        };
        Ok(Running {
            worker,
            served,
            thread,
            number,
        })
    }

    /// Notices when a model's thread ends by itself.
    fn watch(self: &Arc<Self>, model: usize, running: &Running) {
        let (life, number) = (running.worker.life(), running.number);
        let registry = Arc::downgrade(self);
        self.runtime.spawn(async move {
            life.ended().await;
            let Some(registry) = registry.upgrade() else {
                return;
            };
            registry.change(|slots| {
                let Some(slot) = slots.get_mut(model) else {
                    return;
                };
                if matches!(&slot.phase, Phase::Loaded(running) if running.number == number) {
                    tracing::error!("{}: the engine has stopped", registry.name(model));
                    slot.phase = Phase::failed("the engine has stopped".to_owned());
                }
            });
        });
    }

    /// Unloads what nobody has used for long enough, until the server ends.
    pub(crate) async fn unload_idle(self: Arc<Self>) {
        loop {
            tokio::time::sleep(ROUND).await;
            let is_needed = {
                let state = self.held();
                if state.is_closed {
                    return;
                }
                state.slots.iter().any(|slot| self.is_over(slot))
            };
            // A model's thread is waited for, which takes a while. Not every time: a thread that is
            // given something to do each round would never be found idle, and never end.
            if is_needed {
                let registry = Arc::clone(&self);
                let round = tokio::task::spawn_blocking(move || registry.unload_once());
                if round.await.is_err() {
                    return;
                }
            }
        }
    }

    /// Whether a model is loaded that nobody uses and that need not stay.
    fn is_over(&self, slot: &Slot) -> bool {
        let is_late = match slot.kept.unwrap_or(self.limits.idle) {
            KeptLoaded::Always => false,
            KeptLoaded::For(time) => slot.used.elapsed() >= time,
        };
        let is_free = slot.leases == 0 && (slot.leaving != Leaving::No || is_late);
        is_free && matches!(slot.phase, Phase::Loaded(_))
    }

    fn unload_once(&self) {
        let mut state = self.held();
        for model in 0..state.slots.len() {
            if state
                .slots
                .get(model)
                .is_some_and(|slot| self.is_over(slot))
            {
                state = self.end(state, model);
            }
        }
    }

    /// Unloads a model as soon as nobody uses it.
    pub(crate) fn unload(&self, model: usize) {
        self.change(|slots| {
            if let Some(slot) = slots.get_mut(model)
                && matches!(slot.phase, Phase::Loaded(_))
            {
                slot.leaving = Leaving::Asked;
            }
        });
    }

    /// Ends a loaded model's thread and waits for that, so that its memory is free.
    pub(super) fn end<'s>(
        &'s self,
        mut state: MutexGuard<'s, State>,
        model: usize,
    ) -> MutexGuard<'s, State> {
        let Some(slot) = state.slots.get_mut(model) else {
            return state;
        };
        let running = match std::mem::replace(&mut slot.phase, Phase::Ending) {
            Phase::Loaded(running) => running,
            other => {
                slot.phase = other;
                return state;
            }
        };
        drop(state);
        tracing::info!("{} is unloaded", self.name(model));
        stop(running, &self.name(model));
        let mut state = self.held();
        if let Some(slot) = state.slots.get_mut(model) {
            slot.phase = Phase::Unloaded;
            slot.leaving = Leaving::No;
            slot.kept = None;
        }
        self.tell();
        state
    }

    /// Loads nothing any more, and ends all that is loaded.
    pub(crate) fn close(&self) {
        let mut state = self.held();
        state.is_closed = true;
        self.tell();
        for model in 0..state.slots.len() {
            state = self.end(state, model);
        }
    }

    pub(super) fn name(&self, model: usize) -> String {
        let profile = self.offers.get(model).and_then(|o| o.profiles.first());
        profile.map_or_else(String::new, |profile| profile.name.clone())
    }

    /// Changes models' places, and tells whoever waits for that.
    pub(super) fn change(&self, change: impl FnOnce(&mut Vec<Slot>)) {
        change(&mut self.held().slots);
        self.tell();
    }

    pub(super) fn tell(&self) {
        self.changed.notify_all();
        self.changes.send_replace(());
    }

    /// Nobody panics while they hold this.
    pub(super) fn held(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a load failed so lately that trying again would only do harm: its room may have cost
/// another model its place.
fn is_recent(failure: Option<Instant>) -> bool {
    failure.is_some_and(|at| at.elapsed() < RETRY)
}

/// Ends a model's thread.
fn stop(running: Running, name: &str) {
    let Running {
        worker,
        served,
        thread,
        ..
    } = running;
    drop((worker, served));
    if thread.join().is_err() {
        tracing::error!("{name}: the engine ended with a panic");
    }
}

fn going_down() -> ApiError {
    ApiError::new(ErrorKind::Unavailable, "the server is going down")
}

/// An error with its reasons, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
