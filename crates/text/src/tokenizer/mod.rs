//! Byte-level BPE: text to token ids and back.
//!
//! Text is cut at added tokens (`<|im_start|>` ...), put into NFC, cut into pieces
//! ([`split`]) and merged piece by piece ([`bpe`]). All steps take linear time, up to the
//! logarithm in the merging of one piece.
//!
//! Does not know about chats: [`crate::prompt`] decides which text may hold control tokens.

mod added;
mod bpe;
mod byte_level;
mod error;
mod gguf;
mod hugging_face;
mod split;
mod stream;
mod vocabulary;

use std::borrow::Cow;
use std::collections::HashMap;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use added::{AddedTokens, Segment};
use bpe::{Bpe, Merge, Scratch};
use split::Splitter;

pub use error::TokenizerError;
pub use split::PreTokenizer;
pub use stream::StreamDecoder;
pub use vocabulary::{SpecialIds, TokenKind, Vocabulary};

/// A token's number: its row in the embedding matrix.
pub type TokenId = u32;

/// The family's tokens that end a turn or a text. Files often name only one of them as the end,
/// but generation has to stop at either.
const END_TOKENS: [&str; 2] = ["<|im_end|>", "<|endoftext|>"];

/// What to do with text that looks like an added token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpecialTokens {
    /// `<|im_end|>` in the text becomes that token: for prompts that a template has made.
    Parse,
    /// `<|im_end|>` in the text is ten ordinary characters: for text from outside.
    AsText,
}

/// Which tokens leave a trace in decoded text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decode {
    /// All of them.
    Everything,
    /// All but control tokens. `<think>` and `<tool_call>` are not control tokens, and stay.
    SkipControl,
}

/// Turns text into token ids and back.
#[derive(Debug)]
pub struct Tokenizer {
    /// The bytes of all tokens, one after the other; token `id` is `ends[id - 1]..ends[id]`.
    bytes: Vec<u8>,
    ends: Vec<usize>,
    kinds: Vec<TokenKind>,
    bpe: Bpe,
    splitter: Splitter,
    added: AddedTokens,
    normalize_nfc: bool,
    special: SpecialIds,
}

impl Tokenizer {
    /// Makes a tokenizer of a vocabulary.
    ///
    /// # Errors
    /// When the vocabulary contradicts itself.
    pub fn new(vocabulary: &Vocabulary) -> Result<Self, TokenizerError> {
        let Vocabulary { tokens, kinds, .. } = vocabulary;
        if tokens.len() != kinds.len() {
            return Err(TokenizerError::LengthMismatch {
                tokens: tokens.len(),
                kinds: kinds.len(),
            });
        }
        if tokens.len() >= TokenId::MAX as usize {
            return Err(TokenizerError::TooManyTokens {
                tokens: tokens.len(),
            });
        }
        let (bytes, ends) = token_bytes(vocabulary);
        let added = AddedTokens::new(
            (0..)
                .zip(tokens)
                .zip(kinds)
                .filter(|(_, kind)| kind.is_added())
                .map(|((id, text), _)| (id, text.as_str())),
        )?;
        let mut special = vocabulary.special.clone();
        special.check(tokens.len())?;
        special
            .stop
            .extend(END_TOKENS.iter().filter_map(|text| added.id_of(text)));
        special.stop.sort_unstable();
        special.stop.dedup();
        Ok(Self {
            bytes,
            ends,
            kinds: kinds.clone(),
            bpe: byte_pairs(vocabulary)?,
            splitter: Splitter::new(vocabulary.pre_tokenizer),
            added,
            normalize_nfc: vocabulary.normalize_nfc,
            special,
        })
    }

