//! Who runs next, and who makes room: many requests on one engine.
//!
//! [`Scheduler::step`] admits requests, shares a budget of rows out among answers and prompts,
//! makes room in memory, runs the engine once, and chooses tokens. It is all driven by calls: no
//! threads, no clock, no sockets. Times are the caller's business.
//!
//! **Order.** Every stream (one answer of a request) has a rank, when it came minus what its
//! priority is worth. Ranks never change, and a stream makes room only for those before it, so the
//! first one always gets on, and in time everyone is first.
//!
//! **Memory.** Pages and states belong to all; nobody has a share. What is short is taken from the
//! prefix cache first, then from parked streams, then from the last of those that run: its state
//! and pages are copied to RAM and put back later. Only when that RAM is full too are its tokens
//! computed again, with the same result.

mod admit;
mod books;
mod chooser;
mod commit;
mod cuts;
mod fit;
mod plan;
mod prompt;
mod run;
mod settings;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use text::Tokenizer;

use crate::cache::{BoundaryKind, PrefixCache, Tier, keys};
use crate::constraint::Guide;
use crate::drafter::Drafter;
use crate::engine::Engine;
use crate::event::Event;
use crate::request::{Request, RequestId, SubmitError};
use crate::sampling::{Logprobs, SettingsError, TokenRules};
use crate::stop::StopStrings;

pub use books::{MemoryUse, Metrics, Phase, RequestStatus};
pub use settings::{PRIORITY_STEPS, SchedulerSettings};

use chooser::Chooser;
use stream::{Place, Stream, StreamId};

/// Runs requests on an engine.
pub struct Scheduler {
    engine: Engine,
    rules: Arc<TokenRules>,
    tokenizer: Option<Arc<Tokenizer>>,
    settings: SchedulerSettings,
    requests: BTreeMap<RequestId, Request>,
    streams: BTreeMap<StreamId, Stream>,
    cache: PrefixCache,
    drafter: Option<Box<dyn Drafter>>,
    /// Steps so far; the only time there is.
    now: u64,
    next_request: u64,
    next_stream: u64,
    events: Vec<Event>,
    metrics: Metrics,
}

impl Scheduler {
    /// Takes an engine over; nothing else may start sequences on it. `rules` are those of the
    /// model's tokens.
    pub fn new(engine: Engine, rules: Arc<TokenRules>, settings: SchedulerSettings) -> Self {
        let (_, pages) = engine.pages();
        Self {
            cache: PrefixCache::new(settings.cache, pages),
            engine,
            rules,
            tokenizer: None,
            settings,
            requests: BTreeMap::new(),
            streams: BTreeMap::new(),
            drafter: None,
            now: 0,
            next_request: 0,
            next_stream: 0,
            events: Vec::new(),
            metrics: Metrics::default(),
        }
    }

    /// Tells the text of tokens from now on, and looks for stop strings in it.
    #[must_use]
    pub fn with_tokenizer(mut self, tokenizer: Arc<Tokenizer>) -> Self {
        self.tokenizer = Some(tokenizer);
        self
    }

    /// Proposes tokens to the model from now on.
    #[must_use]
    pub fn with_drafter(mut self, drafter: Box<dyn Drafter>) -> Self {
        self.drafter = Some(drafter);
        self
    }

    /// Keeps cached prompts in a second place too.
    #[must_use]
    pub fn with_tier(mut self, tier: Box<dyn Tier>) -> Self {
        self.cache.set_tier(tier);
        self
    }

    /// Takes a request into the queue.
    ///
    /// # Errors
    /// If it can never be answered, or too many wait already.
    pub fn submit(&mut self, request: Request) -> Result<RequestId, SubmitError> {
        self.submit_guided(request, Guide::free())
    }

    /// Takes a request whose answers a guide steers: its grammar, and how long it may think. (The
    /// caller compiles grammars, so that steps need not wait for that.)
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub fn submit_guided(
        &mut self,
        mut request: Request,
        guide: Guide,
    ) -> Result<RequestId, SubmitError> {
        self.check(&request)?;
        request.cache &= request.prompt_logprobs.is_none();
        let chooser = Chooser::new(&request, 0, &self.rules, guide, self.tokenizer.as_ref())?;
        let waiting = self.waiting();
        let limit = self.settings.queue;
        if waiting >= limit {
            return Err(SubmitError::QueueFull { waiting, limit });
        }
        let id = RequestId(self.next_request);
        self.next_request += 1;
        let caches = request.cache && self.cache.is_on();
        let keys = keys(&request.prompt, &request.media);
        let cuts = if caches {
            cuts::of_prompt(&request.prompt, &request.boundaries, &self.settings.cache)
        } else {
            Vec::new()
        };
        let stream = Stream {
            request: id,
            choice: 0,
            tokens: request.prompt.clone(),
            keys,
            prompt: request.prompt.len(),
            place: Place::Waiting,
            chooser,
            rank: self.now as i64 - i64::from(request.priority) * PRIORITY_STEPS,
            priority: request.priority,
            cuts,
            served: self.now,
            is_started: false,
            is_paused: false,
            suspect_until: 0,
            usage: crate::event::Usage {
                prompt: request.prompt.len(),
                ..Default::default()
            },
            told: 1,
        };
        self.requests.insert(id, request);
        self.insert(stream);
        self.metrics.submitted += 1;
        Ok(id)
    }

