//! From a conversation to the model's input tokens.
//!
//! The template's own `<|im_start|>` must become a token, one that a user typed must not: whoever
//! can forge a turn can speak as the system. But the template returns one string. So, when asked
//! to, [`Prompt::new`] marks suspicious places in the conversation with a character that nothing
//! else uses, renders, and looks for tokens in the marked text; the marks vanish when it is
//! encoded. Templates hardly notice, as only control tokens and their fragments are marked:
//! `<think>` and `<tool_response>`, which templates look for, stay as they are.

use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::template::{ChatRequest, ChatTemplate, TemplateError, ThinkingState};
use crate::tokenizer::{SpecialTokens, TokenId, Tokenizer, TokenizerError};

/// A conversation, ready for the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// What the template rendered.
    pub text: String,
    /// Its tokens.
    pub tokens: Vec<TokenId>,
    /// Whether the model's text begins as reasoning.
    pub thinking: ThinkingState,
}

/// Why a conversation could not be made into a prompt.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// The template failed.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The rendered text could not be encoded.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The conversation uses all characters that could serve as marks.
    #[error(
        "the conversation holds control tokens as text and every character that could mark them; \
         remove the private-use characters from it"
    )]
    NoMarkLeft,
}

impl Prompt {
    /// Renders and encodes. `content` says what becomes of control tokens in the conversation
    /// itself: [`SpecialTokens::Parse`] is what the reference does, [`SpecialTokens::AsText`]
    /// keeps them harmless. Where there are none, both give the same tokens.
    ///
    /// # Errors
    /// When the template refuses the conversation or does not work with it.
    pub fn new(
        template: &ChatTemplate,
        tokenizer: &Tokenizer,
        request: &ChatRequest,
        content: SpecialTokens,
    ) -> Result<Self, PromptError> {
        let mut context = request.context()?;
        let mark = match content {
            SpecialTokens::AsText => mark_control_tokens(&mut context, tokenizer)?,
            SpecialTokens::Parse => None,
        };
        let mut text = template.render_context(context)?;
        let mut tokens = match mark {
            Some(mark) => tokenizer.encode_marked(&text, mark)?,
            None => tokenizer.encode(&text, SpecialTokens::Parse)?,
        };
        if let Some(mark) = mark {
            text.retain(|character| character != mark);
        }
        if let Some(bos) = tokenizer.bos_to_add()
            && tokens.first() != Some(&bos)
        {
            tokens.insert(0, bos);
        }
        Ok(Self {
            thinking: ThinkingState::of_prompt(&text),
            text,
            tokens,
        })
    }
}

/// Marks all strings in `context`; returns the mark if any was needed.
fn mark_control_tokens(
    context: &mut Value,
    tokenizer: &Tokenizer,
) -> Result<Option<char>, PromptError> {
    let tokens: Vec<_> = tokenizer
        .control_tokens()
        .filter_map(|id| tokenizer.token_bytes(id).ok())
        .filter_map(|bytes| std::str::from_utf8(bytes).ok())
        .filter(|text| !text.is_empty())
        .collect();
    let mut used = HashSet::new();
    let mut is_suspicious = false;
    for_each_string(context, &mut |text| {
        used.extend(text.chars().filter(|c| marks().contains(c)));
        is_suspicious |= !places_to_mark(text, &tokens).is_empty();
    });
    if !is_suspicious {
        return Ok(None);
    }
    let mark = marks()
        .into_iter()
        .find(|mark| !used.contains(mark))
        .ok_or(PromptError::NoMarkLeft)?;
    for_each_string(context, &mut |text| {
        // From the back, so that places in front stay valid.
        for place in places_to_mark(text, &tokens).into_iter().rev() {
            text.insert(place, mark);
        }
    });
    Ok(Some(mark))
}

/// Characters that no text exchange uses: Unicode's noncharacters.
fn marks() -> std::ops::RangeInclusive<char> {
    '\u{FDD0}'..='\u{FDEF}'
}

/// Byte positions in `text`, in order, at which a mark keeps control tokens from being found: in
/// each token, and at ends that could be completed by what the template puts beside them.
fn places_to_mark(text: &str, tokens: &[&str]) -> Vec<usize> {
    let mut places = Vec::new();
    for token in tokens {
        let first = token.chars().next().map_or(0, char::len_utf8);
        let mut from = 0;
        while let Some(at) = text[from..].find(token) {
            from += at + first;
            places.push(from);
        }
        // `token[split..]`, the part that this text might begin with.
        for (split, _) in token.char_indices().skip(1) {
            let (head, tail) = token.split_at(split);
            if text.ends_with(head) {
                places.push(text.len());
            }
            // Words are no danger on their own, and templates compare with them.
            let begins = text.starts_with(tail) || (!text.is_empty() && tail.starts_with(text));
            if begins && !text.starts_with(char::is_alphanumeric) {
                places.push(0);
            }
        }
    }
    places.sort_unstable();
    places.dedup();
    places
}

/// Calls `change` with every string in `value`, keys included.
fn for_each_string(value: &mut Value, change: &mut impl FnMut(&mut String)) {
    match value {
        Value::String(text) => change(text),
        Value::Array(items) => {
            for item in items {
                for_each_string(item, change);
            }
        }
        Value::Object(entries) => {
            let old = std::mem::replace(entries, Map::with_capacity(entries.len()));
            for (mut key, mut value) in old {
                change(&mut key);
                for_each_string(&mut value, change);
                entries.insert(key, value);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: &str) {
        let mut marked = text.to_owned();
        for place in places_to_mark(text, &["<|a|>", "<|ab|>"]).into_iter().rev() {
            marked.insert(place, '^');
        }
        assert_eq!(marked, want);
    }

    #[test]
    fn marks_tokens_and_what_could_become_one() {
        check("x <|a|> y <|ab|>", "x <^|a|> y <^|ab|>");
        check("<|a<|a|>", "<|a<^|a|>");
        check("open <|", "open <|^");
        check("|a|> closes", "^|a|> closes");
        check("|a|", "^|a|");
        check("a", "a");
        check("a < b | c > d", "a < b | c > d");
        check("<think></think>", "<think></think>");
        check("", "");
    }
}
