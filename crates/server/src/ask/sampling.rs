//! How a client wants tokens chosen: explicit values over a preset.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::SamplerSettings;
use engine::sampling::{Dry, DryBreakers, Logprobs, LogprobsOf, Stage, Xtc, preset};
use serde::Deserialize;
use serde_json::Value;
use text::Tokenizer;

use crate::error::ApiError;
use crate::model::ClientSampling;
use crate::random;

/// The most breakers of a request, and bytes of one: each is looked for in every token of the vocabulary, and
/// after each token of the answer.
const MOST_BREAKERS: usize = 64;
const LONGEST_BREAKER: usize = 256;

/// The sampler's values that a request names, as all dialects spell them. What is `null` or missing
/// is left to the preset.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct SamplingAsk {
    /// A preset's name, instead of the one that suits the mode.
    pub(crate) preset: Option<String>,
    pub(crate) samplers: Option<Vec<String>>,
    pub(crate) temperature: Option<f32>,
    pub(crate) dynatemp_range: Option<f32>,
    pub(crate) dynatemp_exponent: Option<f32>,
    /// 0 or less for all.
    pub(crate) top_k: Option<i64>,
    pub(crate) top_p: Option<f32>,
    pub(crate) min_p: Option<f32>,
    pub(crate) typical_p: Option<f32>,
    pub(crate) top_n_sigma: Option<f32>,
    pub(crate) xtc_probability: Option<f32>,
    pub(crate) xtc_threshold: Option<f32>,
    #[serde(alias = "repetition_penalty")]
    pub(crate) repeat_penalty: Option<f32>,
    pub(crate) presence_penalty: Option<f32>,
    pub(crate) frequency_penalty: Option<f32>,
    /// Below 0 for all.
    pub(crate) repeat_last_n: Option<i64>,
    pub(crate) dry_multiplier: Option<f32>,
    pub(crate) dry_base: Option<f32>,
    pub(crate) dry_allowed_length: Option<usize>,
    /// Below 0 for all.
    pub(crate) dry_penalty_last_n: Option<i64>,
    pub(crate) dry_sequence_breakers: Option<Vec<String>>,
    /// Below 0 for another each time.
    pub(crate) seed: Option<i64>,
    /// An object of ids as text, or a list of pairs.
    pub(crate) logit_bias: Option<Value>,
    pub(crate) min_tokens: Option<usize>,
    pub(crate) ignore_eos: Option<bool>,
}

impl SamplingAsk {
    /// What counts of it.
    pub(super) fn counting(self, which: ClientSampling) -> Self {
        match which {
            ClientSampling::Kept => self,
            ClientSampling::NotGreedy => Self {
                temperature: self.temperature.filter(|&temperature| temperature != 0.0),
                ..self
            },
            ClientSampling::Ignored => Self {
                preset: self.preset,
                seed: self.seed,
                logit_bias: self.logit_bias,
                min_tokens: self.min_tokens,
                ignore_eos: self.ignore_eos,
                ..Self::default()
            },
        }
    }