    /// Ends a request wherever it is and frees what it held. What was read of its prompt is worth
    /// keeping in the cache: whoever hung up often asks again. `false` if there is none of this id.
    pub fn cancel(&mut self, id: RequestId) -> bool {
        if !self.requests.contains_key(&id) {
            return false;
        }
        for stream in self.streams_of(id) {
            let kept = self.keep(stream, BoundaryKind::EndOfGeneration, None);
            if let Err(error) = kept {
                tracing::warn!("a cancelled request's state was not kept: {error}");
            }
            self.remove(stream);
        }
        self.requests.remove(&id);
        self.metrics.cancelled += 1;
        true
    }

    /// Runs the next step. Returns what happened, in order.
    pub fn step(&mut self) -> Vec<Event> {
        self.now += 1;
        self.admit();
        let mut rows = self.share_rows();
        self.fit(&mut rows);
        self.run(&rows);
        self.metrics.steps += 1;
        std::mem::take(&mut self.events)
    }

    /// Whether there is nothing to do.
    pub fn is_idle(&self) -> bool {
        self.requests.is_empty()
    }

    /// The engine, to look at.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Ends all requests, forgets all cached prompts, and hands the engine back.
    pub fn into_engine(mut self) -> Engine {
        for request in self.requests.keys().copied().collect::<Vec<_>>() {
            self.cancel(request);
        }
        self.clear_cache();
        self.engine
    }

    /// Forgets all cached prompts.
    pub fn clear_cache(&mut self) {
        self.cache.clear(&mut self.engine);
    }

    fn check(&self, request: &Request) -> Result<(), SubmitError> {
        let prompt = request.prompt.len();
        if prompt == 0 {
            return Err(SubmitError::EmptyPrompt);
        }
        let context = self.engine.context();
        if prompt >= context {
            return Err(SubmitError::PromptTooLong { prompt, context });
        }
        let page_tokens = self.engine.page_tokens();
        let (needed, (_, pages)) = ((prompt + 1).div_ceil(page_tokens), self.engine.pages());
        if needed > pages {
            return Err(SubmitError::TooLittleMemory {
                needed,
                pages,
                page_tokens,
            });
        }
        let vocabulary = self.engine.vocabulary();
        let out_of_range = |token: &&u32| **token as usize >= vocabulary;
        if let Some(&token) = request.prompt.iter().find(out_of_range) {
            return Err(SubmitError::TokenOutOfRange { token, vocabulary });
        }
        if request.limits.stop != StopStrings::none() && self.tokenizer.is_none() {
            return Err(SubmitError::NoText);
        }
        let mut last = 0;
        for boundary in &request.boundaries {
            if boundary.offset > prompt || boundary.offset < last {
                return Err(SubmitError::BadBoundary {
                    offset: boundary.offset,
                    prompt,
                });
            }
            last = boundary.offset;
        }
        if let Some(asked) = request.prompt_logprobs.filter(|&top| top > Logprobs::MOST) {
            let most = Logprobs::MOST;
            return Err(SettingsError::TooManyLogprobs { asked, most }.into());
        }
        let limit = self.settings.choices;
        if !(1..=limit).contains(&request.choices) {
            return Err(SubmitError::BadChoices {
                choices: request.choices,
                limit,
            });
        }
        Ok(())
    }

    fn insert(&mut self, stream: Stream) -> StreamId {
        let id = StreamId(self.next_stream);
        self.next_stream += 1;
        self.streams.insert(id, stream);
        id
    }

    fn streams_of(&self, request: RequestId) -> Vec<StreamId> {
        let own = |(&id, stream): (&StreamId, &Stream)| (stream.request == request).then_some(id);
        self.streams.iter().filter_map(own).collect()
    }

    /// Streams by rank, the first first.
    fn ranked(&self, filter: impl Fn(&Stream) -> bool) -> Vec<StreamId> {
        let mut ranked: Vec<(i64, StreamId)> = self
            .streams
            .iter()
            .filter(|(_, stream)| filter(stream))
            .map(|(&id, stream)| (stream.rank, id))
            .collect();
        ranked.sort_unstable();
        ranked.into_iter().map(|(_, id)| id).collect()
    }

    fn stream(&self, id: StreamId) -> &Stream {
        self.streams.get(&id).expect("ids of streams that exist")
    }

    fn stream_mut(&mut self, id: StreamId) -> &mut Stream {
        self.streams
            .get_mut(&id)
            .expect("ids of streams that exist")
    }

    /// Tokens of a stream that are in its sequence's memory; 0 if it does not run.
    fn past(&self, stream: &Stream) -> usize {
        stream
            .sequence()
            .and_then(|sequence| self.engine.tokens(sequence).ok())
            .unwrap_or(0)
    }
}
