//! Tells reasoning from answer while the text comes in.

use crate::template::{THINK_CLOSE, THINK_OPEN, ThinkingState};

/// Opens a tool call. A model may call a tool without closing its reasoning first.
pub(super) const CALL_OPEN: &str = "<tool_call>";

/// What a piece of the model's text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartKind {
    /// What the model thinks before it answers.
    Reasoning,
    /// What it answers, tool calls included.
    Answer,
    /// The tags around the reasoning and the white space beside them, which belong to neither.
    Markup,
}

/// A piece of the model's text. All parts joined are the text itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What it is.
    pub kind: PartKind,
    /// Never empty.
    pub text: String,
}

/// Splits a stream of text into [`Part`]s.
///
/// Text is handed out as soon as it is certain what it is; only white space that may turn out to
/// stand before a tag, and what may turn out to be a tag, waits.
#[derive(Debug, Clone)]
pub struct ReasoningSplitter {
    state: State,
    /// White space that is markup if a tag follows it.
    space: String,
    /// The beginning of what may become a tag, shorter than one.
    held: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first word, which may be `<think>`.
    Undecided,
    /// Inside the thinking block, before its first word.
    ReasoningStart,
    Reasoning,
    /// Behind the thinking block, before the answer's first word.
    AnswerStart,
    Answer,
}

impl ReasoningSplitter {
    /// A splitter for what follows a prompt.
    pub fn new(thinking: ThinkingState) -> Self {
        Self {
            state: match thinking {
                ThinkingState::Inside => State::ReasoningStart,
                ThinkingState::Closed => State::Answer,
                ThinkingState::Unmarked => State::Undecided,
            },
            space: String::new(),
            held: String::new(),
        }
    }

    /// Whether what comes next counts as reasoning, as far as is known.
    pub fn is_reasoning(&self) -> bool {
        matches!(self.state, State::ReasoningStart | State::Reasoning)
    }

    /// Takes a piece of text and returns what is now certain.
    pub fn push(&mut self, piece: &str) -> Vec<Part> {
        let mut parts = Vec::new();
        let mut text = std::mem::take(&mut self.held);
        text.push_str(piece);
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let Some(after) = self.step(rest, &mut parts) else {
                break;
            };
            rest = after;
        }
        parts
    }

    /// Ends the text.
    pub fn finish(&mut self) -> Vec<Part> {
        let mut parts = Vec::new();
        let held = std::mem::take(&mut self.held);
        match self.state {
            State::Reasoning | State::ReasoningStart => {
                if held.is_empty() {
                    self.flush_space(PartKind::Markup, &mut parts);
                }
                self.emit_after_space(PartKind::Reasoning, &held, &mut parts);
            }
            State::Undecided | State::AnswerStart | State::Answer => {
                self.emit_after_space(PartKind::Answer, &held, &mut parts);
            }
        }
        parts
    }

    /// Deals with the beginning of `text` and returns the rest; `None` when it has to wait.
    fn step<'t>(&mut self, text: &'t str, parts: &mut Vec<Part>) -> Option<&'t str> {
        match self.state {
            State::Undecided => self.decide(text, parts),
            State::ReasoningStart => self.begin_reasoning(text, parts),
            State::Reasoning => self.reason(text, parts),
            State::AnswerStart => {
                let (space, rest) = split_leading_space(text);
                emit(PartKind::Markup, space, parts);
                if !rest.is_empty() {
                    self.state = State::Answer;
                }
                Some(rest)
            }
            State::Answer => {
                self.emit_after_space(PartKind::Answer, text, parts);
                Some("")
            }
        }
    }

    fn decide<'t>(&mut self, text: &'t str, parts: &mut Vec<Part>) -> Option<&'t str> {
        let (space, rest) = split_leading_space(text);
        self.space.push_str(space);
        if let Some(after) = rest.strip_prefix(THINK_OPEN) {
            self.flush_space(PartKind::Markup, parts);
            emit(PartKind::Markup, THINK_OPEN, parts);
            self.state = State::ReasoningStart;
            return Some(after);
        }
        if THINK_OPEN.starts_with(rest) {
            rest.clone_into(&mut self.held);
            return None;
        }
        self.state = State::Answer;
        Some(rest)
    }

    fn begin_reasoning<'t>(&mut self, text: &'t str, parts: &mut Vec<Part>) -> Option<&'t str> {
        let (space, rest) = split_leading_space(text);
        emit(PartKind::Markup, space, parts);
        // Some models repeat the tag that the prompt has opened already.
        if let Some(after) = rest.strip_prefix(THINK_OPEN) {
            emit(PartKind::Markup, THINK_OPEN, parts);
            return Some(after);
        }
        if THINK_OPEN.starts_with(rest) {
            rest.clone_into(&mut self.held);
            return None;
        }
        self.state = State::Reasoning;
        Some(rest)
    }

    fn reason<'t>(&mut self, text: &'t str, parts: &mut Vec<Part>) -> Option<&'t str> {
        let close = text.find(THINK_CLOSE);
        let call = text.find(CALL_OPEN);
        let end = close.into_iter().chain(call).min();
        let certain = end.unwrap_or_else(|| start_of_possible_tag(text));
        let (reasoning, rest) = text.split_at(certain);
        let words = reasoning.trim_end();
        if !words.is_empty() {
            self.emit_after_space(PartKind::Reasoning, words, parts);
        }
        self.space.push_str(&reasoning[words.len()..]);
        if end.is_none() {
            rest.clone_into(&mut self.held);
            return None;
        }
        self.flush_space(PartKind::Markup, parts);
        match rest.strip_prefix(THINK_CLOSE) {
            Some(after) => {
                emit(PartKind::Markup, THINK_CLOSE, parts);
                self.state = State::AnswerStart;
                Some(after)
            }
            None => {
                self.state = State::Answer;
                Some(rest)
            }
        }
    }

    fn flush_space(&mut self, kind: PartKind, parts: &mut Vec<Part>) {
        emit(kind, &std::mem::take(&mut self.space), parts);
    }

    fn emit_after_space(&mut self, kind: PartKind, text: &str, parts: &mut Vec<Part>) {
        self.flush_space(kind, parts);
        emit(kind, text, parts);
    }
}

