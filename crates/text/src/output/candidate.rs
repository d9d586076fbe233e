//! Follows one call from its first tag: holds its text back until the call is certain, then
//! tells it.

use super::call::{CallReader, Flow, Found};
use super::event::{CallOutcome, Ending, OutputEvent, add};
use super::lexer::{Tag, Token};
use super::options::CallMode;
use super::reader::{Kind, Place, Reader};

/// Text that may yet be no call waits, up to so many bytes. More of it is content.
pub(super) const MAX_UNCERTAIN: usize = 1 << 16;

/// What may be a call.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    reader: CallReader,
    found: Found,
    /// Its text, as long as it was not told.
    text: String,
    /// Where the call itself begins: in the output and in `text`, both in bytes.
    start: Option<(usize, usize)>,
    /// Its number, once it was told.
    index: Option<usize>,
    /// Whether `<tool_call>` stands before it.
    is_wrapped: bool,
    /// Whether it is JSON.
    is_json: bool,
}

impl Candidate {
    pub(super) fn new(is_wrapped: bool) -> Self {
        Self {
            reader: CallReader::Opening { gap: 0 },
            found: Found::default(),
            text: String::new(),
            start: None,
            index: None,
            is_wrapped,
            is_json: false,
        }
    }

    /// Takes note of text that was read, `at` bytes into the output.
    fn took(&mut self, text: &str, at: usize) {
        if self.start.is_none() && !matches!(self.reader, CallReader::Opening { .. }) {
            self.start = Some((at, self.text.len()));
            self.is_json = matches!(self.reader, CallReader::Json(_));
        }
        if self.index.is_none() {
            self.text.push_str(text);
        }
    }
}

impl Reader {
    /// Reads the beginning of a token in a call, and returns the rest.
    pub(super) fn take_in_call<'t>(&mut self, token: Token<'t>) -> Option<Token<'t>> {
        let mut call = self.call.take()?;
        let token = match token {
            Token::Tag { raw, .. } if call.reader.is_in_text() => Token::Text(raw.into()),
            token => token,
        };
        let at = self.offset;
        let mut taken = 0;
        let mut flow = Flow::More;
        match &token {
            Token::Text(text) => {
                for character in text.chars() {
                    flow = call
                        .reader
                        .character(character, &mut call.found, &self.options.tools);
                    if matches!(flow, Flow::EndedBefore | Flow::Failed) {
                        break;
                    }
                    call.took(character.encode_utf8(&mut [0; 4]), at + taken);
                    taken += character.len_utf8();
                    if flow == Flow::More {
                        flow = self.tell(&mut call);
                    }
                    if flow != Flow::More {
                        break;
                    }
                }
            }
            Token::Tag { tag, raw } => {
                let is_opening = *tag == Tag::CallOpen && call.text.is_empty();
                if is_opening && matches!(call.reader, CallReader::Opening { gap: 0 }) {
                    call.is_wrapped = true;
                } else {
                    flow = call
                        .reader
                        .tag(tag, raw, &mut call.found, &self.options.tools);
                }
                if !matches!(flow, Flow::EndedBefore | Flow::Failed) {
                    call.took(raw, at);
                    taken = raw.len();
                }
                if flow == Flow::More {
                    flow = self.tell(&mut call);
                }
            }
        }
        match flow {
            Flow::More => {
                self.tell_arguments(&mut call);
                self.call = Some(call);
                return None;
            }
            Flow::Ended | Flow::EndedBefore => {
                self.end_call(call, CallOutcome::Complete, at + taken);
            }
            Flow::Failed => self.fail_call(call, at + taken),
        }
        if taken == 0 {
            Some(token)
        } else {
            token.behind(taken)
        }
    }

    /// Ends the text inside a call.
    pub(super) fn finish_call(&mut self, held: &str, ending: Ending) {
        let Some(mut call) = self.call.take() else {
            return;
        };
        call.took(held, self.offset);
        let reader = std::mem::replace(&mut call.reader, CallReader::Opening { gap: 0 });
        let outcome = reader.finish(held, ending, &mut call.found);
        let end = self.offset + held.len();
        match outcome {
            Some(outcome) => self.end_call(call, outcome, end),
            None => self.give_up(call),
        }
    }

    /// Begins to tell a call if it is time to.
    fn tell(&mut self, call: &mut Candidate) -> Flow {
        if call.index.is_some() {
            return Flow::More;
        }
        if call.found.is_certain && self.is_refused(call) {
            return Flow::Failed;
        }
        if self.options.calls == CallMode::Whole {
            return Flow::More;
        }
        if call.found.is_certain {
            self.start_call(call);
        } else if call.text.len() > MAX_UNCERTAIN {
            return Flow::Failed;
        }
        Flow::More
    }

    fn is_refused(&self, call: &Candidate) -> bool {
        self.options.only_known_tools && !self.options.tools.has(&call.found.name)
    }

    fn start_call(&mut self, call: &mut Candidate) {
        let text = std::mem::take(&mut call.text);
        let opening = call.start.map_or(0, |(_, at)| at);
        self.flush_space(Kind::CallMarkup);
        self.emit(&text[..opening], Kind::CallMarkup);
        self.begin_line();
        let index = self.calls;
        self.calls += 1;
        call.index = Some(index);
        let name = call.found.name.clone();
        self.events.push(OutputEvent::CallStart { index, name });
    }

    fn tell_arguments(&mut self, call: &mut Candidate) {
        if let Some(index) = call.index {
            let json = std::mem::take(&mut call.found.json);
            add(OutputEvent::CallArguments { index, json }, &mut self.events);
        }
    }

    /// A call ended, `end` bytes into the output.
    fn end_call(&mut self, mut call: Candidate, outcome: CallOutcome, end: usize) {
        if call.index.is_none() {
            let is_part = self.options.calls == CallMode::Whole && outcome != CallOutcome::Complete;
            if is_part || self.is_refused(&call) {
                return self.give_up(call);
            }
            self.start_call(&mut call);
        }
        self.tell_arguments(&mut call);
        let (Some((start, _)), Some(index)) = (call.start, call.index) else {
            return;
        };
        self.place = Place::AfterCall {
            is_wrapped: call.is_wrapped,
            is_json: call.is_json,
        };
        self.events.push(OutputEvent::CallEnd {
            index,
            outcome,
            source: start..end,
        });
    }

    /// A call went wrong.
    fn fail_call(&mut self, mut call: Candidate, end: usize) {
        if call.index.is_none() {
            return self.give_up(call);
        }
        let reader = std::mem::replace(&mut call.reader, CallReader::Opening { gap: 0 });
        let outcome = reader.fail(&mut call.found);
        self.end_call(call, outcome.unwrap_or(CallOutcome::Malformed), end);
    }

    /// It was no call: its text is text.
    fn give_up(&mut self, call: Candidate) {
        if matches!(self.place, Place::AfterCall { .. }) {
            self.leave_call();
        }
        self.place = Place::Answer;
        self.text(&call.text, Kind::Content);
    }
}
