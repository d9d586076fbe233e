//! Vocabularies and text: whatever the bytes, each is taken or refused, and text survives.
//!
//! The first byte says what the rest is: `j` a tokenizer.json, `d` bytes to decode, otherwise text
//! to encode.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use text::tokenizer::{PreTokenizer, SpecialIds};
use text::{Decode, SpecialTokens, StreamDecoder, TokenId, TokenKind, Tokenizer, Vocabulary};

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    match first {
        b'j' => read_json(&String::from_utf8_lossy(rest)),
        b'd' => decode(rest),
        _ => encode(&String::from_utf8_lossy(rest)),
    }
});

fn read_json(json: &str) {
    let Ok(vocabulary) = Vocabulary::from_tokenizer_json(json) else {
        return;
    };
    if let Ok(tokenizer) = Tokenizer::new(&vocabulary)
        && let Ok(tokens) = tokenizer.encode(json, SpecialTokens::Parse)
    {
        tokenizer
            .decode(&tokens, Decode::Everything)
            .expect("the tokenizer's own tokens are in its vocabulary");
    }
}

fn encode(text: &str) {
    for special in [SpecialTokens::Parse, SpecialTokens::AsText] {
        let tokens = tokenizer()
            .encode(text, special)
            .expect("all bytes have tokens");
        let decoded = tokenizer()
            .decode(&tokens, Decode::Everything)
            .expect("own tokens");
        assert_eq!(decoded, text);
    }
}

/// Bytes are ids here, so this streams bytes that need not be UTF-8.
fn decode(bytes: &[u8]) {
    let tokens: Vec<TokenId> = bytes.iter().copied().map(TokenId::from).collect();
    let mut stream = StreamDecoder::new(Decode::SkipControl);
    let mut text = String::new();
    for &token in &tokens {
        text.push_str(&stream.push(tokenizer(), token).expect("ids below 256"));
    }
    text.push_str(&stream.finish());
    assert_eq!(
        text,
        tokenizer()
            .decode(&tokens, Decode::SkipControl)
            .expect("as above")
    );
    assert_eq!(text, String::from_utf8_lossy(bytes));
}

/// A vocabulary whose first 256 tokens are the bytes in order.
fn tokenizer() -> &'static Tokenizer {
    static TOKENIZER: OnceLock<Tokenizer> = OnceLock::new();
    TOKENIZER.get_or_init(|| {
        let mut substitutes = (0x100..).filter_map(char::from_u32);
        let mut tokens: Vec<String> = (0..=255_u8)
            .map(|byte| match byte {
                b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => char::from(byte).to_string(),
                _ => substitutes.next().expect("there are enough").to_string(),
            })
            .collect();
        let mut kinds = vec![TokenKind::Normal; tokens.len()];
        tokens.extend(["ab", "abab", "<think>", "<|im_end|>"].map(String::from));
        kinds.extend([TokenKind::Normal, TokenKind::Normal]);
        kinds.extend([TokenKind::UserDefined, TokenKind::Control]);
        let vocabulary = Vocabulary {
            tokens,
            kinds,
            merges: vec!["a b".to_owned(), "ab ab".to_owned()],
            pre_tokenizer: PreTokenizer::Qwen35,
            normalize_nfc: false,
            special: SpecialIds::default(),
        };
        Tokenizer::new(&vocabulary).expect("the vocabulary is sound")
    })
}
