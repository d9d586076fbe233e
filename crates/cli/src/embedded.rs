//! The tiny trained model inside the program.

use std::path::Path;

use engine::{OpenError, OpenedModel};
use formats::SharedBytes;
use formats::gguf::GgufFile;
use text::{TokenizerError, Vocabulary};

/// Made by `models/tiny/train.py` and `tidemill convert`; see `models/tiny/README.md`.
static TINY: &[u8] = include_bytes!("../../../models/tiny/tidemill-tiny.gguf");

/// What messages call it.
const NAME: &str = "built-in:tidemill-tiny";

/// Opens it.
///
/// # Errors
/// Never with the file that the project ships.
pub(crate) fn open() -> Result<OpenedModel, OpenError> {
    OpenedModel::from_bytes(NAME, SharedBytes::from_static(TINY))
}

/// Its vocabulary.
///
/// # Errors
/// Never with the file that the project ships.
pub(crate) fn vocabulary() -> Result<Vocabulary, TokenizerError> {
    let file = GgufFile::from_bytes(NAME, SharedBytes::from_static(TINY))?;
    Vocabulary::from_gguf(file.metadata())
}

/// Whether an opened model is the one inside the program.
pub(crate) fn is_embedded(opened: &OpenedModel) -> bool {
    opened.path == Path::new(NAME)
}
