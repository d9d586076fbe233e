//! Calls at places where they are rarely meant: in reasoning and in code blocks.
//!
//! There a call is more likely a plan or an example, and running it would be worse than missing
//! it. So it counts only if the model ends its output with it. Until then all is read twice:
//! here, to know what calls there are, and again as plain text if they do not count.

use super::event::{CallOutcome, Ending, OutputEvent};
use super::fence::Fences;
use super::lexer::{Tag, Token};
use super::options::CallMode;
use super::reader::{Kind, Place, Reader};

/// A trial with more text than this, in bytes, has failed.
pub(super) const MAX_TRIAL: usize = 1 << 16;

/// Calls that do not count yet.
#[derive(Debug, Clone)]
pub(super) struct Trial {
    /// What was read.
    held: Vec<Token<'static>>,
    /// How many bytes that is.
    length: usize,
    /// Where it begins in the output.
    start: usize,
    /// Finds the calls in it.
    reader: Reader,
    /// The code block that the calls are in; if none, they are in reasoning.
    fences: Option<Fences>,
    /// Whether the reasoning was closed behind the calls.
    is_closed: bool,
}

impl Trial {
    pub(super) fn new(outer: &Reader, fences: Option<Fences>) -> Self {
        let mut options = outer.options.clone();
        options.calls = CallMode::Whole;
        let mut reader = Reader::new(options);
        reader.place = Place::Answer;
        reader.is_trial = true;
        reader.offset = outer.offset;
        reader.calls = outer.calls;
        Self {
            held: Vec::new(),
            length: 0,
            start: outer.offset,
            reader,
            fences,
            is_closed: false,
        }
    }

    /// Reads a token; `false` if the calls do not count.
    fn take(&mut self, token: &Token<'_>) -> bool {
        if let Some(fences) = &mut self.fences {
            for character in token.raw().chars() {
                fences.push(character);
                if !fences.is_inside() {
                    return false;
                }
            }
        } else if self.is_closed {
            if !token.raw().trim().is_empty() {
                return false;
            }
        } else if matches!(
            token,
            Token::Tag {
                tag: Tag::ThinkClose,
                ..
            }
        ) {
            let is_behind_calls = matches!(self.reader.place, Place::AfterCall { .. });
            if !is_behind_calls || self.reader.call.is_some() {
                return false;
            }
            self.is_closed = true;
        }
        self.reader.take(token.clone());
        self.length += token.raw().len();
        if self.reader.has_text() || self.length > MAX_TRIAL {
            return false;
        }
        match (self.held.last_mut(), token) {
            (Some(Token::Text(last)), Token::Text(text)) => last.to_mut().push_str(text),
            _ => self.held.push(token.clone().into_owned()),
        }
        true
    }

    /// Ends the text: the events, if the calls count.
    fn finish(mut self: Box<Self>, held: &str, ending: Ending) -> Option<Vec<OutputEvent>> {
        self.reader.finish(held, ending);
        let is_complete = |event: &OutputEvent| match event {
            OutputEvent::CallEnd { outcome, .. } => *outcome == CallOutcome::Complete,
            _ => true,
        };
        let counts = ending == Ending::Stopped
            && !self.reader.has_text()
            && self.reader.events.iter().all(is_complete);
        counts.then(|| self.reader.take_events())
    }
}

impl Reader {
    /// Reads a token on trial; returns it if the trial has failed.
    pub(super) fn take_on_trial<'t>(&mut self, token: Token<'t>) -> Option<Token<'t>> {
        let trial = self.trial.as_mut()?;
        if trial.take(&token) {
            return None;
        }
        let trial = self.trial.take()?;
        self.replay(trial.held, trial.start);
        Some(token)
    }

    /// Ends the text on trial. `false`: there was no call in it, and the text is yet to be ended.
    pub(super) fn finish_trial(&mut self, held: &str, ending: Ending) -> bool {
        let Some(mut trial) = self.trial.take() else {
            return false;
        };
        let tokens = std::mem::take(&mut trial.held);
        let start = trial.start;
        let Some(events) = trial.finish(held, ending) else {
            self.replay(tokens, start);
            return false;
        };
        let kind = if self.is_reasoning() {
            Kind::ReasoningMarkup
        } else {
            Kind::CallMarkup
        };
        self.flush_space(kind);
        for event in events {
            super::event::add(event, &mut self.events);
        }
        true
    }

    /// Reads as text what was on trial.
    fn replay(&mut self, tokens: Vec<Token<'static>>, start: usize) {
        let end = self.offset;
        self.offset = start;
        self.is_replay = true;
        for token in tokens {
            self.take(token);
        }
        self.is_replay = false;
        debug_assert_eq!(self.offset, end, "all that was on trial is read again");
    }
}
