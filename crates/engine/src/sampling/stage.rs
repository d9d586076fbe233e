//! The steps of the chain and their order.

use std::fmt;
use std::str::FromStr;

use super::SettingsError;

/// A step between the logits and the draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// Repetition, presence and frequency penalties.
    Penalties,
    /// Penalises going on with a repetition of what was said before.
    Dry,
    /// Divides the logits.
    Temperature,
    /// Keeps what lies within some standard deviations of the largest logit.
    TopNSigma,
    /// Keeps the most likely tokens by number.
    TopK,
    /// Keeps tokens about as surprising as is to be expected.
    Typical,
    /// Keeps the most likely tokens by their sum.
    TopP,
    /// Keeps tokens by their probability relative to the most likely one.
    MinP,
    /// Sometimes removes the most likely tokens.
    Xtc,
}

impl Stage {
    /// All stages in the default order: the logits are corrected and scaled before anything is cut
    /// off, as the model cards' values are meant (they come from engines that do so).
    pub const DEFAULT_ORDER: [Stage; 9] = [
        Stage::Penalties,
        Stage::Dry,
        Stage::Temperature,
        Stage::TopNSigma,
        Stage::TopK,
        Stage::Typical,
        Stage::TopP,
        Stage::MinP,
        Stage::Xtc,
    ];

    /// The name in settings.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Penalties => "penalties",
            Stage::Dry => "dry",
            Stage::Temperature => "temperature",
            Stage::TopNSigma => "top_n_sigma",
            Stage::TopK => "top_k",
            Stage::Typical => "typical",
            Stage::TopP => "top_p",
            Stage::MinP => "min_p",
            Stage::Xtc => "xtc",
        }
    }

    /// All names, for messages.
    pub(super) fn names() -> String {
        Self::DEFAULT_ORDER.map(Stage::name).join(", ")
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Stage {
    type Err = SettingsError;

    /// Names are taken as other engines write them too: `typ_p`, `top-k`, `temp`.
    fn from_str(name: &str) -> Result<Self, SettingsError> {
        let plain = name.trim().to_ascii_lowercase().replace('-', "_");
        let plain = match plain.as_str() {
            "temp" => "temperature",
            "typ_p" | "typical_p" => "typical",
            other => other,
        };
        Self::DEFAULT_ORDER
            .into_iter()
            .find(|stage| stage.name() == plain)
            .ok_or_else(|| SettingsError::UnknownStage {
                name: name.to_owned(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for stage in Stage::DEFAULT_ORDER {
            assert_eq!(stage.to_string().parse(), Ok(stage));
        }
        assert_eq!("Top-K".parse(), Ok(Stage::TopK));
        assert_eq!("typ_p".parse(), Ok(Stage::Typical));
        let error = "top_q".parse::<Stage>().unwrap_err().to_string();
        assert!(
            error.contains("top_q") && error.contains("top_p"),
            "{error}"
        );
    }
}
