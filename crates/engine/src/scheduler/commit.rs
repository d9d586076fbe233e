//! What a step's logits become: tokens, kept states, ends.

use std::sync::Arc;

use crate::cache::BoundaryKind;
use crate::checkpoint::Checkpoint;
use crate::constraint::Guide;
use crate::engine::{RunOutputs, SequenceId};
use crate::error::EngineError;
use crate::event::{Event, FinishReason};
use crate::request::RequestId;

use super::Scheduler;
use super::chooser::{Chooser, Chosen, Row};
use super::run::Part;
use super::stream::{Parked, ParkedPages, Place, Stream, StreamId};

impl Scheduler {
    /// Moves a stream on by its rows.
    pub(super) fn commit(
        &mut self,
        part: &Part,
        outputs: &mut RunOutputs,
    ) -> Result<(), EngineError> {
        let id = part.stream;
        let now = self.now;
        let stream = self.stream_mut(id);
        stream.served = now;
        let is_prefill = stream.generated() == 0;
        let (request, prompt) = (stream.request, stream.prompt);
        if is_prefill || part.rows > 1 {
            stream.usage.prefilled += part.rows;
            self.metrics.prefill_rows += part.rows as u64;
        } else {
            self.metrics.decode_rows += (part.rows + part.drafts.len()) as u64;
        }
        if is_prefill {
            self.events.push(Event::PrefillProgress {
                request,
                done: self.past(self.stream(id)),
                total: prompt,
            });
        }
        let cols = outputs.hidden.cols();
        let own = outputs.hidden.data().get(..part.rows * cols);
        self.ran(id, own.unwrap_or_default())?;
        self.tell_prompt(part, outputs);
        if !part.is_complete {
            return self.keep_at_cut(id, None);
        }
        if is_prefill {
            let last = outputs.logits.rows().saturating_sub(1);
            let row: Arc<[f32]> = outputs.logits.row(last).into();
            self.keep_at_cut(id, Some(&row))?;
            return self.answer_begins(id, &row);
        }
        self.keep_at_cut(id, None)?;
        self.verify(part, outputs)
    }

    /// Tells the drafter of tokens that were run and stay.
    fn ran(&mut self, id: StreamId, hidden: &[f32]) -> Result<(), EngineError> {
        let sequence = self.stream(id).sequence();
        match (&mut self.drafter, sequence) {
            (Some(drafter), Some(sequence)) if !hidden.is_empty() => {
                drafter.ran(&self.engine, sequence, hidden)
            }
            _ => Ok(()),
        }
    }

    /// What the drafter has to know of a stream whose sequence is about to be copied.
    pub(super) fn settle_drafter(
        &mut self,
        id: StreamId,
    ) -> Result<Option<Arc<[f32]>>, EngineError> {
        let stream = &self.streams[&id];
        match (&mut self.drafter, stream.sequence()) {
            (Some(drafter), Some(sequence)) => {
                drafter.settle(&mut self.engine, sequence, &stream.tokens)
            }
            _ => Ok(None),
        }
    }

    /// Keeps the state if the stream is where that is wanted.
    fn keep_at_cut(
        &mut self,
        id: StreamId,
        logits: Option<&Arc<[f32]>>,
    ) -> Result<(), EngineError> {
        let past = self.past(self.stream(id));
        let stream = self.stream_mut(id);
        let reached = stream.cuts.iter().position(|cut| cut.offset == past);
        let kind = reached.map(|at| stream.cuts[at].kind);
        stream.cuts.retain(|cut| cut.offset > past);
        match kind {
            Some(kind) => self.keep(id, kind, logits.cloned()),
            None => Ok(()),
        }
    }

    /// Keeps the state behind the tokens that are in memory.
    pub(super) fn keep(
        &mut self,
        id: StreamId,
        kind: BoundaryKind,
        logits: Option<Arc<[f32]>>,
    ) -> Result<(), EngineError> {
        let stream = &self.streams[&id];
        let Some(sequence) = stream.sequence() else {
            return Ok(());
        };
        if !self.requests[&stream.request].cache {
            return Ok(());
        }
        let past = self.engine.tokens(sequence)?;
        let hidden = self.settle_drafter(id)?;
        let keys = &self.streams[&id].keys[..past];
        self.cache
            .keep(&mut self.engine, sequence, keys, kind, (hidden, logits))
    }

