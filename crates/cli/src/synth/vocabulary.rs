//! A vocabulary that works, without being anybody's: the family's special tokens at their ids,
//! the 256 bytes, and merges of common letters.

use text::tokenizer::{PreTokenizer, SpecialIds};
use text::{TokenKind, Vocabulary};

/// In the order of their ids, which follow each other.
const SPECIAL: [(&str, TokenKind); 33] = {
    use TokenKind::{Control as C, UserDefined as U};
    [
        ("<|endoftext|>", C),
        ("<|im_start|>", C),
        ("<|im_end|>", C),
        ("<|object_ref_start|>", C),
        ("<|object_ref_end|>", C),
        ("<|box_start|>", C),
        ("<|box_end|>", C),
        ("<|quad_start|>", C),
        ("<|quad_end|>", C),
        ("<|vision_start|>", C),
        ("<|vision_end|>", C),
        ("<|vision_pad|>", C),
        ("<|image_pad|>", C),
        ("<|video_pad|>", C),
        ("<tool_call>", U),
        ("</tool_call>", U),
        ("<|fim_prefix|>", U),
        ("<|fim_middle|>", U),
        ("<|fim_suffix|>", U),
        ("<|fim_pad|>", U),
        ("<|repo_name|>", U),
        ("<|file_sep|>", U),
        ("<tool_response>", U),
        ("</tool_response>", U),
        ("<think>", U),
        ("</think>", U),
        ("<|audio_start|>", C),
        ("<|audio_end|>", C),
        ("<tts_pad>", C),
        ("<tts_text_bos>", C),
        ("<tts_text_eod>", C),
        ("<tts_text_bos_single>", C),
        ("<|audio_pad|>", C),
    ]
};

/// The rows that published models have behind their last token, where that matters.
const FIRST_SPECIAL: [(usize, usize); 2] = [(248_320, 248_044), (151_936, 151_643)];

/// Enough for English text to become a token per few letters.
const MOST_MERGES: usize = 20_000;

/// Makes the vocabulary of a model with `rows` rows in its embedding.
pub(super) fn generate(rows: usize, pre_tokenizer: PreTokenizer) -> Vocabulary {
    let first_special = FIRST_SPECIAL
        .iter()
        .find(|(known, _)| *known == rows)
        .map_or(rows - SPECIAL.len(), |&(_, first)| first);
    let mut tokens: Vec<String> = byte_letters().map(String::from).collect();
    let mut merges = Vec::new();
    for (left, right) in pairs().take(MOST_MERGES.min(first_special - tokens.len())) {
        merges.push(format!("{left} {right}"));
        tokens.push(left + &right);
    }
    let mut kinds = vec![TokenKind::Normal; tokens.len()];
    tokens.resize(first_special, String::new());
    kinds.resize(first_special, TokenKind::Unused);
    for (text, kind) in SPECIAL {
        tokens.push(text.to_owned());
        kinds.push(kind);
    }
    let id = |index: usize| (first_special + index) as u32;
    Vocabulary {
        tokens,
        kinds,
        merges,
        pre_tokenizer,
        normalize_nfc: true,
        special: SpecialIds {
            bos: None,
            stop: vec![id(2), id(0)],
            padding: Some(id(0)),
            add_bos: false,
        },
    }
}

/// How byte-level vocabularies spell the bytes 0 to 255: visible Latin-1 as it is, the others as
/// the characters from U+0100 on.
fn byte_letters() -> impl Iterator<Item = char> {
    let mut hidden = 0;
    (0..=255u8).map(move |byte| match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
        _ => {
            hidden += 1;
            char::from_u32(0xff + hidden).expect("just behind Latin-1")
        }
    })
}

/// Pairs to merge, each side of which is a byte or merged before: two letters, a space before
/// one or two letters, then twice two letters.
fn pairs() -> impl Iterator<Item = (String, String)> {
    // Most frequent first, so that a short list is a useful one.
    const LETTERS: &str = "etaoinshrdlucmfwypvbgkjqxz";
    const SPACE: char = '\u{120}';
    let letters = || LETTERS.chars().map(String::from);
    let two = move || letters().flat_map(move |a| letters().map(move |b| (a.clone(), b)));
    let joined = move || two().map(|(a, b)| a + &b);
    two()
        .chain(letters().map(|letter| (SPACE.to_string(), letter)))
        .chain(joined().map(|pair| (SPACE.to_string(), pair)))
        .chain(joined().flat_map(move |left| joined().map(move |right| (left.clone(), right))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use text::{SpecialTokens, Tokenizer};

    #[test]
    fn the_special_tokens_have_their_published_ids() {
        let check = |rows, pre_tokenizer, text: &str, id| {
            let vocabulary = generate(rows, pre_tokenizer);
            assert!(vocabulary.tokens.len() <= rows);
            let tokenizer = Tokenizer::new(&vocabulary).unwrap();
            assert_eq!(tokenizer.id_of(text), Some(id), "{text}");
        };
        check(248_320, PreTokenizer::Qwen35, "<|im_end|>", 248_046);
        check(248_320, PreTokenizer::Qwen35, "</think>", 248_069);
        check(248_320, PreTokenizer::Qwen35, "<|audio_pad|>", 248_076);
        check(151_936, PreTokenizer::Qwen2, "<|im_end|>", 151_645);
        check(151_936, PreTokenizer::Qwen2, "</think>", 151_668);
    }

    #[test]
    fn text_becomes_few_tokens_and_comes_back() {
        let tokenizer = Tokenizer::new(&generate(248_320, PreTokenizer::Qwen35)).unwrap();
        let text = "The quick brown fox: äöü 漢字 17 + 25?";
        let tokens = tokenizer.encode(text, SpecialTokens::AsText).unwrap();
        assert!(tokens.len() < text.len());
        let back = tokenizer
            .decode(&tokens, text::tokenizer::Decode::Everything)
            .unwrap();
        assert_eq!(back, text);
    }
}