/// Adds text to the last part if that is of the same kind.
fn emit(kind: PartKind, text: &str, parts: &mut Vec<Part>) {
    if text.is_empty() {
        return;
    }
    match parts.last_mut() {
        Some(last) if last.kind == kind => last.text.push_str(text),
        _ => parts.push(Part {
            kind,
            text: text.to_owned(),
        }),
    }
}

fn split_leading_space(text: &str) -> (&str, &str) {
    text.split_at(text.len() - text.trim_start().len())
}

/// Where the longest end of `text` begins that further text could make a tag.
fn start_of_possible_tag(text: &str) -> usize {
    let longest = THINK_CLOSE.len().max(CALL_OPEN.len()) - 1;
    (1..=longest.min(text.len()))
        .rev()
        .map(|length| text.len() - length)
        .find(|&start| {
            text.get(start..)
                .is_some_and(|end| THINK_CLOSE.starts_with(end) || CALL_OPEN.starts_with(end))
        })
        .unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All parts of a text that comes in `pieces`, neighbours of a kind joined.
    fn split(thinking: ThinkingState, pieces: &[&str]) -> Vec<Part> {
        let mut splitter = ReasoningSplitter::new(thinking);
        let mut parts: Vec<Part> = Vec::new();
        for piece in pieces {
            parts.extend(splitter.push(piece));
        }
        parts.extend(splitter.finish());
        let mut joined = Vec::new();
        for part in parts {
            assert!(!part.text.is_empty());
            emit(part.kind, &part.text, &mut joined);
        }
        joined
    }

    fn text_of(parts: &[Part], kind: PartKind) -> String {
        let of_kind = parts.iter().filter(|part| part.kind == kind);
        of_kind.map(|part| part.text.as_str()).collect()
    }

    fn check(thinking: ThinkingState, text: &str, reasoning: &str, answer: &str) {
        let characters: Vec<_> = text.split("").collect();
        for pieces in [vec![text], characters] {
            let parts = split(thinking, &pieces);
            assert_eq!(text_of(&parts, PartKind::Reasoning), reasoning, "{text:?}");
            assert_eq!(text_of(&parts, PartKind::Answer), answer, "{text:?}");
        }
    }

    #[test]
    fn reasoning_ends_at_the_tag_or_at_a_tool_call() {
        use ThinkingState::Inside;
        check(Inside, "why\n</think>\n\nso", "why", "so");
        check(Inside, "\n a  b \n</think>so ", "a  b", "so ");
        check(Inside, "</think>\n\n", "", "");
        check(Inside, "why\n<tool_call>\n<f", "why", "<tool_call>\n<f");
        check(Inside, "a </thin b", "a </thin b", "");
        check(Inside, "cut off </thi", "cut off </thi", "");
        check(Inside, "cut off \n", "cut off", "");
        check(Inside, "<think>\nwhy</think>so", "why", "so");
        check(Inside, "a</think>b</think>c", "a", "b</think>c");
    }

    #[test]
    fn the_prompt_decides_where_text_begins() {
        check(ThinkingState::Closed, " so</think>", "", " so</think>");
        check(
            ThinkingState::Unmarked,
            "\n<think>why</think> so",
            "why",
            "so",
        );
        check(ThinkingState::Unmarked, " <thinking", "", " <thinking");
        check(ThinkingState::Unmarked, " so <think>", "", " so <think>");
        check(ThinkingState::Unmarked, " <th", "", " <th");
    }

    proptest! {
        #[test]
        fn no_text_is_lost_wherever_it_is_cut(
            pieces in prop::collection::vec(
                prop::sample::select(vec![
                    "<think>", "</think>", "<tool_call>", "</th", "ink>", "<", "/", " ", "\n\n",
                    "word", "é", "<tool_", "call>",
                ]),
                0..12,
            ),
            state in prop::sample::select(vec![
                ThinkingState::Inside, ThinkingState::Closed, ThinkingState::Unmarked,
            ]),
        ) {
            let text = pieces.concat();
            let parts = split(state, &pieces);
            let joined: String = parts.iter().map(|part| part.text.as_str()).collect();
            prop_assert_eq!(&joined, &text);
            prop_assert_eq!(parts, split(state, &[&text]));
        }
    }
}
