//! One step of the engine, from rows to logits.

use crate::drafter::ToDraft;
use crate::engine::{Run, RunOutputs, SequenceId, Work};
use crate::error::EngineError;

use super::Scheduler;
use super::fit::Rows;
use super::stream::{Place, Stream, StreamId};

/// What one stream has in a step.
pub(super) struct Part {
    pub(super) stream: StreamId,
    /// Rows of its own tokens.
    pub(super) rows: usize,
    /// Rows of proposed tokens behind them.
    pub(super) drafts: Vec<u32>,
    /// Whether these follow from the answer's grammar.
    pub(super) is_certain: bool,
    /// Whether its tokens are all in memory with these rows, so that the next can be chosen.
    pub(super) is_complete: bool,
    /// Whether its one row is the token that was chosen last.
    pub(super) is_answering: bool,
}

impl Scheduler {
    /// Runs these rows and deals with what comes out.
    pub(super) fn run(&mut self, rows: &Rows) {
        if rows.is_empty() {
            return;
        }
        let outcome = self.parts(rows).and_then(|parts| {
            self.start_masks(&parts);
            let outputs = self.engine.run(&self.work(&parts))?;
            Ok((parts, outputs))
        });
        match outcome {
            Ok((parts, mut outputs)) => self.take(&parts, &mut outputs),
            Err(error) => self.survive(rows, &error),
        }
    }

    fn take(&mut self, parts: &[Part], outputs: &mut [RunOutputs]) {
        for (part, outputs) in parts.iter().zip(outputs) {
            // Another choice of the same request may have failed meanwhile.
            if !self.streams.contains_key(&part.stream) {
                continue;
            }
            if let Err(error) = self.commit(part, outputs) {
                self.fail(self.stream(part.stream).request, &error);
            }
        }
        if let Some(drafter) = &mut self.drafter {
            let rows = parts.iter().map(|part| part.rows + part.drafts.len());
            let is_answering = parts.iter().all(|part| part.is_answering);
            drafter.stepped(rows.sum(), is_answering);
        }
    }

    fn parts(&mut self, rows: &Rows) -> Result<Vec<Part>, EngineError> {
        let part = |(&id, &rows): (&StreamId, &usize)| {
            let stream = self.stream(id);
            let is_complete = self.past(stream) + rows == stream.tokens.len();
            Part {
                stream: id,
                rows,
                drafts: Vec::new(),
                is_certain: false,
                is_complete,
                is_answering: rows == 1 && is_complete && stream.generated() > 0,
            }
        };
        let mut parts: Vec<Part> = rows.iter().map(part).collect();
        self.draft(&mut parts)?;
        Ok(parts)
    }

    /// Asks for drafts for those that answer and have room for more rows.
    fn draft(&mut self, parts: &mut [Part]) -> Result<(), EngineError> {
        if self.drafter.is_none() {
            return Ok(());
        }
        let mut rows = self.settings.batch_tokens;
        rows = rows.saturating_sub(parts.iter().map(|part| part.rows).sum());
        let mut pages = self.engine.pages().0;
        for part in parts.iter() {
            if let Some(sequence) = self.stream(part.stream).sequence() {
                pages = pages.saturating_sub(self.engine.pages_for(sequence, part.rows)?);
            }
        }
        let mut asked = Vec::new();
        for (at, part) in parts.iter_mut().enumerate() {
            let stream = &self.streams[&part.stream];
            let is_wanted = part.is_answering && self.requests[&stream.request].speculation;
            if let (Some(sequence), true) = (stream.sequence(), is_wanted) {
                let most = self.most_drafts(stream).min(rows);
                // A grammar that fails here fails again when the token is chosen, and is told then.
                let stream = self.stream_mut(part.stream);
                let mut certain = stream.chooser.certain().unwrap_or_default();
                certain.truncate(most);
                let wanted = if certain.is_empty() {
                    most
                } else {
                    certain.len()
                };
                let (most, taken) = self.drafts_that_fit(sequence, wanted, pages)?;
                pages -= taken;
                rows -= most;
                if certain.is_empty() {
                    asked.push((at, sequence, most));
                } else {
                    certain.truncate(most);
                    (part.drafts, part.is_certain) = (certain, true);
                }
            }
        }
        let to_draft = |&(at, sequence, most): &(usize, SequenceId, usize)| ToDraft {
            sequence,
            tokens: &self.streams[&parts[at].stream].tokens,
            most,
        };
        let to_draft: Vec<ToDraft<'_>> = asked.iter().map(to_draft).collect();
        let answering = parts.iter().filter(|part| part.is_answering).count();
        let others = answering - to_draft.len();
        let drafter = self.drafter.as_mut().expect("it was there above");
        let drafts = drafter.draft(&mut self.engine, &to_draft, others)?;
        for ((at, ..), mut drafts) in asked.into_iter().zip(drafts) {
            let stream = self.streams.get_mut(&parts[at].stream);
            let worth = stream.and_then(|stream| stream.chooser.worth_verifying(&drafts).ok());
            drafts.truncate(worth.unwrap_or(0));
            parts[at].drafts = drafts;
        }
        Ok(())
    }

