//! Encodes the published test strings with a real vocabulary of the family, where it is at hand.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stderr, reason = "a skipped test says so")]

use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use formats::SharedBytes;
use formats::gguf::GgufFile;
use tidemill_text::tokenizer::Decode;
use tidemill_text::{SpecialTokens, Tokenizer, Vocabulary};

fn data(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data")
        .join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: {} is not here", path.display());
    None
}

fn published() -> Option<Vocabulary> {
    let file = std::fs::File::open(data("vocab-qwen35.gguf.gz")?).unwrap();
    let mut bytes = Vec::new();
    GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    let gguf = GgufFile::from_bytes("vocab-qwen35.gguf", SharedBytes::from_vec(bytes)).unwrap();
    Some(Vocabulary::from_gguf(gguf.metadata()).unwrap())
}

/// The expectations come from a program that leaves out the normalisation to NFC which the
/// family's own tokenizer does, so they are compared without it.
#[test]
fn published_strings_have_the_published_ids() {
    let Some(mut vocabulary) = published() else {
        return;
    };
    vocabulary.normalize_nfc = false;
    let tokenizer = Tokenizer::new(&vocabulary).unwrap();
    let read = |name| std::fs::read_to_string(data(name).unwrap()).unwrap();
    let (inputs, outputs) = (read("vocab-qwen35.inp"), read("vocab-qwen35.out"));
    let inputs: Vec<_> = inputs.split("\n__ggml_vocab_test__\n").collect();
    let outputs: Vec<Vec<u32>> = outputs
        .lines()
        .map(|line| {
            line.split_whitespace()
                .map(|id| id.parse().unwrap())
                .collect()
        })
        .collect();
    assert_eq!(inputs.len(), outputs.len() + 1, "the last input is empty");
    for (text, want) in inputs.iter().zip(&outputs) {
        let tokens = tokenizer.encode(text, SpecialTokens::AsText).unwrap();
        assert_eq!(&tokens, want, "{text:?}");
        let parsed = tokenizer.encode(text, SpecialTokens::Parse).unwrap();
        assert_eq!(&parsed, want, "{text:?}");
        assert_eq!(&tokenizer.decode(want, Decode::Everything).unwrap(), text);
    }
    eprintln!("{} strings equal", outputs.len());
}
