//! Log-probabilities in the form of completions: lists side by side.

use serde_json::{Map, Value, json};

use super::super::logprobs::finite;
use crate::answer::TokenLogprob;

/// Lists of tokens, their log-probabilities and where they begin in the text.
#[derive(Debug, Default)]
pub(super) struct Lists {
    tokens: Vec<String>,
    logprobs: Vec<Value>,
    tops: Vec<Value>,
    offsets: Vec<usize>,
    /// Characters of the text so far.
    length: usize,
    /// Bytes of a character that is not complete.
    open: Vec<u8>,
}

impl Lists {
    /// Adds a token of which nothing is known: the first one of a text.
    pub(super) fn first(&mut self, bytes: &[u8]) {
        self.place(bytes);
        self.logprobs.push(Value::Null);
        self.tops.push(Value::Null);
    }

    /// Adds a token.
    pub(super) fn push(&mut self, token: &TokenLogprob) {
        self.place(&token.bytes);
        self.logprobs.push(json!(finite(token.logprob)));
        let mut top = Map::new();
        for (_, bytes, logprob) in &token.top {
            top.entry(named(bytes)).or_insert(json!(finite(*logprob)));
        }
        top.insert(named(&token.bytes), json!(finite(token.logprob)));
        self.tops.push(Value::Object(top));
    }

    fn place(&mut self, bytes: &[u8]) {
        self.offsets.push(self.length);
        self.tokens.push(named(bytes));
        self.open.extend_from_slice(bytes);
        // Characters count when they are complete; at most three bytes of one are missing.
        match std::str::from_utf8(&self.open) {
            Ok(text) => {
                self.length += text.chars().count();
                self.open.clear();
            }
            Err(_) if self.open.len() > 3 => {
                self.length += String::from_utf8_lossy(&self.open).chars().count();
                self.open.clear();
            }
            Err(_) => {}
        }
    }

    /// As JSON, after which the lists are empty; offsets go on.
    pub(super) fn take(&mut self) -> Value {
        json!({
            "tokens": std::mem::take(&mut self.tokens),
            "token_logprobs": std::mem::take(&mut self.logprobs),
            "top_logprobs": std::mem::take(&mut self.tops),
            "text_offset": std::mem::take(&mut self.offsets),
        })
    }

    /// Whether there is nothing to tell.
    pub(super) fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }
}

/// A token's text; bytes that are no text by themselves are spelled, so that they differ.
fn named(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => {
            let spelled: String = bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect();
            format!("bytes:{spelled}")
        }
    }
}
