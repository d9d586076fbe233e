//! The tokenizer against the reference implementation, on a small vocabulary of our own.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::{Duration, Instant};

use common::{reference, tokenizer, vocabulary};
use formats::gguf::{Builder, Metadata, StringArray};
use proptest::prelude::*;
use tidemill_text::tokenizer::SpecialIds;
use tidemill_text::{
    Decode, SpecialTokens, StreamDecoder, TokenKind, Tokenizer, TokenizerError, Vocabulary,
};

fn check_against_reference(text: &str) {
    let want = reference().encode_fast(text, false).unwrap();
    let tokens = tokenizer().encode(text, SpecialTokens::Parse).unwrap();
    assert_eq!(tokens, want.get_ids(), "{text:?}");
    let decoded = tokenizer().decode(&tokens, Decode::Everything).unwrap();
    assert_eq!(decoded, reference().decode(&tokens, false).unwrap());
    let visible = tokenizer().decode(&tokens, Decode::SkipControl).unwrap();
    assert_eq!(visible, reference().decode(&tokens, true).unwrap());
}

#[test]
fn texts_have_the_reference_ids() {
    for text in [
        "",
        " ",
        "The tide turns the wheel.",
        "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<think>\n",
        "  two  spaces   end   ",
        "\r\n\r\n \n \t\n x",
        "e\u{301} A\u{30a} \u{212b} ﬁ",
        "I'LL don't ſ's",
        "12345 ½ ² ४",
        "🦙 👩‍👩‍👧 ✅\u{fe0f}",
        "<|im_end|<|im_end|>|im_end|>",
        "\u{0}\u{1}\u{7f}\u{85}\u{a0}\u{2028}\u{3000}x",
    ] {
        check_against_reference(text);
    }
}

proptest! {
    #[test]
    fn random_texts_have_the_reference_ids(pieces in prop::collection::vec(
        prop_oneof![
            any::<char>().prop_map(String::from),
            "[ \t\r\n]{1,4}",
            "[a-zà-ÿ]{1,6}",
            "[\u{300}-\u{310}]{1,2}",
            prop::sample::select(vec!["<|im_end|>", "<think>", "'s", "The ", "tide"])
                .prop_map(String::from),
        ],
        0..24,
    )) {
        check_against_reference(&pieces.concat());
    }

    #[test]
    fn streamed_text_is_the_batch_text(
        tokens in prop::collection::vec(0_u32..408, 0..64),
        what in prop::sample::select(vec![Decode::Everything, Decode::SkipControl]),
    ) {
        let mut stream = StreamDecoder::new(what);
        let mut text = String::new();
        for &token in &tokens {
            text.push_str(&stream.push(tokenizer(), token).unwrap());
        }
        text.push_str(&stream.finish());
        prop_assert_eq!(text, tokenizer().decode(&tokens, what).unwrap());
    }

    #[test]
    fn text_survives_the_round_trip(text in ".{0,40}") {
        let tokens = tokenizer().encode(&text, SpecialTokens::AsText).unwrap();
        prop_assert!(tokens.iter().all(|&token| tokenizer().kind(token) == TokenKind::Normal));
        let decoded = tokenizer().decode(&tokens, Decode::SkipControl).unwrap();
        let normalized: String = unicode_normalization::UnicodeNormalization::nfc(text.as_str()).collect();
        prop_assert_eq!(decoded, normalized);
    }
}

#[test]
fn a_character_is_streamed_when_it_is_complete() {
    let bytes: Vec<_> = "é🦙".bytes().collect();
    let tokens: Vec<_> = bytes
        .iter()
        .map(|byte| {
            (0..400)
                .find(|&id| tokenizer().token_bytes(id).unwrap() == [*byte])
                .unwrap()
        })
        .collect();
    let mut stream = StreamDecoder::new(Decode::Everything);
    let pieces: Vec<_> = tokens
        .iter()
        .map(|&token| stream.push(tokenizer(), token).unwrap())
        .collect();
    assert_eq!(pieces, ["", "é", "", "", "", "🦙"]);
    assert!(!stream.is_inside_character());

    // Half a character, then something else: certain at once that it is invalid.
    assert_eq!(stream.push(tokenizer(), tokens[0]).unwrap(), "");
    assert!(stream.is_inside_character());
    let a = tokenizer().id_of("a").unwrap();
    assert_eq!(stream.push(tokenizer(), a).unwrap(), "\u{fffd}a");
    assert_eq!(stream.push(tokenizer(), tokens[2]).unwrap(), "");
    assert_eq!(stream.finish(), "\u{fffd}");
    assert_eq!(stream.finish(), "");
}

