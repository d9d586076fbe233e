//! Reads tokens: which are reasoning, which are answer, and where a call may begin.

use super::candidate::Candidate;
use super::event::{Ending, OutputEvent, add};
use super::fence::Fences;
use super::lexer::{Tag, Token};
use super::options::{CallMode, OutputOptions, ReasoningFormat};
use super::trial::Trial;
use crate::template::ThinkingState;

/// White space that may turn out to be markup waits, up to so many bytes. More of it is text.
pub(super) const MAX_SPACE: usize = 1024;

/// What the parser is between two tokens.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    pub(super) options: OutputOptions,
    pub(super) place: Place,
    /// White space that is markup if a tag follows it, text if text does.
    pub(super) space: String,
    /// Whether the white space before this was too long to wait, so that the rest is text, too.
    has_long_space: bool,
    has_reasoning: bool,
    has_content: bool,
    fences: Fences,
    /// The last character of text; none behind a call.
    last: Option<char>,
    /// Whether the line that is being written holds nothing but blanks.
    is_line_blank: bool,
    /// Whether `<tool_call>` was read as text, and nothing but white space since.
    is_behind_refused: bool,
    /// The call that is being read.
    pub(super) call: Option<Candidate>,
    /// A call that counts only if the output ends with it.
    pub(super) trial: Option<Box<Trial>>,
    /// Whether this reads for a trial.
    pub(super) is_trial: bool,
    /// Whether text is read again in which no call was found.
    pub(super) is_replay: bool,
    /// Bytes read before the current token.
    pub(super) offset: usize,
    /// Calls told so far.
    pub(super) calls: usize,
    pub(super) events: Vec<OutputEvent>,
}

/// Where in the output the next token stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Before the first word, which may be `<think>`.
    Undecided,
    /// Inside the thinking block, before its first word.
    ReasoningStart,
    Reasoning,
    /// Behind the thinking block, before the answer's first word.
    AnswerStart,
    Answer,
    /// Behind a call, before anything else.
    AfterCall {
        /// Whether `<tool_call>` is still open.
        is_wrapped: bool,
        /// Whether the call was JSON.
        is_json: bool,
    },
}

/// What text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Reasoning,
    /// Tags around reasoning, and white space beside them.
    ReasoningMarkup,
    Content,
    /// Tags around calls, and white space beside them.
    CallMarkup,
}

impl Reader {
    pub(super) fn new(options: OutputOptions) -> Self {
        let place = match options.thinking {
            ThinkingState::Inside => Place::ReasoningStart,
            ThinkingState::Closed => Place::Answer,
            ThinkingState::Unmarked => Place::Undecided,
        };
        Self {
            options,
            place,
            space: String::new(),
            has_long_space: false,
            has_reasoning: false,
            has_content: false,
            fences: Fences::default(),
            last: None,
            is_line_blank: true,
            is_behind_refused: false,
            call: None,
            trial: None,
            is_trial: false,
            is_replay: false,
            offset: 0,
            calls: 0,
            events: Vec::new(),
        }
    }

    pub(super) fn take_events(&mut self) -> Vec<OutputEvent> {
        std::mem::take(&mut self.events)
    }

    pub(super) fn is_reasoning(&self) -> bool {
        matches!(self.place, Place::ReasoningStart | Place::Reasoning)
    }

    /// Whether anything but calls and markup was told.
    pub(super) fn has_text(&self) -> bool {
        self.has_reasoning || self.has_content
    }

    /// Reads a token.
    pub(super) fn take(&mut self, token: Token<'_>) {
        let mut next = Some(token);
        while let Some(token) = next {
            let length = token.raw().len();
            next = if self.trial.is_some() {
                self.take_on_trial(token)
            } else if self.call.is_some() {
                self.take_in_call(token)
            } else {
                self.take_outside(token)
            };
            self.offset += length - next.as_ref().map_or(0, |rest| rest.raw().len());
        }
    }

    /// Ends the text; `held` is the beginning of a tag that was not completed.
    pub(super) fn finish(&mut self, held: &str, ending: Ending) {
        if self.trial.is_some() && self.finish_trial(held, ending) {
            return;
        }
        if self.call.is_some() {
            self.finish_call(held, ending);
        } else if !held.is_empty() {
            self.take(Token::Text(held.into()));
        }
        let kind = match self.place {
            Place::Undecided | Place::Answer => Kind::Content,
            Place::ReasoningStart | Place::Reasoning | Place::AnswerStart => Kind::ReasoningMarkup,
            Place::AfterCall { .. } => Kind::CallMarkup,
        };
        self.flush_space(kind);
    }

