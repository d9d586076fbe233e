//! What holds for any output, however broken and however cut. The law itself is `check_law`.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use crate::shared::{all_options, check_law, events, options};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tidemill_text::ThinkingState::{Closed, Inside};
use tidemill_text::output::{CallMode, Ending, Output, OutputEvent, OutputParser};

/// What outputs are made of.
const PIECES: [&str; 52] = [
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<function=write>",
    "<function=list>",
    "<function=other>",
    "<function=",
    "</function>",
    "<parameter=path>",
    "<parameter=count>",
    "<parameter=options>",
    "<parameter=x>",
    "<parameter name=\"path\">",
    "</parameter>",
    "<",
    ">",
    "</",
    "<tool_",
    "call>",
    "</param",
    "\n",
    "\n\n",
    " ",
    "\t",
    "`",
    "```",
    "\n```\n",
    "~~~\n",
    "word",
    "é",
    "💧",
    "1",
    "-2.5",
    "true",
    "None",
    "null",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'",
    ",",
    ":",
    "\\",
    "\\u",
    "d83d",
    "{\"name\": \"write\", \"arguments\": {",
    "\"name\": \"list\"",
    "\"arguments\": ",
    "{\"a\": [1, \"b\"]}",
];

fn any_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        20 => prop::sample::select(PIECES.to_vec()).prop_map(String::from),
        1 => ".{0,4}",
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

fn any_ending() -> impl Strategy<Value = Ending> {
    prop::sample::select(vec![Ending::Stopped, Ending::Cut])
}

/// A value as models write them, that may speak of the tags around it.
fn any_value() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-z ]{0,12}",
        2 => "[-0-9.e]{1,6}",
        1 => prop::sample::select(vec!["true", "False", "None", "[1, 2]", "{\"a\": \"b\"}", ""])
            .prop_map(String::from),
        1 => any_text(),
    ]
}

fn any_call() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec!["write", "list", "other"]);
    let key = prop::sample::select(vec![
        "path", "content", "count", "ratio", "force", "options", "lines", "label", "extent", "any",
    ]);
    let parameters = prop::collection::vec((key, any_value()), 0..4);
    (name, parameters, any::<bool>()).prop_map(|(name, parameters, is_json)| {
        if is_json {
            let arguments: serde_json::Map<_, _> = parameters
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value.into()))
                .collect();
            let call = serde_json::json!({"name": name, "arguments": arguments});
            return format!("<tool_call>\n{call}\n</tool_call>");
        }
        let parameters: String = parameters
            .iter()
            .map(|(key, value)| format!("<parameter={key}>\n{value}\n</parameter>\n"))
            .collect();
        format!("<tool_call>\n<function={name}>\n{parameters}</function>\n</tool_call>")
    })
}

/// An output as models write them.
fn any_output() -> impl Strategy<Value = String> {
    let prose = "[A-Za-z,. \n]{0,40}";
    let part = prop_oneof![
        any_call(),
        prose.prop_map(|prose| format!("{prose}\n\n")),
        any_call().prop_map(|call| format!("```xml\n{call}\n```\n")),
    ];
    let parts = prop::collection::vec(part, 0..4);
    (prose, any::<bool>(), parts).prop_map(|(reasoning, is_closed, parts)| {
        let close = if is_closed { "\n</think>\n\n" } else { "" };
        format!("{reasoning}{close}{}", parts.join("\n"))
    })
}

/// What may happen to an output: characters are deleted or doubled, stretches change places or
/// come in from another output.
#[derive(Debug, Clone)]
enum Mutation {
    Delete(usize, usize),
    Double(usize, usize),
    Swap(usize, usize),
    Splice(usize, usize, String),
}

fn any_mutation() -> impl Strategy<Value = Mutation> {
    let at = || 0..400_usize;
    let length = || prop_oneof![1..4_usize, 1..60_usize];
    prop_oneof![
        (at(), length()).prop_map(|(at, length)| Mutation::Delete(at, length)),
        (at(), length()).prop_map(|(at, length)| Mutation::Double(at, length)),
        (at(), at()).prop_map(|(a, b)| Mutation::Swap(a, b)),
        (at(), length(), any_output()).prop_map(|(a, l, text)| Mutation::Splice(a, l, text)),
    ]
}

fn mutated(text: String, mutations: &[Mutation]) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    for mutation in mutations {
        let length = characters.len();
        if length == 0 {
            break;
        }
        let range = |at: usize, wanted: usize| {
            let at = at % length;
            at..(at + wanted).min(length)
        };
        match mutation {
            Mutation::Delete(at, wanted) => drop(characters.drain(range(*at, *wanted))),
            Mutation::Double(at, wanted) => {
                let copy = characters[range(*at, *wanted)].to_vec();
                let at = at % length;
                characters.splice(at..at, copy);
            }
            Mutation::Swap(a, b) => {
                let (a, b) = (a % length, b % length);
                let (a, b) = (a.min(b), a.max(b));
                characters[a..].rotate_left(b - a);
            }
            Mutation::Splice(at, wanted, other) => {
                let other: Vec<char> = other.chars().collect();
                let from = at % (other.len() + 1);
                let part = other[from..(from + wanted).min(other.len())].to_vec();
                let at = at % length;
                characters.splice(at..at, part);
            }
        }
    }
    characters.into_iter().collect()
}

