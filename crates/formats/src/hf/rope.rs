//! Rotary position parameters, whose place and names in the file have changed over time.

use super::config::ModelType;
use super::error::Problem;
use super::raw;
use super::text::{checked_positive, checked_size};

/// The reference library's default, which is not what released models have (1e7).
const DEFAULT_THETA: f64 = 10_000.0;

/// Rotary positions of the attention layers.
#[derive(Debug, Clone, PartialEq)]
pub struct HfRope {
    /// The base of the frequencies.
    pub theta: f64,
    /// Which part of a head is rotated.
    pub partial_rotary_factor: f64,
    /// How many frequencies follow time, height and width; `None` where positions are plain
    /// (`qwen3_next`).
    pub mrope_section: Option<[usize; 3]>,
    /// Stretching to longer contexts, if `rope_type` is `yarn`.
    pub yarn: Option<HfYarn>,
}

/// YaRN's parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct HfYarn {
    /// How much longer the context becomes.
    pub factor: f64,
    /// The context that the model was trained with.
    pub original_max_position_embeddings: usize,
    /// Where rotations start to be left alone.
    pub beta_fast: f64,
    /// Where rotations start to be stretched in full.
    pub beta_slow: f64,
    /// Overrides the factor on cosine and sine.
    pub attention_factor: Option<f64>,
    /// With `mscale_all_dim`, another formula for that factor.
    pub mscale: Option<f64>,
    /// See `mscale`.
    pub mscale_all_dim: Option<f64>,
    /// Whether the corrected range is rounded to whole frequencies.
    pub truncate: bool,
}

impl HfRope {
    pub(super) fn from_raw(
        text: &raw::Text,
        model_type: ModelType,
        max_position_embeddings: usize,
    ) -> Result<Self, Problem> {
        let given = |rope: &&raw::Rope| **rope != raw::Rope::default();
        // The library lets the old name win, unless it is null or empty.
        let rope = text.rope_scaling.as_ref().filter(given);
        let rope = rope.or(text.rope_parameters.as_ref());
        let rope = rope.cloned().unwrap_or_default();
        let theta = rope.rope_theta.or(text.rope_theta).unwrap_or(DEFAULT_THETA);
        let partial = rope.partial_rotary_factor.or(text.partial_rotary_factor);
        let partial = checked_positive("partial_rotary_factor", partial.unwrap_or(0.25))?;
        if partial > 1.0 {
            return Err(Problem::field(
                "partial_rotary_factor",
                partial,
                "above 0, at most 1",
            ));
        }
        let kind = rope.rope_type.as_deref().or(rope.r#type.as_deref());
        let yarn = match kind.unwrap_or("default") {
            // What old Qwen-VL configurations call the default.
            "default" | "mrope" => None,
            "yarn" => {
                // As in the library, a field beside the parameters wins here.
                let original = text.original_max_position_embeddings;
                let original = original.or(rope.original_max_position_embeddings);
                Some(HfYarn::from_raw(
                    &rope,
                    original.unwrap_or(max_position_embeddings),
                )?)
            }
            other => {
                let found = format!("{other:?}");
                return Err(Problem::field(
                    "rope_type",
                    found,
                    "\"default\" or \"yarn\"",
                ));
            }
        };
        Ok(Self {
            theta: checked_positive("rope_theta", theta)?,
            partial_rotary_factor: partial,
            mrope_section: match model_type {
                ModelType::Qwen3Next => None,
                ModelType::Qwen35 | ModelType::Qwen35Moe => Some(sections(rope.mrope_section)?),
            },
            yarn,
        })
    }
}

fn sections(given: Option<Vec<usize>>) -> Result<[usize; 3], Problem> {
    let given = given.unwrap_or_else(|| vec![11, 11, 10]);
    let is_sane = given.iter().all(|&width| width <= 1 << 16);
    match <[usize; 3]>::try_from(given) {
        Ok(sections) if is_sane => Ok(sections),
        Ok(sections) => Err(bad_sections(&sections)),
        Err(given) => Err(bad_sections(&given)),
    }
}

fn bad_sections(found: &[usize]) -> Problem {
    // A hostile list may be long.
    let shown = &found[..found.len().min(8)];
    Problem::field(
        "mrope_section",
        format!("{shown:?}"),
        "three numbers of frequencies",
    )
}

impl HfYarn {
    fn from_raw(rope: &raw::Rope, original: usize) -> Result<Self, Problem> {
        let factor = rope.factor.ok_or_else(|| {
            Problem::field(
                "rope_parameters.factor",
                "missing",
                "a number, for rope_type \"yarn\"",
            )
        })?;
        let optional = |field, value: Option<f64>| {
            value
                .map(|value| checked_positive(field, value))
                .transpose()
        };
        Ok(Self {
            factor: checked_positive("rope_parameters.factor", factor)?,
            original_max_position_embeddings: checked_size(
                "original_max_position_embeddings",
                original,
                1 << 32,
            )?,
            beta_fast: checked_positive("beta_fast", rope.beta_fast.unwrap_or(32.0))?,
            beta_slow: checked_positive("beta_slow", rope.beta_slow.unwrap_or(1.0))?,
            attention_factor: optional("attention_factor", rope.attention_factor)?,
            mscale: optional("mscale", rope.mscale)?,
            mscale_all_dim: optional("mscale_all_dim", rope.mscale_all_dim)?,
            truncate: rope.truncate.unwrap_or(true),
        })
    }
}
