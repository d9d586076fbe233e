//! A small vocabulary of our own, trained when a test needs it.

use std::sync::OnceLock;

use tidemill_text::{Tokenizer, Vocabulary};
use tokenizers::decoders::byte_level::ByteLevel as ByteLevelDecoder;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer as Reference};

/// The family's pattern, as its `tokenizer.json` has it.
pub(crate) const QWEN35_PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const TRAINING_TEXT: &str = "The mill stands where the river meets the sea. Twice a day the tide \
    fills the pond, and twice a day the miller opens the gate and the wheel begins to turn. \
    Größere Mühlen mahlen schneller; die kleine mahlt feiner. Мельница стоит у моря, где прилив \
    встречает реку. 潮の満ち引きで水車が回る。 fn main() { println!(\"{}\", 1 + 2); }\n\n    return \
    value;\n\t\tif x == 10 { y += 1; } // don't, it's, we'll, I'd, you've\n\n\n";

const CONTROL: [&str; 4] = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|image_pad|>",
];
const VISIBLE: [&str; 4] = ["<think>", "</think>", "<tool_call>", "</tool_call>"];

/// The reference implementation with a vocabulary of some 400 tokens.
pub(crate) fn reference() -> &'static Reference {
    static REFERENCE: OnceLock<Reference> = OnceLock::new();
    REFERENCE.get_or_init(|| {
        let pattern = SplitPattern::Regex(QWEN35_PATTERN.to_owned());
        let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false).unwrap();
        let mut tokenizer = Reference::new(BPE::default());
        tokenizer.with_normalizer(Some(NFC)).unwrap();
        tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![
            PreTokenizerWrapper::Split(split),
            PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, false, false)),
        ])));
        tokenizer.with_decoder(Some(ByteLevelDecoder::default()));
        let mut trainer: TrainerWrapper = BpeTrainer::builder()
            .vocab_size(400)
            .show_progress(false)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build()
            .into();
        tokenizer
            .train(&mut trainer, [TRAINING_TEXT, TRAINING_TEXT].into_iter())
            .unwrap();
        let added = CONTROL.map(|text| (text, true)).into_iter();
        let added = added.chain(VISIBLE.map(|text| (text, false)));
        let added = added.map(|(text, special)| AddedToken::from(text, special).normalized(false));
        tokenizer.add_tokens(added).unwrap();
        tokenizer
    })
}

/// The same vocabulary as we read it.
pub(crate) fn vocabulary() -> Vocabulary {
    let json = reference().to_string(false).unwrap();
    Vocabulary::from_tokenizer_json(&json).unwrap()
}

/// Our tokenizer with this vocabulary.
pub(crate) fn tokenizer() -> &'static Tokenizer {
    static TOKENIZER: OnceLock<Tokenizer> = OnceLock::new();
    TOKENIZER.get_or_init(|| Tokenizer::new(&vocabulary()).unwrap())
}
