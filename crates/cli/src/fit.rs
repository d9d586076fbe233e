//! Whether a model fits into memory, asked before any of it is taken.

use clap::{Args, ValueEnum};
use engine::plan::{Host, PlanError, Wish, advise, plan_on_cpu};
use engine::{EngineSettings, OpenedModel};
use formats::Ram;

use crate::plan::NoPlan;
use crate::size;

/// What happens where memory is short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub(crate) struct FitArgs {
    /// Refuse to load what does not fit into memory, and say what would; `off` loads it anyway: weights are
    /// then read from the disk as they are used [short: -fit].
    #[arg(long, value_name = "WHETHER", default_value = "on", num_args = 0..=1,
          default_missing_value = "on")]
    fit: Whether,
    /// RAM that a load leaves to others, in MiB or with a unit [short: -fitt].
    #[arg(long, value_name = "SIZE", default_value = "512", value_parser = size::bytes, alias = "fitt")]
    fit_target: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Whether {
    On,
    Off,
}

/// The largest steps of a scheduler, which activations have room for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Steps {
    /// Tokens of a step.
    pub(crate) tokens: usize,
    /// And of one prompt in it.
    pub(crate) of_a_prompt: usize,
}

impl Default for Steps {
    fn default() -> Self {
        let Wish {
            step_tokens,
            chunk_tokens,
            ..
        } = Wish::default();
        Self {
            tokens: step_tokens,
            of_a_prompt: chunk_tokens,
        }
    }
}

impl FitArgs {
    /// Whether loads are checked.
    pub(crate) fn is_on(self) -> bool {
        self.fit == Whether::On
    }

    /// What a load asks of memory.
    pub(crate) fn wish(self, settings: &EngineSettings, steps: Steps) -> Wish {
        Wish {
            step_tokens: steps.tokens,
            chunk_tokens: steps.of_a_prompt,
            context: settings.total_tokens.max(settings.context),
            kv: settings.kv,
            sequences: settings.sequences,
            ram_reserve: self.fit_target,
            // It grows as far as there is room.
            prompt_cache: 0,
            ..Wish::default()
        }
    }

    /// Refuses a load that does not fit into what this process can have of RAM.
    ///
    /// # Errors
    /// If so, with what would fit.
    pub(crate) fn check(
        self,
        opened: &OpenedModel,
        settings: &EngineSettings,
        steps: Steps,
    ) -> anyhow::Result<()> {
        let memory = Ram::look().filter(|_| self.is_on());
        match memory {
            Some(memory) => self.check_in(opened, (settings, steps), memory),
            None => Ok(()),
        }
    }

    fn check_in(
        self,
        opened: &OpenedModel,
        (settings, steps): (&EngineSettings, Steps),
        memory: Ram,
    ) -> anyhow::Result<()> {
        // What cannot be taken apart is refused with better words when it is loaded.
        let Ok(anatomy) = opened.anatomy() else {
            return Ok(());
        };
        let wish = self.wish(settings, steps);
        let host = Host {
            name: String::new(),
            threads: 1,
            total: memory.total(),
            free: memory.free,
            // Nothing is compared by its speed where there is one place.
            bandwidth: 1.0,
            macs: 1.0,
        };
        match plan_on_cpu(&anatomy, &host, &wish) {
            Err(error @ PlanError::DoesNotFit { .. }) => {
                let mut advice = advise(&anatomy, &wish, &[], |anatomy, wish| {
                    plan_on_cpu(anatomy, &host, wish).is_ok()
                });
                let instead = "a smaller quantisation (tidemill plan --all lists them)";
                advice.instead.push(instead.to_owned());
                advice
                    .instead
                    .push("--fit off, which reads weights from the disk".to_owned());
                let name = opened.path.display().to_string();
                Err(NoPlan {
                    name,
                    tried: "",
                    why: error,
                    advice,
                }
                .into())
            }
            // Types that do not fit the model are refused when it is loaded.
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(free: u64, context: usize) -> Result<(), String> {
        let opened = crate::embedded::open().unwrap();
        let args = FitArgs {
            fit: Whether::On,
            fit_target: 64 << 20,
        };
        let memory = Ram {
            machine: 1 << 40,
            group: None,
            free,
        };
        let settings = EngineSettings::single(context);
        let outcome = args.check_in(&opened, (&settings, Steps::default()), memory);
        outcome.map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn what_fits_is_let_through_and_what_does_not_is_told_what_would() {
        assert_eq!(check(800 << 20, 4096), Ok(()));
        // A token takes 512 bytes in its attention layer and in that of the head: a million, 1 GiB.
        let error = check(800 << 20, 1 << 20).unwrap_err();
        for part in ["does not fit", "-ctk q8_0", "a context of", "--fit off"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        let error = check(80 << 20, 64).unwrap_err();
        assert!(!error.contains("a context of"), "{error}");
    }
}