    /// The tokens of `text`. Never adds a token of its own, such as [`Self::bos_to_add`].
    ///
    /// # Errors
    /// When the vocabulary lacks the token of a byte.
    pub fn encode(
        &self,
        text: &str,
        special_tokens: SpecialTokens,
    ) -> Result<Vec<TokenId>, TokenizerError> {
        let mut tokens = Vec::with_capacity(text.len() / 3);
        let mut scratch = Scratch::default();
        match special_tokens {
            SpecialTokens::AsText => self.encode_text(text, &mut scratch, &mut tokens)?,
            SpecialTokens::Parse => {
                for segment in self.added.segments(text) {
                    match segment {
                        Segment::Token(id) => tokens.push(id),
                        Segment::Text(text) => {
                            self.encode_text(text, &mut scratch, &mut tokens)?;
                        }
                    }
                }
            }
        }
        Ok(tokens)
    }

    /// As [`Self::encode`] with [`SpecialTokens::Parse`], for text in which `mark` was put
    /// wherever an added token must not be found. The marks themselves leave no trace.
    pub(crate) fn encode_marked(
        &self,
        text: &str,
        mark: char,
    ) -> Result<Vec<TokenId>, TokenizerError> {
        let mut tokens = Vec::with_capacity(text.len() / 3);
        let mut scratch = Scratch::default();
        for segment in self.added.segments(text) {
            match segment {
                Segment::Token(id) => tokens.push(id),
                Segment::Text(text) => {
                    self.encode_text(&text.replace(mark, ""), &mut scratch, &mut tokens)?;
                }
            }
        }
        Ok(tokens)
    }

    fn encode_text(
        &self,
        text: &str,
        scratch: &mut Scratch,
        tokens: &mut Vec<TokenId>,
    ) -> Result<(), TokenizerError> {
        let text = self.normalize(text);
        for piece in self.splitter.pieces(&text) {
            self.bpe.encode(piece.as_bytes(), scratch, tokens)?;
        }
        Ok(())
    }