    /// The most drafts that a stream can use: an answer ends at its limits.
    fn most_drafts(&self, stream: &Stream) -> usize {
        let room = self.engine.context().saturating_sub(stream.tokens.len());
        let limits = &self.requests[&stream.request].limits;
        let left = limits.max_tokens.map_or(usize::MAX, |most| {
            most.saturating_sub(stream.generated() + 1)
        });
        room.min(left).min(self.engine.most_drafts())
    }

    /// How many of so many drafts fit this many pages, and how many pages they take.
    fn drafts_that_fit(
        &self,
        sequence: SequenceId,
        most: usize,
        pages: usize,
    ) -> Result<(usize, usize), EngineError> {
        let without = self.engine.pages_for(sequence, 1)?;
        for drafts in (1..=most).rev() {
            let taken = self.engine.pages_for(sequence, 1 + drafts)? - without;
            if taken <= pages {
                return Ok((drafts, taken));
            }
        }
        Ok((0, 0))
    }

    /// Grammars are followed beside the forward pass.
    fn start_masks(&mut self, parts: &[Part]) {
        for part in parts.iter().filter(|part| part.is_complete) {
            let stream = self.stream_mut(part.stream);
            stream.chooser.start(&part.drafts);
        }
    }

    fn work(&self, parts: &[Part]) -> Vec<Run> {
        let work = |part: &Part| {
            let stream = self.stream(part.stream);
            let sequence = stream.sequence().expect("parts run");
            let past = self.past(stream);
            let own = &stream.tokens[past..past + part.rows];
            let tokens = [own, &part.drafts].concat();
            let logits = if self.tells_prompt(stream) {
                (0..tokens.len()).collect()
            } else if part.is_complete {
                (part.rows - 1..tokens.len()).collect()
            } else {
                Vec::new()
            };
            // The row behind a prompt may be kept, for others that choose otherwise.
            let is_answer = part.is_complete && stream.generated() > 0;
            let drafter = self.drafter.as_ref();
            let positions = past..past + tokens.len();
            let hidden = drafter.is_some_and(|drafter| drafter.wants_hidden(sequence, positions));
            Run {
                work: Work {
                    sequence,
                    tokens,
                    logits,
                },
                drafts: part.drafts.len(),
                likely: is_answer
                    .then(|| stream.chooser.enough(&part.drafts))
                    .flatten(),
                hidden,
            }
        };
        parts.iter().map(work).collect()
    }

    /// After a failed step nothing on the device can be trusted of those that were in it. Alone in
    /// a step, it was its own fault. Otherwise each is read again and runs alone until it is known
    /// whose fault it was.
    fn survive(&mut self, rows: &Rows, error: &EngineError) {
        self.metrics.failed_steps += 1;
        for (id, &count) in rows {
            let Some(stream) = self.streams.get(id) else {
                continue;
            };
            let until = self.past(stream) + count;
            let stream = self.stream_mut(*id);
            stream.suspect_until = stream.suspect_until.max(until);
            let place = std::mem::replace(&mut stream.place, Place::Waiting);
            let request = stream.request;
            self.free(place);
            if rows.len() == 1 {
                self.fail(request, error);
            }
        }
    }
}
