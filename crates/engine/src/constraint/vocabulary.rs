//! Our tokenizer as the grammar library wants it.

use std::sync::Arc;

use llguidance::toktrie::{TokEnv, TokRxInfo, TokTrie, TokenizerEnv};
use text::{SpecialTokens, TokenKind, Tokenizer};

use super::ConstraintError;

/// A tokenizer with its tokens arranged by their bytes.
struct Environment {
    tokenizer: Arc<Tokenizer>,
    trie: TokTrie,
}

/// Arranges a vocabulary's tokens by their bytes.
///
/// Added tokens, control tokens or not, are not text to a grammar: it names them (`<tool_call>`)
/// or does not allow them. So a string in JSON cannot hold a token that ends the turn.
pub(super) fn environment(tokenizer: Arc<Tokenizer>) -> Result<TokEnv, ConstraintError> {
    let size = tokenizer.vocabulary_size() as u32;
    let ends = tokenizer.stop_tokens();
    let Some(&end) = ends.first() else {
        let why = "it names no token that ends an answer";
        return Err(ConstraintError::Vocabulary(why.to_owned()));
    };
    let words: Vec<Vec<u8>> = (0..size)
        .map(|id| {
            let bytes = tokenizer.token_bytes(id).unwrap_or_default();
            match tokenizer.kind(id) {
                TokenKind::Normal => bytes.to_vec(),
                TokenKind::Control | TokenKind::UserDefined if !bytes.is_empty() => {
                    [&[TokTrie::SPECIAL_TOKEN_MARKER], bytes].concat()
                }
                _ => Vec::new(),
            }
        })
        .collect();
    // The trie keeps lengths in a byte and a half.
    if let Some(long) = words.iter().position(|word| word.len() > 1000) {
        let why = format!("token {long} has {} bytes", words[long].len());
        return Err(ConstraintError::Vocabulary(why));
    }
    let trie = TokTrie::from(&TokRxInfo::new(size, end), &words).with_eos_tokens(ends);
    Ok(Arc::new(Environment { tokenizer, trie }))
}

impl Environment {
    fn encode(&self, text: &str) -> Vec<u32> {
        let tokens = self.tokenizer.encode(text, SpecialTokens::AsText);
        let is_exact = |tokens: &Vec<u32>| self.trie.decode_raw(tokens) == text.as_bytes();
        // Normalisation may have changed the text, and a grammar is about bytes.
        match tokens.ok().filter(is_exact) {
            Some(tokens) => tokens,
            None => self.trie.greedy_tokenize(text.as_bytes()),
        }
    }
}

impl TokenizerEnv for Environment {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<u32> {
        self.trie
            .tokenize_with_greedy_fallback(bytes, |text| self.encode(text))
    }
}
