//! The model cards' values, as data.

use super::SamplerSettings;

/// Values that a model card recommends for a kind of task.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Preset {
    /// What users call it.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// Whether it is meant for answers that begin with thinking.
    pub is_thinking: bool,
    /// See [`SamplerSettings::temperature`].
    pub temperature: f32,
    /// See [`SamplerSettings::top_p`].
    pub top_p: f32,
    /// See [`SamplerSettings::top_k`].
    pub top_k: usize,
    /// See [`SamplerSettings::min_p`].
    pub min_p: f32,
    /// See [`SamplerSettings::presence_penalty`].
    pub presence_penalty: f32,
    /// See [`SamplerSettings::repeat_penalty`].
    pub repeat_penalty: f32,
}

/// The cards of Qwen3.5 (35B-A3B and its sisters, 2026). The first of each mode is the one to take
/// when nobody says what the task is.
pub const PRESETS: [Preset; 4] = [
    Preset {
        name: "thinking",
        about: "thinking, general tasks",
        is_thinking: true,
        temperature: 1.0,
        top_p: 0.95,
        top_k: 20,
        min_p: 0.0,
        presence_penalty: 1.5,
        repeat_penalty: 1.0,
    },
    Preset {
        name: "coding",
        about: "thinking, precise coding",
        is_thinking: true,
        temperature: 0.6,
        top_p: 0.95,
        top_k: 20,
        min_p: 0.0,
        presence_penalty: 0.0,
        repeat_penalty: 1.0,
    },
    Preset {
        name: "instruct",
        about: "not thinking, general tasks",
        is_thinking: false,
        temperature: 0.7,
        top_p: 0.8,
        top_k: 20,
        min_p: 0.0,
        presence_penalty: 1.5,
        repeat_penalty: 1.0,
    },
    Preset {
        name: "reasoning",
        about: "not thinking, reasoning tasks",
        is_thinking: false,
        temperature: 1.0,
        top_p: 1.0,
        top_k: 40,
        min_p: 0.0,
        presence_penalty: 2.0,
        repeat_penalty: 1.0,
    },
];

/// The preset of this name.
pub fn preset(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

impl Preset {
    /// The preset for an answer of which only the mode is known.
    pub fn for_mode(is_thinking: bool) -> &'static Preset {
        let [thinking, _, instruct, _] = &PRESETS;
        if is_thinking { thinking } else { instruct }
    }

    /// The settings with the preset's values in place of theirs.
    #[must_use]
    pub fn over(&self, settings: SamplerSettings) -> SamplerSettings {
        SamplerSettings {
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            min_p: self.min_p,
            presence_penalty: self.presence_penalty,
            repeat_penalty: self.repeat_penalty,
            ..settings
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_sound_and_found_by_name() {
        for listed in &PRESETS {
            assert_eq!(preset(listed.name), Some(listed));
            let settings = listed.over(SamplerSettings::default());
            assert_eq!(settings.validate(), Ok(()), "{}", listed.name);
        }
        assert_eq!(preset("none such"), None);
        for is_thinking in [true, false] {
            assert_eq!(Preset::for_mode(is_thinking).is_thinking, is_thinking);
        }
    }
}
