//! Text from tokens while they are generated, never half a character.

use super::{Decode, TokenId, Tokenizer, TokenizerError};

/// Collects the bytes of tokens and hands out the characters that are complete.
///
/// What it has handed out in the end is what [`Tokenizer::decode`] makes of all tokens at once.
#[derive(Debug, Clone)]
pub struct StreamDecoder {
    what: Decode,
    /// The beginning of a character whose rest has not come yet: at most three bytes.
    pending: Vec<u8>,
}

impl StreamDecoder {
    /// A decoder at the start of a text.
    pub fn new(what: Decode) -> Self {
        Self {
            what,
            pending: Vec::new(),
        }
    }

    /// Takes a token and returns the text that is now certain, which may be empty.
    ///
    /// # Errors
    /// When the id is outside the vocabulary.
    pub fn push(
        &mut self,
        tokenizer: &Tokenizer,
        token: TokenId,
    ) -> Result<String, TokenizerError> {
        let bytes = tokenizer.visible_bytes(token, self.what)?;
        self.pending.extend_from_slice(bytes);
        Ok(self.take_certain())
    }

    /// Ends the text: what is still incomplete becomes U+FFFD.
    pub fn finish(&mut self) -> String {
        let rest = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        rest
    }

    /// Whether a character has begun but not ended.
    pub fn is_inside_character(&self) -> bool {
        !self.pending.is_empty()
    }

    fn take_certain(&mut self) -> String {
        let mut text = String::new();
        let mut rest = self.pending.as_slice();
        loop {
            let error = match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    rest = &[];
                    break;
                }
                Err(error) => error,
            };
            let (valid, after) = rest.split_at(error.valid_up_to());
            text.push_str(&String::from_utf8_lossy(valid));
            rest = after;
            match error.error_len() {
                Some(invalid) => {
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = &rest[invalid..];
                }
                None => break,
            }
        }
        self.pending.drain(..self.pending.len() - rest.len());
        text
    }
}
