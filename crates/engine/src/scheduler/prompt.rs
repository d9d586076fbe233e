//! Log-probabilities of a prompt's tokens.

use crate::engine::RunOutputs;
use crate::event::Event;
use crate::sampling::TokenLogprobs;

use super::Scheduler;
use super::run::Part;
use super::stream::Stream;

/// The most rows of a prompt whose logits are wanted all: of a large vocabulary, each is a megabyte.
const ROWS: usize = 32;

impl Scheduler {
    /// Whether a stream's next rows are of a prompt whose log-probabilities are wanted.
    pub(super) fn tells_prompt(&self, stream: &Stream) -> bool {
        let request = &self.requests[&stream.request];
        request.prompt_logprobs.is_some() && stream.choice == 0 && stream.generated() == 0
    }

    /// The most rows of a stream in a step, for what is wanted of them.
    pub(super) fn most_prompt_rows(&self, stream: &Stream) -> usize {
        if self.tells_prompt(stream) {
            ROWS
        } else {
            usize::MAX
        }
    }

    /// Tells the log-probabilities of the tokens behind a part's rows, if they are wanted. What was
    /// told before memory was short is not told again.
    pub(super) fn tell_prompt(&mut self, part: &Part, outputs: &RunOutputs) {
        let stream = self.stream(part.stream);
        if !self.tells_prompt(stream) {
            return;
        }
        let request = stream.request;
        let top = self.requests[&request].prompt_logprobs.unwrap_or(0);
        // Row `i` is of the token at `past + i`, and tells of the one behind it.
        let past = self.past(stream) - part.rows;
        let until = (past + part.rows + 1).min(stream.prompt);
        let first = stream.told.max(past + 1);
        let tokens: Vec<TokenLogprobs> = (first..until)
            .map(|place| {
                let row = outputs.logits.row(place - past - 1);
                TokenLogprobs::of_logits(row, &self.rules, stream.tokens[place], top)
            })
            .collect();
        if tokens.is_empty() {
            return;
        }
        self.stream_mut(part.stream).told = until;
        self.events.push(Event::PromptLogprobs {
            request,
            first,
            tokens,
        });
    }
}