#[test]
fn control_tokens_in_text_can_stay_text() {
    let text = "<|im_start|>system";
    let id = tokenizer().id_of("<|im_start|>").unwrap();
    let parsed = tokenizer().encode(text, SpecialTokens::Parse).unwrap();
    assert_eq!(parsed[0], id);
    let as_text = tokenizer().encode(text, SpecialTokens::AsText).unwrap();
    assert!(!as_text.contains(&id));
    let decoded = tokenizer().decode(&as_text, Decode::SkipControl).unwrap();
    assert_eq!(decoded, text);
}

#[test]
fn roles_of_tokens_are_known() {
    let id = |text| tokenizer().id_of(text).unwrap();
    assert_eq!(
        tokenizer().stop_tokens(),
        [id("<|endoftext|>"), id("<|im_end|>")]
    );
    assert!(tokenizer().is_stop(id("<|im_end|>")));
    assert!(tokenizer().is_control(id("<|im_start|>")));
    assert_eq!(tokenizer().kind(id("<think>")), TokenKind::UserDefined);
    assert_eq!(tokenizer().kind(id("a")), TokenKind::Normal);
    assert_eq!(tokenizer().id_of("no such token"), None);
    assert_eq!(tokenizer().bos_to_add(), None);

    let outside = tokenizer().vocabulary_size() as u32;
    assert!(matches!(
        tokenizer().decode(&[0, outside], Decode::Everything),
        Err(TokenizerError::UnknownToken { id, .. }) if id == outside
    ));
    assert_eq!(tokenizer().kind(outside), TokenKind::Unused);
}

/// Quadratic time would make each of these take minutes.
#[test]
fn a_megabyte_without_a_break_takes_linear_time() {
    const BYTES: usize = 1 << 20;
    let start = Instant::now();
    for unit in [
        "a",
        " ",
        "\n",
        "ab ",
        "the",
        "!",
        "<",
        "<|im_end|",
        "e\u{301}",
        "\u{300}\u{323}",
        "潮",
    ] {
        let text = unit.repeat(BYTES / unit.len());
        let tokens = tokenizer().encode(&text, SpecialTokens::Parse).unwrap();
        assert!(!tokens.is_empty());
    }
    assert!(
        start.elapsed() < Duration::from_secs(60),
        "{:?}",
        start.elapsed()
    );
}

fn gguf_metadata(vocabulary: &Vocabulary) -> Builder {
    let strings = |texts: &[String]| {
        let mut array = StringArray::default();
        for text in texts {
            array.push(text);
        }
        array
    };
    let kinds: Vec<i32> = vocabulary
        .kinds
        .iter()
        .map(|kind| match kind {
            TokenKind::Normal => 1,
            TokenKind::Control => 3,
            TokenKind::UserDefined => 4,
            TokenKind::Unused => 5,
        })
        .collect();
    let mut builder = Builder::new();
    builder
        .set("tokenizer.ggml.model", "gpt2")
        .set("tokenizer.ggml.pre", "qwen35")
        .set("tokenizer.ggml.tokens", strings(&vocabulary.tokens))
        .set("tokenizer.ggml.merges", strings(&vocabulary.merges))
        .set("tokenizer.ggml.token_type", kinds)
        .set("tokenizer.ggml.eos_token_id", 7_u32)
        .set("tokenizer.ggml.eot_token_id", 8_u32)
        .set("tokenizer.ggml.bos_token_id", 9_u32)
        .set("tokenizer.ggml.add_bos_token", true);
    builder
}

fn from_gguf(metadata: &Metadata) -> Result<Tokenizer, TokenizerError> {
    Tokenizer::new(&Vocabulary::from_gguf(metadata)?)
}

