//! The thread that drives the engine: requests come in over a channel, events go out over one
//! channel for each request.
//!
//! The events of a step leave the thread together, for a task that hands them out: waking another thread
//! takes the engine's as long as much of a small model's layer, and once a step is enough.
//!
//! Channels are unbounded, so that a client that reads slowly neither stalls the others nor loses
//! anything; an answer's length bounds them. A request whose receiver is gone is cancelled before
//! the next step, while its prompt is read as well as later.

mod board;
mod histogram;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use engine::{Event, RequestId, Scheduler, SubmitError};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{oneshot, watch};

pub(crate) use board::{Board, Figures, Latencies};
pub(crate) use histogram::Histogram;

use crate::ask::Prepared;
use crate::error::ApiError;
use crate::models::Ticket;

/// What happened to a request, and when.
#[derive(Debug)]
pub(crate) struct Stamped {
    pub(crate) at: Instant,
    pub(crate) event: Event,
}

/// A request that the engine has taken.
#[derive(Debug)]
pub(crate) struct Taken {
    /// Its number among all.
    pub(crate) id: RequestId,
    /// When it was taken.
    pub(crate) at: Instant,
    /// Its prompt.
    pub(crate) prompt: Vec<u32>,
    /// What happens to it. Dropping this cancels it.
    pub(crate) events: UnboundedReceiver<Stamped>,
}

struct Submission {
    prepared: Box<Prepared>,
    at: Instant,
    events: UnboundedSender<Stamped>,
    reply: oneshot::Sender<Result<RequestId, SubmitError>>,
    user: Arc<Ticket>,
}

/// The way to the engine's thread; the thread ends when all of these are gone.
#[derive(Clone)]
pub(crate) struct Worker {
    submissions: Sender<Submission>,
    board: Arc<Board>,
    /// Closed when the thread ends, however that happens.
    life: watch::Receiver<()>,
}

/// Whether a thread still runs.
pub(crate) struct Life(watch::Receiver<()>);

impl Life {
    /// Waits until the thread has ended.
    pub(crate) async fn ended(mut self) {
        // There is never a change, so that this fails when the sender is gone.
        let _ = self.0.changed().await;
    }
}

/// How often figures are put on the board while there is work.
const PUBLISH: Duration = Duration::from_millis(100);

impl Worker {
    /// Starts the thread, and on `runtime` what hands out its events.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub(crate) fn start(
        scheduler: Scheduler,
        runtime: &Handle,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (submissions, received) = channel();
        let (mail, steps) = unbounded_channel();
        runtime.spawn(hand_out(steps));
        let board = Arc::new(Board::new(Figures::of(&scheduler)));
        let shown = Arc::clone(&board);
        let (alive, life) = watch::channel(());
        let drive = move || {
            let _alive = alive;
            Driver::new(scheduler, shown, mail).drive(&received);
        };
        let thread = std::thread::Builder::new()
            .name("tidemill-engine".to_owned())
            .spawn(drive)?;
        let worker = Self {
            submissions,
            board,
            life,
        };
        Ok((worker, thread))
    }

    /// Gives the engine a request. `user` is held until it is answered or cancelled, so that the
    /// model stays loaded for as long, and not until the last client has read its answer.
    ///
    /// # Errors
    /// When it does not fit, too much is waiting, or the engine has ended.
    pub(crate) async fn submit(
        &self,
        prepared: Prepared,
        user: Arc<Ticket>,
    ) -> Result<Taken, ApiError> {
        let (events, received) = unbounded_channel();
        let (reply, answer) = oneshot::channel();
        let at = Instant::now();
        let prompt = prepared.request.prompt.clone();
        let submission = Submission {
            prepared: Box::new(prepared),
            at,
            events,
            reply,
            user,
        };
        let gone = |_| ApiError::engine_is_gone();
        self.submissions
            .send(submission)
            .map_err(|_| ApiError::engine_is_gone())?;
        let id = answer.await.map_err(gone)??;
        Ok(Taken {
            id,
            at,
            prompt,
            events: received,
        })
    }

    /// Tells when the thread has ended, and does not keep it from doing so.
    pub(crate) fn life(&self) -> Life {
        Life(self.life.clone())
    }

    /// What the engine last told of itself.
    pub(crate) fn board(&self) -> &Board {
        &self.board
    }
}

/// Who hears of a request.
struct Listener {
    events: UnboundedSender<Stamped>,
    at: Instant,
    /// Of the latest token of each answer.
    latest: BTreeMap<usize, Instant>,
    unfinished: usize,
    /// Keeps the model loaded.
    _user: Arc<Ticket>,
}

/// An event and whom it is for.
type Letter = (UnboundedSender<Stamped>, Stamped);