    /// The prompt is read: makes the request's other answers, and chooses each one's first token.
    pub(super) fn answer_begins(
        &mut self,
        id: StreamId,
        logits: &Arc<[f32]>,
    ) -> Result<(), EngineError> {
        let stream = self.stream(id);
        let request = stream.request;
        let choices = self.requests[&request].choices;
        let mut streams = vec![id];
        if stream.choice == 0 && stream.generated() == 0 && choices > 1 {
            let sequence = stream.sequence().expect("its prompt was just read");
            let hidden = self.settle_drafter(id)?;
            let chooser = &mut self.stream_mut(id).chooser;
            let guides: Result<Vec<Guide>, _> =
                (1..choices).map(|_| chooser.fork_guide()).collect();
            let guides = guides?;
            let point = self.engine.checkpoint(sequence)?;
            for (choice, guide) in (1..).zip(guides) {
                streams.push(self.branch(id, choice, guide, &point, hidden.clone()));
            }
            self.engine.discard(point);
        }
        for id in streams {
            if self.requests[&request].limits.max_tokens == Some(0) {
                self.finish(id, FinishReason::Length)?;
            } else {
                // Each of several answers changes a copy of its own.
                self.choose(id, Row::All(&mut logits.to_vec()))?;
            }
        }
        Ok(())
    }

    /// Another answer to the prompt that a stream has read. It begins parked.
    fn branch(
        &mut self,
        id: StreamId,
        choice: usize,
        guide: Guide,
        point: &Checkpoint,
        hidden: Option<Arc<[f32]>>,
    ) -> StreamId {
        let copy = self.engine.copy_checkpoint(point);
        let parked = Parked {
            past: copy.tokens(),
            state: Arc::clone(copy.state()),
            pages: ParkedPages::Device(copy.into_pages()),
            hidden,
        };
        let parent = &self.streams[&id];
        let mut usage = parent.usage;
        usage.prefilled = 0;
        let stream = Stream {
            request: parent.request,
            choice,
            tokens: parent.tokens.clone(),
            keys: parent.keys.clone(),
            prompt: parent.prompt,
            place: Place::Waiting,
            chooser: Chooser::new(
                &self.requests[&parent.request],
                choice,
                &self.rules,
                guide,
                self.tokenizer.as_ref(),
            )
            .expect("the settings were good for the first answer"),
            rank: parent.rank,
            priority: parent.priority,
            cuts: Vec::new(),
            served: self.now,
            is_started: true,
            is_paused: false,
            suspect_until: 0,
            usage,
            told: parent.told,
        };
        let id = self.insert(stream);
        self.keep_parked(id, parked);
        id
    }

    /// Chooses a token from each row until one is not the drafted one.
    fn verify(&mut self, part: &Part, outputs: &mut RunOutputs) -> Result<(), EngineError> {
        let id = part.stream;
        let drafted = part.drafts.len();
        let stream = self.stream_mut(id);
        stream.usage.drafted += drafted;
        let sequence = stream.sequence().expect("it was in the step");
        let mut accepted = 0;
        loop {
            let place = self.stream(id).tokens.len();
            let row = match &outputs.likely {
                Some(rows) => Row::Likely(&rows[accepted]),
                None => Row::All(outputs.logits.row_mut(accepted)),
            };
            let goes_on = self.choose(id, row)?;
            if !goes_on || accepted == drafted {
                break;
            }
            let tokens = &self.stream(id).tokens;
            // Behind the chosen token others may follow that left no choice, of which no draft was.
            let (chosen, is_last) = (tokens[place], tokens.len() == place + 1);
            if chosen != part.drafts[accepted] || !self.engine.accept(sequence)? {
                break;
            }
            accepted += 1;
            self.stream_mut(id).usage.accepted += 1;
            let cols = outputs.hidden.cols();
            let row = accepted * cols..(accepted + 1) * cols;
            self.ran(id, outputs.hidden.data().get(row).unwrap_or_default())?;
            if !is_last {
                break;
            }
        }
        // Of the grammar's own there is nothing to learn.
        let is_guess = drafted > 0 && !part.is_certain;
        if let (Some(drafter), true) = (&mut self.drafter, is_guess) {
            drafter.verified(sequence, drafted, accepted);
        }
        Ok(())
    }

