//! A GGUF file in the making: planned as a whole, then written tensor by tensor.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use formats::DType;
use formats::gguf::{Builder, Split, WriteError};
use indicatif::ProgressBar;
use model::Config;
use text::Vocabulary;

use super::layout::{self, Extras, Slot};
use super::{Mix, metadata, vocabulary};
use crate::exit::Failure;
use crate::{interrupt, output};

/// Anything that stops the writing.
pub(crate) type Stopped = Box<dyn std::error::Error + Send + Sync>;

/// A file to be.
pub(crate) struct File {
    builder: Builder,
    slots: Vec<Slot>,
    vocab_size: usize,
}

/// Counts what was written.
pub(crate) struct Report {
    bar: ProgressBar,
}

impl Report {
    /// More bytes were written.
    ///
    /// # Errors
    /// [`Failure::Interrupted`] after Ctrl-C.
    pub(crate) fn wrote(&self, bytes: usize) -> Result<(), Failure> {
        self.bar.inc(bytes as u64);
        interrupt::check()
    }
}

impl File {
    /// Plans header and tensors of a model.
    ///
    /// # Errors
    /// When a size is beyond what the format can hold.
    pub(crate) fn plan(
        config: &Config,
        mix: Mix,
        extras: Extras,
        name: &str,
    ) -> Result<Self, WriteError> {
        let mut builder = Builder::new();
        metadata::describe(&mut builder, config, mix, name);
        let slots = layout::slots(config, extras);
        for slot in &slots {
            let dtype = mix.dtype(slot, config, extras.head);
            builder.tensor(&slot.name(), dtype, &slot.shape)?;
        }
        Ok(Self {
            builder,
            slots,
            vocab_size: config.vocab_size,
        })
    }

    /// Gives the file a tokenizer.
    pub(crate) fn set_vocabulary(&mut self, vocabulary: &Vocabulary, template: Option<&str>) {
        vocabulary::describe(&mut self.builder, vocabulary, self.vocab_size, template);
    }

    /// Writes the file; `produce` makes the tensors' bytes, in order.
    ///
    /// # Errors
    /// When `produce` fails, the file cannot be written, or Ctrl-C was pressed; the target is
    /// then as it was before.
    pub(crate) fn write(
        &self,
        path: &Path,
        mut produce: impl FnMut(&Slot, DType, &mut dyn Write, &Report) -> Result<(), Stopped>,
    ) -> anyhow::Result<()> {
        let tensors = self.builder.tensors();
        let total: u64 = tensors.iter().map(|tensor| tensor.byte_len).sum();
        let report = Report {
            bar: output::byte_progress(total),
        };
        let started = Instant::now();
        let mut slots = self.slots.iter();
        self.builder.write(path, Split::Never, |planned, out| {
            report.bar.set_message(planned.name.clone());
            let slot = slots.next().ok_or("a tensor was not planned")?;
            produce(slot, planned.dtype, out, &report)
        })?;
        report.bar.finish_and_clear();
        let seconds = started.elapsed().as_secs_f64();
        output::note(&format!(
            "{} tensors, {} in {seconds:.1} s ({:.0} MB/s)",
            tensors.len(),
            output::bytes(total),
            total as f64 / 1e6 / seconds.max(1e-9),
        ));
        Ok(())
    }
}
