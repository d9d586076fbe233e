//! The tokenizer's part of a GGUF header.

use formats::gguf::{Builder, StringArray};
use text::tokenizer::PreTokenizer;
use text::{TokenKind, Vocabulary};

/// Sets the vocabulary, padded with unused rows to the embedding's `rows`.
pub(crate) fn describe(
    builder: &mut Builder,
    vocabulary: &Vocabulary,
    rows: usize,
    template: Option<&str>,
) {
    builder.set("tokenizer.ggml.model", "gpt2");
    let pre_tokenizer = match vocabulary.pre_tokenizer {
        PreTokenizer::Qwen2 => "qwen2",
        PreTokenizer::Qwen35 => "qwen35",
    };
    builder.set("tokenizer.ggml.pre", pre_tokenizer);
    let unused = |index: usize| format!("[PAD{index}]");
    let known = vocabulary.tokens.len();
    let tokens: StringArray = vocabulary
        .tokens
        .iter()
        .zip(&vocabulary.kinds)
        .enumerate()
        .map(|(index, (text, kind))| match kind {
            // Every row needs a text of its own, also one that nothing encodes to.
            TokenKind::Unused => unused(index),
            _ => text.clone(),
        })
        .chain((known..rows).map(unused))
        .collect();
    builder.set("tokenizer.ggml.tokens", tokens);
    let kinds: Vec<i32> = vocabulary
        .kinds
        .iter()
        .copied()
        .chain(std::iter::repeat_n(
            TokenKind::Unused,
            rows.saturating_sub(known),
        ))
        .map(gguf_number)
        .collect();
    builder.set("tokenizer.ggml.token_type", kinds);
    let merges: StringArray = vocabulary.merges.iter().collect();
    builder.set("tokenizer.ggml.merges", merges);

    let special = &vocabulary.special;
    let mut ends = special.stop.iter();
    for key in ["eos_token_id", "eot_token_id"] {
        if let Some(&id) = ends.next() {
            builder.set(&format!("tokenizer.ggml.{key}"), id);
        }
    }
    if let Some(id) = special.bos {
        builder.set("tokenizer.ggml.bos_token_id", id);
    }
    if let Some(id) = special.padding {
        builder.set("tokenizer.ggml.padding_token_id", id);
    }
    builder.set("tokenizer.ggml.add_bos_token", special.add_bos);
    if let Some(template) = template {
        builder.set("tokenizer.chat_template", template);
    }
}

fn gguf_number(kind: TokenKind) -> i32 {
    match kind {
        TokenKind::Normal => 1,
        TokenKind::Control => 3,
        TokenKind::UserDefined => 4,
        TokenKind::Unused => 5,
    }
}
