//! Text in, tokens out, and back.
pub mod template;
pub mod tokenizer;
pub use template::{ChatRequest, ChatTemplate, Message, TemplateError, ThinkingState};
pub use tokenizer::{
    SpecialTokens, StreamDecoder, TokenId, TokenKind, Tokenizer, TokenizerError, Vocabulary,
};