    fn normalize<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if !self.normalize_nfc || text.is_ascii() || is_nfc_quick(text.chars()) == IsNormalized::Yes
        {
            return Cow::Borrowed(text);
        }
        Cow::Owned(text.nfc().collect())
    }

    /// The text of `tokens`. Bytes that are not UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// When an id is outside the vocabulary.
    pub fn decode(&self, tokens: &[TokenId], what: Decode) -> Result<String, TokenizerError> {
        let mut bytes = Vec::new();
        for &token in tokens {
            bytes.extend_from_slice(self.visible_bytes(token, what)?);
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The bytes that `token` adds to decoded text.
    pub(crate) fn visible_bytes(
        &self,
        token: TokenId,
        what: Decode,
    ) -> Result<&[u8], TokenizerError> {
        let bytes = self.token_bytes(token)?;
        let is_skipped = what == Decode::SkipControl && self.is_control(token);
        Ok(if is_skipped { &[] } else { bytes })
    }

    /// The bytes of a token: half a character, perhaps. Unused rows have none.
    ///
    /// # Errors
    /// When the id is outside the vocabulary.
    pub fn token_bytes(&self, token: TokenId) -> Result<&[u8], TokenizerError> {
        let index = token as usize;
        let Some(&end) = self.ends.get(index) else {
            return Err(TokenizerError::UnknownToken {
                id: token,
                vocabulary: self.vocabulary_size(),
            });
        };
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        Ok(&self.bytes[start..end])
    }

    /// What a token is for; ids outside the vocabulary are unused.
    pub fn kind(&self, token: TokenId) -> TokenKind {
        self.kinds
            .get(token as usize)
            .copied()
            .unwrap_or(TokenKind::Unused)
    }

    /// Whether a token steers the model and is no part of the text.
    pub fn is_control(&self, token: TokenId) -> bool {
        self.kind(token) == TokenKind::Control
    }

    /// The number of tokens in the file. The model may have more rows than that: they are padding
    /// and must never be sampled.
    pub fn vocabulary_size(&self) -> usize {
        self.ends.len()
    }

    /// The token that is exactly `text`, such as `<think>`. Added tokens are found at once, others
    /// by looking through the vocabulary.
    pub fn id_of(&self, text: &str) -> Option<TokenId> {
        self.added.id_of(text).or_else(|| {
            (0..)
                .zip(&self.kinds)
                .filter(|(_, kind)| **kind == TokenKind::Normal)
                .map(|(id, _)| id)
                .find(|&id| !text.is_empty() && self.token_bytes(id).ok() == Some(text.as_bytes()))
        })
    }

    /// The control tokens' ids, in order.
    pub fn control_tokens(&self) -> impl Iterator<Item = TokenId> {
        (0..)
            .zip(&self.kinds)
            .filter(|(_, kind)| **kind == TokenKind::Control)
            .map(|(id, _)| id)
    }

    /// The ids at which generation stops, in order: those the file names and the family's own.
    pub fn stop_tokens(&self) -> &[TokenId] {
        &self.special.stop
    }

    /// Whether generation stops at this token.
    pub fn is_stop(&self, token: TokenId) -> bool {
        self.special.stop.contains(&token)
    }

    /// The token to put before a prompt, for the vocabularies that want one (this family does not).
    pub fn bos_to_add(&self) -> Option<TokenId> {
        self.special.bos.filter(|_| self.special.add_bos)
    }

    /// The token that stands for "no token", if the file names one.
    pub fn padding(&self) -> Option<TokenId> {
        self.special.padding
    }
}

impl SpecialIds {
    fn check(&self, vocabulary: usize) -> Result<(), TokenizerError> {
        let roles = [("bos", self.bos), ("padding", self.padding)]
            .into_iter()
            .filter_map(|(role, id)| Some((role, id?)));
        let stops = self.stop.iter().map(|&id| ("end", id));
        match roles
            .chain(stops)
            .find(|&(_, id)| id as usize >= vocabulary)
        {
            Some((role, id)) => Err(TokenizerError::BadSpecialToken {
                role,
                id,
                vocabulary,
            }),
            None => Ok(()),
        }
    }
}

/// All tokens' bytes in one buffer, with the end of each.
fn token_bytes(vocabulary: &Vocabulary) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = Vec::with_capacity(vocabulary.tokens.iter().map(String::len).sum());
    let ends = vocabulary
        .tokens
        .iter()
        .zip(&vocabulary.kinds)
        .map(|(text, kind)| {
            match kind {
                TokenKind::Normal => byte_level::push_bytes_of(text, &mut bytes),
                TokenKind::Control | TokenKind::UserDefined => {
                    bytes.extend_from_slice(text.as_bytes());
                }
                TokenKind::Unused => {}
            }
            bytes.len()
        })
        .collect();
    (bytes, ends)
}

/// Looks the texts of the merges up, so that merging is arithmetic on ids.
fn byte_pairs(vocabulary: &Vocabulary) -> Result<Bpe, TokenizerError> {
    let ids: HashMap<&str, TokenId> = vocabulary
        .tokens
        .iter()
        .zip(&vocabulary.kinds)
        .zip(0..)
        .filter(|((_, kind), _)| **kind == TokenKind::Normal)
        .map(|((text, _), id)| (text.as_str(), id))
        .collect();

    let mut byte_ids = Box::new([None; 256]);
    for (text, &id) in &ids {
        let mut characters = text.chars();
        if let (Some(character), None) = (characters.next(), characters.next())
            && let Some(byte) = byte_level::byte_of(character)
        {
            byte_ids[usize::from(byte)] = Some(id);
        }
    }

    let mut merges = Vec::with_capacity(vocabulary.merges.len());
    for (index, merge) in vocabulary.merges.iter().enumerate() {
        let merged = merge.split_once(' ').and_then(|(left, right)| {
            let merged = *ids.get([left, right].concat().as_str())?;
            Some(((*ids.get(left)?, *ids.get(right)?), merged))
        });
        let (Some((pair, merged)), Ok(rank)) = (merged, u32::try_from(index)) else {
            return Err(TokenizerError::BadMerge {
                index,
                merge: merge.clone(),
            });
        };
        merges.push((pair, Merge { rank, merged }));
    }
    Ok(Bpe::new(byte_ids, merges))
}
