//! Reads the vocabulary in a GGUF file's metadata.

use formats::gguf::{Metadata, StringArray};

use super::TokenizerError;
use super::split::PreTokenizer;
use super::vocabulary::{SpecialIds, TokenKind, Vocabulary};

/// GGUF's name for byte-level BPE.
const MODEL: &str = "gpt2";

impl Vocabulary {
    /// Reads the `tokenizer.ggml.*` keys.
    ///
    /// # Errors
    /// When keys are missing, or describe a tokenizer of another kind.
    pub fn from_gguf(metadata: &Metadata) -> Result<Self, TokenizerError> {
        let model: &str = metadata.get("tokenizer.ggml.model")?;
        if model != MODEL {
            return Err(TokenizerError::UnsupportedModel {
                found: model.to_owned(),
                expected: "gpt2 (byte-level BPE)",
            });
        }
        let pre_tokenizer = PreTokenizer::from_gguf_name(metadata.get("tokenizer.ggml.pre")?)?;
        let tokens: &StringArray = metadata.get("tokenizer.ggml.tokens")?;
        let merges: &StringArray = metadata.get("tokenizer.ggml.merges")?;
        let kinds: Vec<i64> = metadata.get("tokenizer.ggml.token_type")?;
        Ok(Self {
            tokens: tokens.iter().map(str::to_owned).collect(),
            kinds: kinds.into_iter().map(TokenKind::from_gguf).collect(),
            merges: merges.iter().map(str::to_owned).collect(),
            pre_tokenizer,
            // The files do not say, but the family's tokenizers all do.
            normalize_nfc: true,
            special: special_ids(metadata)?,
        })
    }
}

fn special_ids(metadata: &Metadata) -> Result<SpecialIds, TokenizerError> {
    let eos = metadata.find("tokenizer.ggml.eos_token_id")?;
    let eot = metadata.find("tokenizer.ggml.eot_token_id")?;
    Ok(SpecialIds {
        bos: metadata.find("tokenizer.ggml.bos_token_id")?,
        stop: eos.into_iter().chain(eot).collect(),
        padding: metadata.find("tokenizer.ggml.padding_token_id")?,
        add_bos: metadata
            .find("tokenizer.ggml.add_bos_token")?
            .unwrap_or(false),
    })
}
