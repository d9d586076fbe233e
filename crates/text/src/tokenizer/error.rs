//! What can be wrong with a vocabulary or with what is to be encoded or decoded.

use std::path::PathBuf;

use super::TokenId;
use super::split::PreTokenizer;

/// Why a tokenizer could not be built, or could not encode or decode.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The file's tokenizer is of another kind.
    #[error("tokenizer model `{found}` is not supported; expected {expected}")]
    UnsupportedModel {
        /// The kind the file names.
        found: String,
        /// The kind this reader takes.
        expected: &'static str,
    },
    /// The file's pre-tokenizer is not one of those we know.
    #[error(
        "pre-tokenizer `{found}` is not supported; supported are {}; a wrong one would give wrong \
         tokens, so re-convert the model with a current converter or ask for support of this one",
        PreTokenizer::SUPPORTED
    )]
    UnsupportedPreTokenizer {
        /// The name or regular expression in the file.
        found: String,
    },
    /// Something in `tokenizer.json` that changes how text becomes tokens, and that we do not do.
    #[error("{what} in tokenizer.json is not supported: {found}")]
    UnsupportedPart {
        /// The part of the file.
        what: &'static str,
        /// What it holds.
        found: String,
    },
    /// A key that a tokenizer needs is missing, or has another type.
    #[error("tokenizer key `{key}` {problem}; is this the file of a language model?")]
    BadKey {
        /// The key in the file.
        key: String,
        /// What is wrong with its value.
        problem: String,
    },
    /// The lists of the vocabulary do not fit together.
    #[error("the vocabulary has {tokens} tokens but {kinds} token types; the file is damaged")]
    LengthMismatch {
        /// The number of tokens.
        tokens: usize,
        /// The number of types.
        kinds: usize,
    },
    /// A vocabulary that ids of 32 bits cannot count.
    #[error("a vocabulary of {tokens} tokens is too large; at most {} are supported", TokenId::MAX - 1)]
    TooManyTokens {
        /// The number of tokens.
        tokens: usize,
    },
    /// A merge that is not two tokens which make a third.
    #[error(
        "merge {index} (`{merge}`) is not two tokens that together are a token of the vocabulary; the file is damaged"
    )]
    BadMerge {
        /// Its position in the list.
        index: usize,
        /// Its text.
        merge: String,
    },
    /// A special token's id lies outside the vocabulary.
    #[error(
        "{role} token {id} is outside the vocabulary of {vocabulary} tokens; the file is damaged"
    )]
    BadSpecialToken {
        /// Which of the special tokens.
        role: &'static str,
        /// Its id in the file.
        id: TokenId,
        /// The number of tokens.
        vocabulary: usize,
    },
    /// The added tokens cannot be searched for.
    #[error("the added tokens cannot be compiled into a matcher: {0}")]
    AddedTokens(#[from] aho_corasick::BuildError),
    /// A byte of the text has no token.
    #[error("byte 0x{byte:02x} has no token: the vocabulary does not hold all 256 single bytes")]
    ByteWithoutToken {
        /// The byte.
        byte: u8,
    },
    /// One unbroken piece of text of 4 GiB or more.
    #[error("one unbroken piece of text has {bytes} bytes; split the input at white space")]
    PieceTooLong {
        /// Its length.
        bytes: usize,
    },
    /// An id without a token.
    #[error("token id {id} is outside the vocabulary of {vocabulary} tokens")]
    UnknownToken {
        /// The id.
        id: TokenId,
        /// The number of tokens.
        vocabulary: usize,
    },
    /// The GGUF metadata lack a key or hold another type.
    #[error(transparent)]
    Gguf(#[from] formats::gguf::GgufError),
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not the JSON that we expect.
    #[error("{what} is not what a tokenizer file should be")]
    Json {
        /// The file.
        what: String,
        /// Where and why.
        source: serde_json::Error,
    },
}
