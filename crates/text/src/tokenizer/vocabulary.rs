//! A vocabulary as it is stored in a file, before it is made into a tokenizer.

use super::TokenId;
use super::split::PreTokenizer;

/// What a token is for. Numbers are those of GGUF's `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// A piece of text.
    Normal,
    /// Steers the model, such as `<|im_end|>`. Not part of the text it marks up.
    Control,
    /// Found in text before any other splitting and part of it, such as `<think>`.
    UserDefined,
    /// A row without a token, such as padding at the vocabulary's end.
    Unused,
}

impl TokenKind {
    /// The kind with this number in GGUF files. Kinds that byte-level vocabularies do not have
    /// (unknown, single byte) and new ones count as unused.
    pub fn from_gguf(number: i64) -> Self {
        match number {
            1 => Self::Normal,
            3 => Self::Control,
            4 => Self::UserDefined,
            _ => Self::Unused,
        }
    }

    /// Whether the token is matched in the text before it is split.
    pub fn is_added(self) -> bool {
        matches!(self, Self::Control | Self::UserDefined)
    }
}

/// Everything a file says about its byte-level BPE tokenizer.
#[derive(Debug, Clone)]
pub struct Vocabulary {
    /// The tokens by id. Normal ones are spelled in the byte-level alphabet, added ones as they
    /// appear in text.
    pub tokens: Vec<String>,
    /// What each token is for, as many as there are tokens.
    pub kinds: Vec<TokenKind>,
    /// The merges, best first, as `LEFT RIGHT` in the byte-level alphabet.
    pub merges: Vec<String>,
    /// How text is cut before merging.
    pub pre_tokenizer: PreTokenizer,
    /// Whether text is put into Unicode's composed form (NFC) first.
    pub normalize_nfc: bool,
    /// The tokens with a role.
    pub special: SpecialIds,
}

/// Ids with a role, where the file names them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpecialIds {
    /// Begins a text, when `add_bos` says so.
    pub bos: Option<TokenId>,
    /// End a text or a turn: generation stops at any of them.
    pub stop: Vec<TokenId>,
    /// Fills batches.
    pub padding: Option<TokenId>,
    /// Whether `bos` is put before a prompt.
    pub add_bos: bool,
}