    /// Reads the beginning of a token that stands in no call, and returns the rest.
    fn take_outside<'t>(&mut self, token: Token<'t>) -> Option<Token<'t>> {
        match (self.place, &token) {
            (Place::Undecided, Token::Text(text)) => {
                let space = leading_space(text);
                if self.hold(&text[..space], Kind::Content) || space < text.len() {
                    self.place = Place::Answer;
                }
                token.behind(space)
            }
            (Place::ReasoningStart, Token::Text(text)) => {
                let space = leading_space(text);
                let is_text = self.begin_text(&text[..space], self.has_reasoning, Kind::Reasoning);
                if is_text || space < text.len() {
                    self.place = Place::Reasoning;
                }
                token.behind(space)
            }
            (Place::AnswerStart, Token::Text(text)) => {
                let space = leading_space(text);
                let is_text = self.begin_text(&text[..space], self.has_content, Kind::Content);
                if is_text || space < text.len() {
                    self.place = Place::Answer;
                }
                token.behind(space)
            }
            (Place::AfterCall { .. }, Token::Text(_)) => self.text_after_call(token),
            (Place::Reasoning, Token::Text(text)) => self.text(text, Kind::Reasoning),
            (Place::Answer, Token::Text(text)) => self.text(text, Kind::Content),
            (_, Token::Tag { tag, raw }) => {
                if self.moves(tag, raw) {
                    None
                } else if self.may_begin_call(tag) {
                    self.begin_call(token)
                } else {
                    self.tag_as_text(token)
                }
            }
        }
    }

    /// Whether a tag leads from one place to another, which is then done.
    fn moves(&mut self, tag: &Tag, raw: &str) -> bool {
        let place = match (self.place, tag) {
            (
                Place::Undecided
                | Place::ReasoningStart
                | Place::AnswerStart
                | Place::AfterCall { .. },
                Tag::ThinkOpen,
            ) => Place::ReasoningStart,
            (
                Place::ReasoningStart
                | Place::Reasoning
                | Place::AnswerStart
                | Place::AfterCall { .. },
                Tag::ThinkClose,
            ) => Place::AnswerStart,
            (Place::AfterCall { is_json, .. }, Tag::CallClose) => {
                self.flush_space(Kind::CallMarkup);
                self.emit(raw, Kind::CallMarkup);
                self.place = Place::AfterCall {
                    is_wrapped: false,
                    is_json,
                };
                return true;
            }
            _ => return false,
        };
        self.flush_space(Kind::ReasoningMarkup);
        self.emit(raw, Kind::ReasoningMarkup);
        self.begin_line();
        self.place = place;
        true
    }

    fn may_begin_call(&self, tag: &Tag) -> bool {
        let is_off = self.options.calls == CallMode::Off
            || (self.is_reasoning() && !self.options.calls_in_reasoning);
        if is_off || self.is_replay || self.last == Some('`') {
            return false;
        }
        let is_wrapped = matches!(
            self.place,
            Place::AfterCall {
                is_wrapped: true,
                ..
            }
        );
        match tag {
            Tag::CallOpen => true,
            // Without the tag around it, it must look very much like a call.
            Tag::Function(name) => {
                let is_bare = self.is_line_blank && !self.is_behind_refused;
                is_wrapped || (is_bare && self.options.tools.has(name))
            }
            _ => false,
        }
    }

    /// Begins a call, or a trial of one, with this token.
    fn begin_call<'t>(&mut self, token: Token<'t>) -> Option<Token<'t>> {
        if !self.is_trial && (self.is_reasoning() || self.fences.is_inside()) {
            let fences = (!self.is_reasoning()).then(|| self.fences.clone());
            self.trial = Some(Box::new(Trial::new(self, fences)));
            return Some(token);
        }
        let is_wrapped = matches!(
            self.place,
            Place::AfterCall {
                is_wrapped: true,
                ..
            }
        );
        self.call = Some(Candidate::new(is_wrapped));
        Some(token)
    }

    /// A tag without a meaning here.
    fn tag_as_text<'t>(&mut self, token: Token<'t>) -> Option<Token<'t>> {
        let kind = match self.place {
            Place::Reasoning => Kind::Reasoning,
            Place::Answer => Kind::Content,
            Place::ReasoningStart | Place::Undecided | Place::AnswerStart => {
                self.place = if self.is_reasoning() {
                    Place::Reasoning
                } else {
                    Place::Answer
                };
                return Some(token);
            }
            Place::AfterCall { .. } => {
                self.leave_call();
                return Some(token);
            }
        };
        self.text(token.raw(), kind);
        self.is_behind_refused = matches!(
            token,
            Token::Tag {
                tag: Tag::CallOpen,
                ..
            }
        );
        None
    }

    /// Behind a call white space waits for what follows. So do stray braces behind a JSON call.
    fn text_after_call<'t>(&mut self, token: Token<'t>) -> Option<Token<'t>> {
        let text = token.raw();
        let is_in_json = self.place
            == Place::AfterCall {
                is_wrapped: true,
                is_json: true,
            };
        let is_between =
            |c: char| c.is_whitespace() || (is_in_json && matches!(c, '}' | ',' | ']'));
        let end = text.find(|c| !is_between(c)).unwrap_or(text.len());
        if self.hold(&text[..end], Kind::Content) {
            self.place = Place::Answer;
        } else if is_in_json && text[end..].starts_with('{') && !self.is_replay {
            self.call = Some(Candidate::new(true));
        } else if end < text.len() {
            self.leave_call();
        }
        token.behind(end)
    }

    /// Text follows a call: white space between them separates it from earlier text, if any.
    pub(super) fn leave_call(&mut self) {
        if !self.has_content && self.space.trim().is_empty() {
            self.flush_space(Kind::CallMarkup);
        }
        self.place = Place::Answer;
    }

    /// White space before the first word of reasoning or answer: markup, or what separates the
    /// words from earlier ones. Returns whether it is text for certain.
    fn begin_text(&mut self, space: &str, has_earlier: bool, kind: Kind) -> bool {
        if has_earlier {
            return self.hold(space, kind);
        }
        self.emit(space, Kind::ReasoningMarkup);
        false
    }

    /// Lets white space wait. Returns whether it became too much for that and was told as `kind`.
    fn hold(&mut self, space: &str, kind: Kind) -> bool {
        self.space.push_str(space);
        if self.space.len() > MAX_SPACE || self.has_long_space {
            self.flush_space(kind);
            self.has_long_space = true;
        }
        self.has_long_space
    }

    /// Tells text, but for the white space at its end.
    pub(super) fn text(&mut self, text: &str, kind: Kind) -> Option<Token<'static>> {
        for character in text.chars() {
            self.is_line_blank = match character {
                '\n' => true,
                ' ' | '\t' => self.is_line_blank,
                _ => false,
            };
            self.last = Some(character);
            if kind == Kind::Content {
                self.fences.push(character);
            }
        }
        let words = text.trim_end();
        if !words.is_empty() {
            self.is_behind_refused = false;
            self.flush_space(kind);
            self.emit(words, kind);
        }
        self.hold(&text[words.len()..], kind);
        None
    }

    /// Something else than text was told: lines begin anew.
    pub(super) fn begin_line(&mut self) {
        self.fences.push('\n');
        self.is_line_blank = true;
        self.last = None;
    }

    pub(super) fn flush_space(&mut self, kind: Kind) {
        self.has_long_space = false;
        let space = std::mem::take(&mut self.space);
        self.emit(&space, kind);
    }

    pub(super) fn emit(&mut self, text: &str, kind: Kind) {
        if text.is_empty() {
            return;
        }
        self.has_reasoning |= kind == Kind::Reasoning;
        self.has_content |= kind == Kind::Content;
        let text = text.to_owned();
        let event = match (kind, self.options.reasoning) {
            (Kind::Content, _)
            | (Kind::Reasoning | Kind::ReasoningMarkup, ReasoningFormat::InContent) => {
                OutputEvent::Content(text)
            }
            (Kind::Reasoning, _) => OutputEvent::Reasoning(text),
            (Kind::ReasoningMarkup | Kind::CallMarkup, _) => OutputEvent::Markup(text),
        };
        add(event, &mut self.events);
    }
}

/// How many bytes of white space `text` begins with.
fn leading_space(text: &str) -> usize {
    text.len() - text.trim_start().len()
}