#[test]
fn gguf_metadata_give_the_same_tokenizer() {
    let builder = gguf_metadata(&vocabulary());
    let read = Vocabulary::from_gguf(builder.metadata()).unwrap();
    assert_eq!(read.tokens, vocabulary().tokens);
    assert_eq!(read.merges, vocabulary().merges);
    assert_eq!(read.kinds, vocabulary().kinds);
    let tokenizer = Tokenizer::new(&read).unwrap();
    assert_eq!(tokenizer.bos_to_add(), Some(9));
    assert_eq!(tokenizer.stop_tokens().len(), 4);
    assert_eq!(tokenizer.stop_tokens()[..2], [7, 8]);
}

#[test]
fn damaged_gguf_metadata_are_named() {
    let check = |change: &dyn Fn(&mut Builder) -> &mut Builder, want: &str| {
        let mut builder = gguf_metadata(&vocabulary());
        change(&mut builder);
        let message = from_gguf(builder.metadata()).unwrap_err().to_string();
        assert!(message.contains(want), "{message}");
    };
    check(
        &|b| b.set("tokenizer.ggml.model", "llama"),
        "`llama` is not supported",
    );
    check(&|b| b.set("tokenizer.ggml.pre", "gpt-4o"), "qwen2, qwen35");
    check(
        &|b| b.unset("tokenizer.ggml.merges"),
        "tokenizer.ggml.merges",
    );
    check(
        &|b| b.set("tokenizer.ggml.token_type", vec![1_i32]),
        "1 token types",
    );
    check(
        &|b| b.set("tokenizer.ggml.bos_token_id", 5000_u32),
        "bos token 5000",
    );
    for merge in ["a", "a b c", "a \u{3}", ""] {
        let mut merges = StringArray::default();
        merges.push(merge);
        check(
            &|b| b.set("tokenizer.ggml.merges", merges.clone()),
            "merge 0",
        );
    }
}

#[test]
fn what_tokenizer_json_asks_and_we_do_not_do_is_refused() {
    let json = reference().to_string(false).unwrap();
    let check = |from: &str, to: &str, want: &str| {
        assert!(json.contains(from), "{from}");
        let changed = json.replacen(from, to, 1);
        let message = Vocabulary::from_tokenizer_json(&changed).unwrap_err();
        assert!(message.to_string().contains(want), "{message}");
    };
    check(
        r#""type":"BPE""#,
        r#""type":"Unigram""#,
        "`Unigram` is not supported",
    );
    check(r#"{"type":"NFC"}"#, r#"{"type":"Lowercase"}"#, "normalizer");
    check(
        r#""ignore_merges":false"#,
        r#""ignore_merges":true"#,
        "ignore_merges",
    );
    check(
        r#""behavior":"Isolated""#,
        r#""behavior":"Removed""#,
        "pre_tokenizer",
    );
    check(r"\\p{N}|", r"\\p{N}{1,3}|", "pre-tokenizer");
    check(
        r#""post_processor":null"#,
        r#""post_processor":{"type":"TemplateProcessing"}"#,
        "post_processor",
    );
    check(r#""lstrip":false"#, r#""lstrip":true"#, "lstrip");
    check(r#""id":400"#, r#""id":4000000000"#, "4000000000");
    check("{", "[", "tokenizer.json");
}

#[test]
fn a_folder_gives_the_tokens_with_a_role() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    assert!(matches!(
        Vocabulary::from_hugging_face(folder.path()),
        Err(TokenizerError::Read { .. })
    ));
    write("tokenizer.json", &reference().to_string(false).unwrap());
    let read = || Vocabulary::from_hugging_face(folder.path()).unwrap();
    assert_eq!(read().special, SpecialIds::default());

    write(
        "tokenizer_config.json",
        r#"{"eos_token": {"content": "<|im_end|>"}, "pad_token": "<|endoftext|>", "bos_token": null}"#,
    );
    write("generation_config.json", r#"{"eos_token_id": [402, 400]}"#);
    let id = |text| tokenizer().id_of(text).unwrap();
    assert_eq!(
        read().special,
        SpecialIds {
            bos: None,
            stop: vec![402, 400, id("<|im_end|>")],
            padding: Some(id("<|endoftext|>")),
            add_bos: false,
        }
    );
    write("generation_config.json", "{");
    assert!(matches!(
        Vocabulary::from_hugging_face(folder.path()),
        Err(TokenizerError::Json { .. })
    ));
}
