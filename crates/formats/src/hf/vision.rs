//! The vision tower's part of `config.json`.

use super::error::Problem;
use super::raw::{self, OneOrMany, many};
use super::text::{HEADS, WIDTH, checked_size};

/// The vision tower. Fields are called as in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HfVisionConfig {
    /// Layers.
    pub depth: usize,
    /// Width of the tower.
    pub hidden_size: usize,
    /// The activation, `gelu_pytorch_tanh` in all released models.
    pub hidden_act: String,
    /// Width of a layer's feed-forward block.
    pub intermediate_size: usize,
    /// Attention heads; divides the width.
    pub num_heads: usize,
    /// Colours of a pixel.
    pub in_channels: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Side of the square of patches that becomes one token.
    pub spatial_merge_size: usize,
    /// Frames of a patch.
    pub temporal_patch_size: usize,
    /// Width of what is handed to the text model.
    pub out_hidden_size: usize,
    /// Entries of the position table, a square number.
    pub num_position_embeddings: usize,
}

impl HfVisionConfig {
    pub(super) fn from_raw(raw: raw::Vision) -> Result<Self, Problem> {
        let size = |field, value: Option<usize>, default: usize, limit: usize| {
            checked_size(field, value.unwrap_or(default), limit)
        };
        let config = Self {
            depth: size("vision_config.depth", raw.depth, 27, 1024)?,
            hidden_size: size("vision_config.hidden_size", raw.hidden_size, 1152, WIDTH)?,
            hidden_act: raw
                .hidden_act
                .unwrap_or_else(|| "gelu_pytorch_tanh".to_owned()),
            intermediate_size: size(
                "vision_config.intermediate_size",
                raw.intermediate_size,
                4304,
                WIDTH,
            )?,
            num_heads: size("vision_config.num_heads", raw.num_heads, 16, HEADS)?,
            in_channels: size("vision_config.in_channels", raw.in_channels, 3, 64)?,
            patch_size: side("vision_config.patch_size", raw.patch_size, 16)?,
            spatial_merge_size: size(
                "vision_config.spatial_merge_size",
                raw.spatial_merge_size,
                2,
                64,
            )?,
            temporal_patch_size: side(
                "vision_config.temporal_patch_size",
                raw.temporal_patch_size,
                2,
            )?,
            out_hidden_size: size(
                "vision_config.out_hidden_size",
                raw.out_hidden_size,
                3584,
                WIDTH,
            )?,
            num_position_embeddings: size(
                "vision_config.num_position_embeddings",
                raw.num_position_embeddings,
                2304,
                WIDTH,
            )?,
        };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), Problem> {
        if !self.hidden_size.is_multiple_of(self.num_heads) {
            let expected = format!("a multiple of num_heads, {}", self.num_heads);
            return Err(Problem::field(
                "vision_config.hidden_size",
                self.hidden_size,
                expected,
            ));
        }
        let positions = self.num_position_embeddings;
        if positions.isqrt().pow(2) != positions {
            let field = "vision_config.num_position_embeddings";
            return Err(Problem::field(field, positions, "a square number"));
        }
        Ok(())
    }
}

/// A side that may be listed once per axis, if all are equal.
fn side(
    field: &'static str,
    given: Option<OneOrMany<usize>>,
    default: usize,
) -> Result<usize, Problem> {
    let sides = many(given);
    let first = sides.first().copied().unwrap_or(default);
    if sides.iter().any(|&side| side != first) {
        return Err(Problem::field(
            field,
            "a list of unequal numbers",
            "equal sides",
        ));
    }
    checked_size(field, first, 1024)
}