    /// The settings of an answer: the request's values, then those of the preset it names, then
    /// `base`, which is the server's for the answer's mode.
    ///
    /// # Errors
    /// When a value cannot be used.
    pub(super) fn over(
        self,
        base: &SamplerSettings,
        logprobs: Option<usize>,
        tokenizer: &Tokenizer,
    ) -> Result<SamplerSettings, ApiError> {
        let mut base = base.clone();
        if let Some(name) = &self.preset {
            let named = preset(name).ok_or_else(|| {
                let names: Vec<&str> = engine::sampling::PRESETS.iter().map(|p| p.name).collect();
                ApiError::bad(
                    "preset",
                    format!("no preset is called {name:?}; there are {names:?}"),
                )
            })?;
            base = named.over(base);
        }
        let settings = SamplerSettings {
            samplers: match &self.samplers {
                Some(names) => stages(names)?,
                None => base.samplers.clone(),
            },
            temperature: self.temperature.unwrap_or(base.temperature),
            temperature_range: self.dynatemp_range.unwrap_or(base.temperature_range),
            temperature_exponent: self.dynatemp_exponent.unwrap_or(base.temperature_exponent),
            top_k: self.top_k.map_or(base.top_k, |k| k.max(0) as usize),
            top_p: self.top_p.unwrap_or(base.top_p),
            min_p: self.min_p.unwrap_or(base.min_p),
            typical_p: self.typical_p.unwrap_or(base.typical_p),
            top_n_sigma: self.top_n_sigma.unwrap_or(base.top_n_sigma),
            xtc: Xtc {
                probability: self.xtc_probability.unwrap_or(base.xtc.probability),
                threshold: self.xtc_threshold.unwrap_or(base.xtc.threshold),
            },
            repeat_penalty: self.repeat_penalty.unwrap_or(base.repeat_penalty),
            presence_penalty: self.presence_penalty.unwrap_or(base.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(base.frequency_penalty),
            penalty_window: window(self.repeat_last_n, base.penalty_window),
            dry: self.dry(&base.dry, tokenizer)?,
            logit_bias: match &self.logit_bias {
                Some(bias) => biases(bias)?,
                None => base.logit_bias.clone(),
            },
            min_tokens: self.min_tokens.unwrap_or(base.min_tokens),
            ignore_eos: self.ignore_eos.unwrap_or(base.ignore_eos),
            logprobs: logprobs.map(|top| Logprobs {
                top,
                of: LogprobsOf::Model,
            }),
            seed: match self.seed {
                Some(seed) if seed >= 0 => seed as u64,
                Some(_) => random::number(),
                None => base.seed,
            },
        };
        settings
            .validate()
            .map_err(|error| ApiError::bad(error.setting(), error.to_string()))?;
        Ok(settings)
    }

    fn dry(&self, base: &Dry, tokenizer: &Tokenizer) -> Result<Dry, ApiError> {
        let texts = self.dry_sequence_breakers.as_deref().unwrap_or_default();
        if texts.len() > MOST_BREAKERS || texts.iter().any(|text| text.len() > LONGEST_BREAKER) {
            let why = format!(
                "there are {} breakers; expected at most {MOST_BREAKERS}, of at most \
                 {LONGEST_BREAKER} bytes each",
                texts.len()
            );
            return Err(ApiError::bad("dry_sequence_breakers", why));
        }
        let multiplier = self.dry_multiplier.unwrap_or(base.multiplier);
        // Looking for breakers goes through the whole vocabulary.
        let breakers = match &self.dry_sequence_breakers {
            _ if multiplier == 0.0 => Arc::clone(&base.breakers),
            Some(texts) => Arc::new(DryBreakers::of_texts(tokenizer, texts)),
            None if base.multiplier == 0.0 => Arc::new(DryBreakers::usual(tokenizer)),
            None => Arc::clone(&base.breakers),
        };
        Ok(Dry {
            multiplier,
            base: self.dry_base.unwrap_or(base.base),
            allowed_length: self.dry_allowed_length.unwrap_or(base.allowed_length),
            window: window(self.dry_penalty_last_n, base.window),
            breakers,
        })
    }
}

fn window(asked: Option<i64>, base: Option<usize>) -> Option<usize> {
    match asked {
        None => base,
        Some(tokens) => usize::try_from(tokens).ok(),
    }
}

fn stages(names: &[String]) -> Result<Vec<Stage>, ApiError> {
    let stage = |name: &String| {
        name.parse::<Stage>()
            .map_err(|error| ApiError::bad("samplers", error.to_string()))
    };
    names.iter().map(stage).collect()
}

/// `{"123": -5}` or `[[123, -5], [7, false]]`, where `false` forbids a token. Of several for a token the last
/// counts, so that there are no more than tokens.
fn biases(bias: &Value) -> Result<Vec<(u32, f32)>, ApiError> {
    let bad = || {
        let why = "expected an object such as {\"123\": -5}, or a list of pairs [id, bias]";
        ApiError::bad("logit_bias", why)
    };
    let value = |value: &Value| match value {
        Value::Bool(false) => Some(f32::NEG_INFINITY),
        other => other.as_f64().map(|bias| bias as f32),
    };
    match bias {
        Value::Null => Ok(Vec::new()),
        Value::Object(entries) => entries
            .iter()
            .map(|(id, bias)| Some((id.parse().ok()?, value(bias)?)))
            .collect::<Option<BTreeMap<_, _>>>()
            .map(Vec::from_iter)
            .ok_or_else(bad),
        Value::Array(pairs) => pairs
            .iter()
            .map(|pair| {
                let id = pair.get(0)?.as_u64()?;
                Some((u32::try_from(id).ok()?, value(pair.get(1)?)?))
            })
            .collect::<Option<BTreeMap<_, _>>>()
            .map(Vec::from_iter)
            .ok_or_else(bad),
        _ => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_profile_decides_what_counts_of_a_request() {
        let asked = |temperature: f32| SamplingAsk {
            temperature: Some(temperature),
            top_p: Some(0.5),
            seed: Some(7),
            ..SamplingAsk::default()
        };
        let check = |which, temperature, want: (Option<f32>, Option<f32>)| {
            let counts = asked(temperature).counting(which);
            assert_eq!((counts.temperature, counts.top_p), want, "{which:?}");
            assert_eq!(counts.seed, Some(7));
        };
        check(ClientSampling::Kept, 0.0, (Some(0.0), Some(0.5)));
        check(ClientSampling::NotGreedy, 0.0, (None, Some(0.5)));
        check(ClientSampling::NotGreedy, 0.3, (Some(0.3), Some(0.5)));
        check(ClientSampling::Ignored, 0.3, (None, None));
    }

    #[test]
    fn biases_have_two_forms() {
        let check = |bias: Value, want: Option<Vec<(u32, f32)>>| {
            assert_eq!(biases(&bias).ok(), want, "{bias}");
        };
        check(
            json!({"12": -5, "3": 0.5}),
            Some(vec![(3, 0.5), (12, -5.0)]),
        );
        check(
            json!([[12, 1], [3, false], [12, -5]]),
            Some(vec![(3, f32::NEG_INFINITY), (12, -5.0)]),
        );
        check(json!({}), Some(Vec::new()));
        check(json!({"a": 1}), None);
        check(json!([[1]]), None);
        check(json!("x"), None);
    }
}
