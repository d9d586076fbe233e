//! The model's output: whatever it writes and however it is cut, all of it comes out again.
//!
//! The first byte chooses how the output is read, the second where it is cut.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use text::ThinkingState;
use text::output::{
    CallMode, CallOutcome, Ending, OutputEvent, OutputOptions, OutputParser, ReasoningFormat,
};

fuzz_target!(|data: &[u8]| {
    let [how, stride, rest @ ..] = data else {
        return;
    };
    let text = String::from_utf8_lossy(rest);
    let ending = if how & 1 == 0 {
        Ending::Stopped
    } else {
        Ending::Cut
    };
    let options = OutputOptions {
        calls: [CallMode::Streamed, CallMode::Whole, CallMode::Off][usize::from(how / 2 % 3)],
        reasoning: if how & 64 == 0 {
            ReasoningFormat::Separate
        } else {
            ReasoningFormat::InContent
        },
        only_known_tools: how & 128 != 0,
        thinking: [
            ThinkingState::Inside,
            ThinkingState::Closed,
            ThinkingState::Unmarked,
        ][usize::from(how / 8 % 3)],
        ..options().clone()
    };
    let whole = told([text.as_ref()].into_iter(), &options, ending);
    assert_eq!(rebuilt(&whole, &text, &options), text);
    let stride = usize::from(*stride).max(1);
    let characters: Vec<char> = text.chars().collect();
    let pieces: Vec<String> = characters.chunks(stride).map(String::from_iter).collect();
    assert_eq!(whole, told(pieces.iter().map(String::as_str), &options, ending));
});

/// The events, those of a kind joined.
fn told<'t>(
    pieces: impl Iterator<Item = &'t str>,
    options: &OutputOptions,
    ending: Ending,
) -> Vec<OutputEvent> {
    use OutputEvent::{CallArguments, Content, Markup, Reasoning};
    let mut parser = OutputParser::new(options.clone());
    let mut events: Vec<OutputEvent> = pieces.flat_map(|piece| parser.push(piece)).collect();
    events.extend(parser.finish(ending));
    let mut joined: Vec<OutputEvent> = Vec::new();
    for event in events {
        match (joined.last_mut(), &event) {
            (Some(Reasoning(last)), Reasoning(text))
            | (Some(Content(last)), Content(text))
            | (Some(Markup(last)), Markup(text)) => last.push_str(text),
            (Some(CallArguments { json: last, .. }), CallArguments { json, .. }) => {
                last.push_str(json);
            }
            _ => joined.push(event),
        }
    }
    joined
}

/// The text that the events are about. Checks the calls on the way.
fn rebuilt(events: &[OutputEvent], text: &str, options: &OutputOptions) -> String {
    let mut rebuilt = String::new();
    let mut arguments = String::new();
    let mut calls = 0;
    for event in events {
        match event {
            OutputEvent::Reasoning(piece)
            | OutputEvent::Content(piece)
            | OutputEvent::Markup(piece) => rebuilt.push_str(piece),
            OutputEvent::CallStart { index, .. } => {
                assert_eq!(*index, calls);
                calls += 1;
                arguments.clear();
            }
            OutputEvent::CallArguments { json, .. } => arguments.push_str(json),
            OutputEvent::CallEnd {
                outcome, source, ..
            } => {
                let value: Value = serde_json::from_str(&arguments).expect("arguments are JSON");
                assert!(value.is_object());
                assert!(options.calls != CallMode::Whole || *outcome == CallOutcome::Complete);
                assert_eq!(source.start, rebuilt.len());
                rebuilt.push_str(&text[source.clone()]);
            }
        }
    }
    rebuilt
}

fn options() -> &'static OutputOptions {
    static OPTIONS: OnceLock<OutputOptions> = OnceLock::new();
    OPTIONS.get_or_init(|| {
        let properties = json!({
            "s": {"type": "string"}, "n": {"type": "integer"}, "o": {"type": "object"},
            "m": {"type": ["string", "null"]}, "a": {},
        });
        let tool = json!({"name": "f", "parameters": {"properties": properties}});
        OutputOptions::new(ThinkingState::Inside, &[tool])
    })
}