/// Hands out the events of each step.
async fn hand_out(mut steps: UnboundedReceiver<Vec<Letter>>) {
    while let Some(letters) = steps.recv().await {
        for (events, stamped) in letters {
            // One that left is cancelled before the next step.
            let _ = events.send(stamped);
        }
    }
}

struct Driver {
    scheduler: Scheduler,
    board: Arc<Board>,
    mail: UnboundedSender<Vec<Letter>>,
    /// Of this step.
    letters: Vec<Letter>,
    listeners: BTreeMap<RequestId, Listener>,
    published: Instant,
}

impl Driver {
    fn new(scheduler: Scheduler, board: Arc<Board>, mail: UnboundedSender<Vec<Letter>>) -> Self {
        Self {
            scheduler,
            board,
            mail,
            letters: Vec::new(),
            listeners: BTreeMap::new(),
            published: Instant::now(),
        }
    }

    fn drive(mut self, submissions: &Receiver<Submission>) {
        loop {
            if self.scheduler.is_idle() {
                self.publish();
                match submissions.recv() {
                    Ok(submission) => self.take(submission),
                    Err(_) => break,
                }
            }
            while let Ok(submission) = submissions.try_recv() {
                self.take(submission);
            }
            self.cancel_abandoned();
            let events = self.scheduler.step();
            let now = Instant::now();
            for event in events {
                self.tell(event, now);
            }
            if !self.letters.is_empty() {
                // Without a runtime nobody listens.
                let _ = self.mail.send(std::mem::take(&mut self.letters));
            }
            if now.duration_since(self.published) >= PUBLISH {
                self.publish();
            }
        }
    }

    fn take(&mut self, submission: Submission) {
        let Submission {
            prepared,
            at,
            events,
            reply,
            user,
        } = submission;
        // Whoever asked may have left while this waited.
        if events.is_closed() || reply.is_closed() {
            return;
        }
        let unfinished = prepared.request.choices;
        let outcome = self
            .scheduler
            .submit_guided(prepared.request, prepared.guide);
        if let Ok(id) = outcome {
            let listener = Listener {
                events,
                at,
                latest: BTreeMap::new(),
                unfinished,
                _user: user,
            };
            self.listeners.insert(id, listener);
            // Whoever has its reply finds it on the board.
            self.publish();
        }
        // A reply that nobody waits for any more is found out by `cancel_abandoned`.
        let _ = reply.send(outcome);
    }

    fn cancel_abandoned(&mut self) {
        let before = self.listeners.len();
        let scheduler = &mut self.scheduler;
        self.listeners.retain(|&id, listener| {
            let is_heard = !listener.events.is_closed();
            if !is_heard {
                scheduler.cancel(id);
            }
            is_heard
        });
        if self.listeners.len() < before {
            self.publish();
        }
    }

    fn tell(&mut self, event: Event, now: Instant) {
        let id = request_of(&event);
        let Some(listener) = id.and_then(|id| self.listeners.get_mut(&id)) else {
            return;
        };
        self.board.latencies(|latencies| {
            note(latencies, listener, &event, now);
        });
        let is_over = match &event {
            Event::Finished { .. } => {
                listener.unfinished = listener.unfinished.saturating_sub(1);
                listener.unfinished == 0
            }
            Event::Failed { .. } => true,
            _ => false,
        };
        let stamped = Stamped { at: now, event };
        let events = listener.events.clone();
        if let Some(over) = id.filter(|_| is_over) {
            // Whoever hears the end finds it on the board, and may ask at once what is in use.
            self.listeners.remove(&over);
            self.publish();
        }
        self.letters.push((events, stamped));
    }

    fn publish(&mut self) {
        self.board.publish(Figures::of(&self.scheduler));
        self.published = Instant::now();
    }
}

fn note(latencies: &mut Latencies, listener: &mut Listener, event: &Event, now: Instant) {
    let since = |then: Instant| now.duration_since(then).as_secs_f64();
    match event {
        Event::Started { .. } => latencies.queue.observe(since(listener.at)),
        Event::Token { choice, .. } => {
            match listener.latest.insert(*choice, now) {
                None => latencies.first_token.observe(since(listener.at)),
                Some(before) => latencies.between_tokens.observe(since(before)),
            };
        }
        Event::Finished { usage, .. } => {
            latencies.whole.observe(since(listener.at));
            latencies.prompt_tokens.observe(usage.prompt as f64);
            latencies.answer_tokens.observe(usage.generated as f64);
        }
        _ => {}
    }
}

fn request_of(event: &Event) -> Option<RequestId> {
    match event {
        Event::Started { request, .. }
        | Event::PrefillProgress { request, .. }
        | Event::PromptLogprobs { request, .. }
        | Event::Token { request, .. }
        | Event::Paused { request, .. }
        | Event::Resumed { request, .. }
        | Event::Finished { request, .. }
        | Event::Failed { request, .. } => Some(*request),
        _ => None,
    }
}
