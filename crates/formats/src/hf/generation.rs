//! `generation_config.json`: when to stop and how to sample unless told otherwise.

use std::path::Path;

use super::config::{MAX_JSON_BYTES, file_in};
use super::error::{HfError, Problem};
use super::raw::{self, many};
use crate::json::{JsonError, parse_json, read_json};

/// What a checkpoint's `generation_config.json` says. What it leaves out is `None`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HfGenerationConfig {
    /// The token before every text.
    pub bos_token_id: Option<u32>,
    /// The tokens that end a text. Stop on these and on those of `config.json`.
    pub eos_token_ids: Vec<u32>,
    /// The token that fills batches.
    pub pad_token_id: Option<u32>,
    /// `false` asks for the most likely token every time.
    pub do_sample: Option<bool>,
    /// Sampling temperature.
    pub temperature: Option<f64>,
    /// Only so many of the most likely tokens; 0 for all.
    pub top_k: Option<u32>,
    /// Only the most likely tokens that have this probability together.
    pub top_p: Option<f64>,
    /// Only tokens at least this likely, relative to the likeliest.
    pub min_p: Option<f64>,
    /// Subtracted from logits of tokens that are in the text.
    pub presence_penalty: Option<f64>,
    /// Divides logits of tokens that are in the text.
    pub repetition_penalty: Option<f64>,
}

impl HfGenerationConfig {
    /// Reads `generation_config.json`, given by itself or by its folder. A checkpoint need not
    /// have one: `None` if it is not there.
    ///
    /// # Errors
    /// The file cannot be read, is no json, or has values that cannot be sampled with.
    pub fn read(path: &Path) -> Result<Option<Self>, HfError> {
        let path = file_in(path, "generation_config.json");
        let raw = match read_json(&path, MAX_JSON_BYTES) {
            Err(JsonError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(None);
            }
            raw => raw.map_err(Problem::from),
        };
        let config = raw.and_then(Self::from_raw);
        config
            .map(Some)
            .map_err(|problem| HfError::new(&path, problem))
    }

    /// Parses the text of a `generation_config.json`; `name` stands for the file in errors.
    ///
    /// # Errors
    /// As for [`HfGenerationConfig::read`].
    pub fn parse(name: &str, text: &[u8]) -> Result<Self, HfError> {
        let config = parse_json(text)
            .map_err(Problem::from)
            .and_then(Self::from_raw);
        config.map_err(|problem| HfError::new(Path::new(name), problem))
    }

    fn from_raw(raw: raw::Generation) -> Result<Self, Problem> {
        let numbers = [
            ("temperature", raw.temperature, 0.0..=1e6),
            ("top_p", raw.top_p, 0.0..=1.0),
            ("min_p", raw.min_p, 0.0..=1.0),
            ("presence_penalty", raw.presence_penalty, -1e6..=1e6),
            ("repetition_penalty", raw.repetition_penalty, 1e-6..=1e6),
        ];
        for (field, value, range) in numbers {
            if let Some(value) = value.filter(|value| !range.contains(value)) {
                let expected = format!("{} to {}", range.start(), range.end());
                return Err(Problem::field(field, value, expected));
            }
        }
        Ok(Self {
            bos_token_id: raw.bos_token_id,
            eos_token_ids: many(raw.eos_token_id),
            pad_token_id: raw.pad_token_id,
            do_sample: raw.do_sample,
            temperature: raw.temperature,
            top_k: raw.top_k,
            top_p: raw.top_p,
            min_p: raw.min_p,
            presence_penalty: raw.presence_penalty,
            repetition_penalty: raw.repetition_penalty,
        })
    }
}
