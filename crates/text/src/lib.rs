//! Text in, tokens out, and back.
pub mod tokenizer;
pub use tokenizer::{
    SpecialTokens, StreamDecoder, TokenId, TokenKind, Tokenizer, TokenizerError, Vocabulary,
};