/// The pieces of `text` between these places.
fn cut<'t>(text: &'t str, cuts: &[usize]) -> Vec<&'t str> {
    let mut places: Vec<usize> = cuts
        .iter()
        .map(|cut| cut % (text.len() + 1))
        .filter(|&place| text.is_char_boundary(place))
        .collect();
    places.sort_unstable();
    let ends = places.iter().copied().chain([text.len()]);
    let starts = [0].into_iter().chain(places.iter().copied());
    starts.zip(ends).map(|(from, to)| &text[from..to]).collect()
}

/// The law, and that cuts do not matter.
fn check(text: &str, cuts: &[usize], ending: Ending) {
    for options in all_options() {
        let told = check_law(text, &options, ending);
        assert_eq!(told, events(cut(text, cuts), &options, ending), "{text:?}");
        let characters = text.split("").filter(|piece| !piece.is_empty());
        assert_eq!(told, events(characters, &options, ending), "{text:?}");
    }
}

proptest! {
    #[test]
    fn any_text_keeps_the_law(
        text in any_text(),
        cuts in prop::collection::vec(any::<usize>(), 0..6),
        ending in any_ending(),
    ) {
        check(&text, &cuts, ending);
    }
}

/// 10,000 outputs: some as they should be, most of them broken.
#[test]
fn mutated_outputs_keep_the_law() {
    let config = Config {
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, b"ten thousand outputs most broken");
    let mut runner = TestRunner::new_with_rng(config, rng);
    let mutations = prop::collection::vec(any_mutation(), 0..5);
    let cuts = prop::collection::vec(any::<usize>(), 0..4);
    let strategy = (any_output(), mutations, cuts, any_ending());
    let mut with_calls = 0;
    for _ in 0..10_000 {
        let (text, mutations, cuts, ending) = strategy.new_tree(&mut runner).unwrap().current();
        let text = mutated(text, &mutations);
        for options in [
            options(Inside, CallMode::Streamed),
            options(Closed, CallMode::Streamed),
            options(Inside, CallMode::Whole),
        ] {
            let told = check_law(&text, &options, ending);
            assert_eq!(
                told,
                events(cut(&text, &cuts), &options, ending),
                "{text:?}"
            );
        }
        let options = options(Closed, CallMode::Streamed);
        with_calls += usize::from(!Output::read(&text, options, ending).calls.is_empty());
    }
    assert!((2_000..9_000).contains(&with_calls), "{with_calls}");
}

/// As long as nothing is typed or on trial, no more than this may wait, in bytes.
const LONGEST_WAIT: usize = 2048;

#[test]
fn little_waits() {
    let head = "<tool_call>\n<function=write>\n<parameter=content>\n";
    let long = |piece: &str| piece.repeat(40_000 / piece.len());
    for (start, piece) in [
        ("", "word "),
        ("", "\n"),
        ("", "<"),
        ("", "</"),
        ("", "<tool_call>\n"),
        ("", "<function=list> "),
        ("", "`<tool_call>\n<function=list>\n"),
        ("", "<parameter "),
        (head, "word\n"),
        (head, "\n"),
        (head, "</parameter>"),
        (head, "</parameter>\n"),
        (head, "</function>\n</tool_call>\n."),
        (head, "<tool_call>\n<function=write>\n<parameter=content>\n"),
        (head, "<"),
    ] {
        let text = format!("{start}{}", long(piece));
        let mut parser = OutputParser::new(options(Closed, CallMode::Streamed));
        let (mut read, mut told) = (0, 0);
        for character in text.split("") {
            read += character.len();
            for event in parser.push(character) {
                match event {
                    OutputEvent::Reasoning(text) | OutputEvent::Content(text) => told += text.len(),
                    OutputEvent::Markup(text) => told += text.len(),
                    // Escapes are longer than what they stand for, never shorter.
                    OutputEvent::CallArguments { json, .. } => told += json.len(),
                    OutputEvent::CallStart { .. } => told += head.len(),
                    OutputEvent::CallEnd { source, .. } => told = told.max(source.end),
                }
            }
            assert!(told + LONGEST_WAIT >= read, "{piece:?}: {told} of {read}");
        }
    }
}

/// How long this thread has worked, where the system says so, since others may be working, too.
fn time_worked() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let schedule = std::fs::read_to_string("/proc/thread-self/schedstat");
    let nanoseconds = schedule
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok());
    nanoseconds.map_or_else(|| START.elapsed(), Duration::from_nanos)
}

#[test]
fn time_grows_with_the_text() {
    const BYTES: usize = 1_600_000;
    let calls = "<tool_call>\n<function=write>\n<parameter=content>\n";
    let parameters: String = (0..BYTES / 20)
        .map(|n| format!("<parameter={n}>\n</parameter>\n"))
        .collect();
    for piece in [
        parameters.as_str(),
        "<tool_call>",
        "<tool_call>\n<function=write>\n<parameter=content>\n",
        "<tool_call>{\"a\": \"",
        "<tool_call>{\"a\": [",
        "```\n<tool_call>\n<function=list>\n</function>\n",
        "</parameter>\n",
        "\n<parameter=path>",
        "<function=list>\n<parameter=a>\n",
    ] {
        for (start, thinking, mode) in [
            ("", Inside, CallMode::Streamed),
            ("", Closed, CallMode::Whole),
            (calls, Closed, CallMode::Streamed),
        ] {
            let text = format!("{start}{}", piece.repeat(BYTES.div_ceil(piece.len())));
            let before = time_worked();
            Output::read(&text, options(thinking, mode), Ending::Cut);
            // It takes a tenth of a second; with quadratic time it would be half a minute.
            let time = time_worked() - before;
            let piece = &piece[..piece.len().min(60)];
            assert!(time < Duration::from_secs(3), "{piece:?}: {time:?}");
        }
    }
}
