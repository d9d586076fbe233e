//! Filling a gap: the family's tokens for text before and behind it.

use text::Tokenizer;

use crate::error::ApiError;

const PREFIX: &str = "<|fim_prefix|>";
const SUFFIX: &str = "<|fim_suffix|>";
const MIDDLE: &str = "<|fim_middle|>";

/// The prompt whose continuation stands between two texts.
///
/// # Errors
/// When the vocabulary has no tokens for that.
pub(crate) fn prompt(
    before: &str,
    behind: &str,
    tokenizer: &Tokenizer,
) -> Result<String, ApiError> {
    let needed = [PREFIX, SUFFIX, MIDDLE];
    if let Some(missing) = needed.iter().find(|token| tokenizer.id_of(token).is_none()) {
        let why = format!("this model cannot fill gaps: its vocabulary has no {missing}");
        return Err(ApiError::bad("suffix", why));
    }
    Ok(format!("{PREFIX}{before}{SUFFIX}{behind}{MIDDLE}"))
}