    /// Chooses a stream's next token, and those behind it that leave no choice. Returns whether the
    /// stream goes on.
    fn choose(&mut self, id: StreamId, row: Row<'_>) -> Result<bool, EngineError> {
        let mut next = Some(self.stream_mut(id).chooser.choose(row)?);
        while let Some(chosen) = next {
            if !self.append(id, chosen)? {
                return Ok(false);
            }
            next = self.stream_mut(id).chooser.forced()?;
        }
        Ok(true)
    }

    /// Puts a chosen token behind a stream. Returns whether the stream goes on.
    fn append(&mut self, id: StreamId, chosen: Chosen) -> Result<bool, EngineError> {
        let context = self.engine.context();
        let stream = self.stream_mut(id);
        let (request, choice) = (stream.request, stream.choice);
        if chosen.is_shown {
            stream.tokens.push(chosen.token);
            stream.keys.push(crate::cache::Key::text(chosen.token));
            stream.usage.generated += 1;
            self.metrics.generated += 1;
            self.events.push(Event::Token {
                request,
                choice,
                token: chosen.token,
                text: chosen.text,
                logprobs: chosen.logprobs,
            });
        }
        // The token has a place in the context only if it is run.
        let is_full = self.stream(id).tokens.len() > context;
        let end = chosen.end.or(is_full.then_some(FinishReason::ContextFull));
        if let Some(reason) = end {
            self.finish(id, reason)?;
            return Ok(false);
        }
        if self.requests[&request].keep_before.contains(&chosen.token) {
            self.keep(id, BoundaryKind::StartOfToolCall, None)?;
        }
        Ok(true)
    }

    /// Ends one answer.
    fn finish(&mut self, id: StreamId, reason: FinishReason) -> Result<(), EngineError> {
        self.keep(id, BoundaryKind::EndOfGeneration, None)?;
        let stream = self.stream_mut(id);
        let (request, choice, usage) = (stream.request, stream.choice, stream.usage);
        let text = stream.chooser.finish();
        let stop_string = stream.chooser.stop_string().map(str::to_owned);
        self.remove(id);
        self.events.push(Event::Finished {
            request,
            choice,
            reason,
            text,
            stop_string,
            usage,
        });
        if self.streams_of(request).is_empty() {
            self.requests.remove(&request);
            self.metrics.finished += 1;
        }
        Ok(())
    }

    /// Ends a request on which the device failed.
    pub(super) fn fail(&mut self, request: RequestId, error: &EngineError) {
        if self.requests.remove(&request).is_none() {
            return;
        }
        for id in self.streams_of(request) {
            self.remove(id);
        }
        self.metrics.failed += 1;
        self.events.push(Event::Failed {
            request,
            error: error.to_string(),
        });
    }

    /// Frees what a stream holds and forgets it.
    pub(super) fn remove(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.remove(&id) {
            self.free(stream.place);
        }
    }

    pub(super) fn free(&mut self, place: Place) {
        match place {
            Place::Waiting => {}
            Place::Parked(parked) => {
                if let ParkedPages::Device(pages) = parked.pages {
                    self.engine.release(pages);
                }
            }
            // It exists; there is nothing else that could fail.
            Place::Running(sequence) => drop(self.end_sequence(sequence)),
        }
    }

    pub(super) fn end_sequence(&mut self, sequence: SequenceId) -> Result<(), EngineError> {
        if let Some(drafter) = &mut self.drafter {
            drafter.forget(sequence);
        }
        self.engine.end(sequence)
    }
}
