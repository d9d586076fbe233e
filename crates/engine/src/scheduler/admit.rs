//! Streams that wait become sequences.

use crate::cache::{Boundary, Key, Lookup};
use crate::engine::SequenceId;
use crate::error::EngineError;
use crate::event::{Event, Reuse, ReusedFrom};

use super::stream::{Parked, ParkedPages, Place, StreamId};
use super::{Scheduler, cuts};

/// How an attempt to start a stream went.
enum Attempt {
    Started,
    /// It waits for something that is under way; others may go before.
    NotYet,
    /// Memory is short; whoever is behind it waits too.
    NoRoom,
}

impl Scheduler {
    /// Starts streams in the order of their ranks, as many as there is room for.
    pub(super) fn admit(&mut self) {
        for id in self.ranked(|stream| stream.sequence().is_none()) {
            // An earlier failure may have ended its request.
            if !self.streams.contains_key(&id) {
                continue;
            }
            match self.try_start(id) {
                Ok(Attempt::Started | Attempt::NotYet) => {}
                Ok(Attempt::NoRoom) => return,
                Err(error) => self.fail(self.stream(id).request, &error),
            }
        }
    }

    fn try_start(&mut self, id: StreamId) -> Result<Attempt, EngineError> {
        let has_state = self.engine.states().0 > 0;
        let lower = if has_state { None } else { self.last_below(id) };
        if !has_state && lower.is_none() {
            return Ok(Attempt::NoRoom);
        }
        if matches!(self.stream(id).place, Place::Waiting) && self.is_being_read(id) {
            return Ok(Attempt::NotYet);
        }
        if let Some(lower) = lower {
            self.park(lower, false)?;
        }
        match std::mem::replace(&mut self.stream_mut(id).place, Place::Waiting) {
            Place::Parked(parked) => self.resume(id, parked),
            Place::Waiting => self.start(id),
            Place::Running(_) => unreachable!("streams that run do not wait"),
        }
    }

    /// Puts a parked stream back.
    fn resume(&mut self, id: StreamId, parked: Parked) -> Result<Attempt, EngineError> {
        let past = parked.past;
        let needed = match &parked.pages {
            ParkedPages::Device(_) => 0,
            ParkedPages::Host(pages) => pages.len(),
        };
        let growth = self.pages_to_grow(self.stream(id), past);
        if !self.has_room(id, needed + growth) || !self.make_room(needed)? {
            self.stream_mut(id).place = Place::Parked(parked);
            return Ok(Attempt::NoRoom);
        }
        let Parked {
            state,
            pages,
            hidden,
            ..
        } = parked;
        let pages = match pages {
            ParkedPages::Device(pages) => pages,
            ParkedPages::Host(bytes) => self.engine.write_pages(bytes.iter().map(Vec::as_slice))?,
        };
        let point = crate::Checkpoint::new(past, pages, state);
        let sequence = self.engine.start_from(&point);
        self.engine.discard(point);
        self.set_running(id, sequence?, past, hidden.as_deref());
        self.tell_resumed(id, 0);
        Ok(Attempt::Started)
    }

    /// Starts a stream from the longest cached beginning of its tokens.
    fn start(&mut self, id: StreamId) -> Result<Attempt, EngineError> {
        let found = self.look_up(id)?;
        let Some(found) = found else {
            return Ok(Attempt::NotYet);
        };
        // Pages of the entry that others hold too are not to be found.
        let shared = found
            .entry
            .map_or(0, |entry| self.cache.pages_in_use(&self.engine, entry));
        let total = self.stream(id).tokens.len() + 1;
        let needed = total.div_ceil(self.engine.page_tokens()) - shared;
        if !self.has_room(id, needed) {
            return Ok(Attempt::NoRoom);
        }
        let (sequence, hidden) = match found.entry {
            Some(entry) => {
                let hidden = self.cache.hidden(entry);
                (self.cache.start_from(&mut self.engine, entry)?, hidden)
            }
            None => (self.engine.start()?, None),
        };
        self.set_running(id, sequence, found.tokens, hidden.as_deref());
        let stream = self.stream_mut(id);
        stream.cuts.retain(|cut| cut.offset > found.tokens);
        if stream.is_started {
            let again = stream.tokens.len() - found.tokens;
            self.tell_resumed(id, again);
        } else {
            self.tell_started(id, &found);
        }
        if found.tokens == self.stream(id).tokens.len() {
            let logits = found
                .logits
                .expect("whole prompts are cached with their logits");
            self.answer_begins(id, &logits)?;
        }
        Ok(Attempt::Started)
    }

