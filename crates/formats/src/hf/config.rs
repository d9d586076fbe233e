//! `config.json` as a whole, in both of its shapes.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::error::{HfError, Problem};
use super::quantization::HfQuantization;
use super::raw;
use super::text::HfTextConfig;
use super::vision::HfVisionConfig;
use crate::json::{JsonError, parse_json, read_json};

/// Real files have a few kilobytes. Parsed, a hostile one can take twenty times its size.
pub(super) const MAX_JSON_BYTES: u64 = 4 << 20;

/// The kinds of model that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelType {
    /// `qwen3_5_moe`, `qwen3_5_moe_text`: Qwen3.5 and 3.6 with experts.
    Qwen35Moe,
    /// `qwen3_5`, `qwen3_5_text`: the dense models of 3.5, 3.6 and 3.8.
    Qwen35,
    /// `qwen3_next`: Qwen3-Next and Qwen3-Coder-Next.
    Qwen3Next,
}

impl ModelType {
    const NAMES: &str = "qwen3_5_moe, qwen3_5_moe_text, qwen3_5, qwen3_5_text, qwen3_next";

    /// The name that the reference library has for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Qwen35Moe => "qwen3_5_moe",
            Self::Qwen35 => "qwen3_5",
            Self::Qwen3Next => "qwen3_next",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        match name {
            "qwen3_5_moe" | "qwen3_5_moe_text" => Some(Self::Qwen35Moe),
            "qwen3_5" | "qwen3_5_text" => Some(Self::Qwen35),
            "qwen3_next" => Some(Self::Qwen3Next),
            _ => None,
        }
    }
}

/// What a checkpoint's `config.json` says.
#[derive(Debug, Clone, PartialEq)]
pub struct HfConfig {
    /// The kind of model.
    pub model_type: ModelType,
    /// Whether the text model is in `text_config`. Then its tensors are called
    /// `model.language_model.*`, otherwise `model.*`.
    pub is_composite: bool,
    /// The text model.
    pub text: HfTextConfig,
    /// The vision tower, if the file describes one.
    pub vision: Option<HfVisionConfig>,
    /// The token that stands for an image patch; only in composite files, like those below.
    pub image_token_id: Option<u32>,
    /// The token that stands for a video patch.
    pub video_token_id: Option<u32>,
    /// The token before an image or video.
    pub vision_start_token_id: Option<u32>,
    /// The token after an image or video.
    pub vision_end_token_id: Option<u32>,
    /// Whether the head is the embedding: the top-level field, which is the one that the library
    /// reads. A checkpoint with a `lm_head.weight` should use it whatever this says.
    pub tie_word_embeddings: bool,
    /// How the weights are quantised, if they are.
    pub quantization: Option<HfQuantization>,
}

impl HfConfig {
    /// Reads `config.json`, given by itself or by its folder.
    ///
    /// # Errors
    /// The file cannot be read, is no json, describes another kind of model, or has numbers that
    /// no model can have.
    pub fn read(path: &Path) -> Result<Self, HfError> {
        let path = file_in(path, "config.json");
        let config = read_json(&path, MAX_JSON_BYTES)
            .map_err(Problem::from)
            .and_then(Self::from_json);
        config.map_err(|problem| HfError::new(&path, problem))
    }

    /// Parses the text of a `config.json`; `name` stands for the file in errors.
    ///
    /// ```
    /// use tidemill_formats::hf::{HfConfig, ModelType};
    ///
    /// let config = HfConfig::parse("config.json", br#"{"model_type": "qwen3_5_moe_text"}"#)?;
    /// assert_eq!(config.model_type, ModelType::Qwen35Moe);
    /// assert_eq!(config.text.num_hidden_layers, 40);
    /// # Ok::<(), tidemill_formats::hf::HfError>(())
    /// ```
    ///
    /// # Errors
    /// As for [`HfConfig::read`].
    pub fn parse(name: &str, text: &[u8]) -> Result<Self, HfError> {
        let config = parse_json(text)
            .map_err(Problem::from)
            .and_then(Self::from_json);
        config.map_err(|problem| HfError::new(Path::new(name), problem))
    }

    fn from_json(json: Value) -> Result<Self, Problem> {
        let raw: raw::Config = from_value(&json)?;
        let model_type = raw.model_type.as_deref().and_then(ModelType::parse);
        let model_type = model_type.ok_or_else(|| Problem::ModelType {
            found: match &raw.model_type {
                Some(name) => format!("{name:?}"),
                None => "missing".to_owned(),
            },
            expected: ModelType::NAMES,
        })?;
        // The same fields mean other things at the top level of a composite file.
        let top_level: raw::Text = from_value(&json)?;
        let is_composite = raw.text_config.is_some();
        let tie_word_embeddings = top_level.tie_word_embeddings.unwrap_or(false);
        let top_level_quantization = top_level.quantization_config.clone();
        let mut raw_text = raw.text_config.unwrap_or(top_level);
        let quantization = raw
            .quantization_config
            .or(raw_text.quantization_config.take())
            .or(top_level_quantization);
        // The reference class has defaults for these.
        let token = |id: Option<u32>, default| id.or(is_composite.then_some(default));
        Ok(Self {
            model_type,
            is_composite,
            text: HfTextConfig::from_raw(raw_text, model_type)?,
            vision: raw
                .vision_config
                .map(HfVisionConfig::from_raw)
                .transpose()?,
            image_token_id: token(raw.image_token_id, 248_056),
            video_token_id: token(raw.video_token_id, 248_057),
            vision_start_token_id: token(raw.vision_start_token_id, 248_053),
            vision_end_token_id: token(raw.vision_end_token_id, 248_054),
            tie_word_embeddings,
            quantization: quantization.map(HfQuantization::from_raw).transpose()?,
        })
    }
}

/// `path` itself, or the file `name` in it if it is a folder.
pub(super) fn file_in(path: &Path, name: &str) -> PathBuf {
    if path.is_dir() {
        path.join(name)
    } else {
        path.to_owned()
    }
}

fn from_value<'a, T: serde::Deserialize<'a>>(json: &'a Value) -> Result<T, Problem> {
    T::deserialize(json).map_err(|error| JsonError::Syntax(error.to_string()).into())
}
