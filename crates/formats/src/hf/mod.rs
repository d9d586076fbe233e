//! The json files of a Hugging Face checkpoint: `config.json` and `generation_config.json`.
//!
//! [`HfConfig`] is a faithful reading of the file with the reference library's own fall-backs for
//! what is missing; numbers that no model can have are refused. What the engine makes of them is
//! decided by the model crate.

mod config;
mod error;
mod generation;
mod quantization;
mod raw;
mod rope;
mod text;
mod vision;

pub use config::{HfConfig, ModelType};
pub use error::{HfError, Problem};
pub use generation::HfGenerationConfig;
pub use quantization::HfQuantization;
pub use rope::{HfRope, HfYarn};
pub use text::{HfMoe, HfTextConfig, LayerType};
pub use vision::HfVisionConfig;
