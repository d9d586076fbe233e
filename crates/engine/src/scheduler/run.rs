//! One step of the engine, from rows to logits.

use tensor::Tensor;

use crate::drafter::ToDraft;
use crate::engine::Work;
use crate::error::EngineError;

use super::Scheduler;
use super::fit::Rows;
use super::stream::{Place, StreamId};

/// What one stream has in a step.
pub(super) struct Part {
    pub(super) stream: StreamId,
    /// Rows of its own tokens.
    pub(super) rows: usize,
    /// Rows of proposed tokens behind them.
    pub(super) drafts: Vec<u32>,
    /// Whether its tokens are all in memory with these rows, so that the next can be chosen.
    pub(super) is_complete: bool,
}

impl Scheduler {
    /// Runs these rows and deals with what comes out.
    pub(super) fn run(&mut self, rows: &Rows) {
        if rows.is_empty() {
            return;
        }
        let outcome = self.parts(rows).and_then(|parts| {
            let outputs = self.engine.step(&self.work(&parts))?;
            Ok((parts, outputs))
        });
        match outcome {
            Ok((parts, outputs)) => self.take(&parts, &outputs),
            Err(error) => self.survive(rows, &error),
        }
    }

    fn take(&mut self, parts: &[Part], outputs: &[Tensor]) {
        for (part, logits) in parts.iter().zip(outputs) {
            // Another choice of the same request may have failed meanwhile.
            if !self.streams.contains_key(&part.stream) {
                continue;
            }
            if let Err(error) = self.commit(part, logits) {
                self.fail(self.stream(part.stream).request, &error);
            }
        }
    }

    fn parts(&mut self, rows: &Rows) -> Result<Vec<Part>, EngineError> {
        let mut parts: Vec<Part> = rows
            .iter()
            .map(|(&stream, &rows)| {
                let state = self.stream(stream);
                Part {
                    stream,
                    rows,
                    drafts: Vec::new(),
                    is_complete: self.past(state) + rows == state.tokens.len(),
                }
            })
            .collect();
        self.draft(&mut parts)?;
        Ok(parts)
    }

    /// Asks for drafts for those that answer and have room for more rows.
    fn draft(&mut self, parts: &mut [Part]) -> Result<(), EngineError> {
        let Some(drafter) = &mut self.drafter else {
            return Ok(());
        };
        let mut spare = self.settings.batch_tokens;
        spare = spare.saturating_sub(parts.iter().map(|part| part.rows).sum());
        let mut to_draft = Vec::new();
        let mut whose = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            let stream = &self.streams[&part.stream];
            let request = &self.requests[&stream.request];
            let room = self.engine.context().saturating_sub(stream.tokens.len());
            let left = request.limits.max_tokens.map_or(usize::MAX, |most| {
                most.saturating_sub(stream.generated() + 1)
            });
            let most = spare.min(room).min(left);
            let is_answering = part.rows == 1 && part.is_complete && stream.generated() > 0;
            if let Some(sequence) = stream.sequence()
                && request.speculation
                && is_answering
                && most > 0
            {
                to_draft.push(ToDraft {
                    sequence,
                    tokens: &stream.tokens,
                    most,
                });
                whose.push(at);
            }
        }
        if to_draft.is_empty() {
            return Ok(());
        }
        let drafts = drafter.draft(&mut self.engine, &to_draft)?;
        for (at, mut drafts) in whose.into_iter().zip(drafts) {
            drafts.truncate(spare);
            spare -= drafts.len();
            parts[at].drafts = drafts;
        }
        Ok(())
    }

    fn work(&self, parts: &[Part]) -> Vec<Work> {
        let work = |part: &Part| {
            let stream = self.stream(part.stream);
            let sequence = stream.sequence().expect("parts run");
            let past = self.past(stream);
            let own = &stream.tokens[past..past + part.rows];
            let tokens = [own, &part.drafts].concat();
            let logits = if part.is_complete {
                (part.rows - 1..tokens.len()).collect()
            } else {
                Vec::new()
            };
            Work {
                sequence,
                tokens,
                logits,
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
