//! Text in, tokens out, and back: the tokenizer, the chat template, and what reads the model's
//! output.
//!
//! A request's way in: [`ChatTemplate`] renders its messages into one prompt, [`Tokenizer`] turns
//! the prompt into token ids ([`prompt`] does both at once). The way out: [`StreamDecoder`] turns
//! ids into text as they come, and [`OutputParser`] tells in it reasoning, answer and calls of
//! tools.
//!
//! Holds no tensors, opens no sockets and starts no threads.

pub mod output;
pub mod prompt;
pub mod template;
pub mod tokenizer;

pub use output::{Output, OutputEvent, OutputOptions, OutputParser, ToolCall};
pub use prompt::{Prompt, PromptError};
pub use template::{ChatRequest, ChatTemplate, Message, TemplateError, ThinkingState};
pub use tokenizer::{
    Decode, SpecialTokens, StreamDecoder, TokenId, TokenKind, Tokenizer, TokenizerError, Vocabulary,
};