    /// What the cache has of a stream's tokens; `None` if it is still being fetched.
    fn look_up(&mut self, id: StreamId) -> Result<Option<Lookup>, EngineError> {
        let stream = self.streams.get(&id).expect("ids of streams that exist");
        let request = &self.requests[&stream.request];
        if !request.cache {
            return Ok(Some(Lookup::off()));
        }
        self.cache
            .find(&mut self.engine, &stream.keys, &request.boundaries)
    }

    /// Whether another stream is reading the same tokens and will keep a state that this one can
    /// go on from.
    fn is_being_read(&self, id: StreamId) -> bool {
        let stream = self.stream(id);
        if !self.requests[&stream.request].cache || !self.cache.is_on() {
            return false;
        }
        let mut cached = None;
        self.streams.values().any(|other| {
            if other.sequence().is_none() || other.cuts.is_empty() {
                return false;
            }
            let past = self.past(other);
            let common = common_prefix(&stream.keys, &other.keys);
            let ahead = |cut: &&Boundary| (past + 1..=common).contains(&cut.offset);
            let Some(cut) = other.cuts.iter().rev().find(ahead) else {
                return false;
            };
            let cached = *cached.get_or_insert_with(|| self.cache.longest(&stream.keys));
            cut.offset > cached
        })
    }

    fn set_running(
        &mut self,
        id: StreamId,
        sequence: SequenceId,
        past: usize,
        hidden: Option<&[f32]>,
    ) {
        let now = self.now;
        let request = self.stream(id).request;
        if let (Some(drafter), true) = (&mut self.drafter, self.requests[&request].speculation) {
            let known = self.streams[&id].tokens.len();
            drafter.begin(sequence, past, known, hidden);
        }
        let stream = self.stream_mut(id);
        stream.place = Place::Running(sequence);
        stream.served = now;
    }

    fn tell_started(&mut self, id: StreamId, found: &Lookup) {
        let stream = self.stream_mut(id);
        stream.is_started = true;
        stream.usage.cached = found.tokens;
        if let Some(parting) = found.parting {
            cuts::add(&mut stream.cuts, parting);
        }
        let from = if found.tokens == 0 {
            ReusedFrom::Nowhere
        } else if found.is_from_tier {
            ReusedFrom::Tier
        } else {
            ReusedFrom::Memory
        };
        let (request, prompt) = (stream.request, stream.prompt);
        self.metrics.prompt_tokens += prompt as u64;
        self.metrics.cached_tokens += found.tokens as u64;
        self.events.push(Event::Started {
            request,
            reuse: Reuse {
                cached: found.tokens,
                from,
                rest: found.miss,
            },
        });
    }

    fn tell_resumed(&mut self, id: StreamId, again: usize) {
        let stream = self.stream_mut(id);
        let was_paused = std::mem::replace(&mut stream.is_paused, false);
        // The other answers of a request begin parked, which is no pause.
        if !was_paused && again == 0 {
            return;
        }
        let (request, choice) = (stream.request, stream.choice);
        self.metrics.resumed += 1;
        self.events.push(Event::Resumed {
            request,
            choice,
            again,
        });
    }
}

fn common_prefix(a: &[Key], b: &[Key]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
