//! What the tests of the output parser share: tools, and the law that every output keeps.

use serde_json::{Value, json};
use tidemill_text::ThinkingState;
use tidemill_text::output::{
    CallMode, CallOutcome, Ending, Output, OutputEvent, OutputOptions, OutputParser,
    ReasoningFormat,
};

/// Two tools with parameters of every type.
pub(crate) fn tools() -> Vec<Value> {
    let properties = json!({
        "path": {"type": "string"},
        "content": {"type": "string"},
        "count": {"type": "integer"},
        "ratio": {"type": "number"},
        "force": {"type": "boolean"},
        "options": {"type": "object"},
        "lines": {"type": "array", "items": {"type": "integer"}},
        "label": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "extent": {"$ref": "#/$defs/extent"},
        "any": {},
    });
    let defs = json!({"extent": {"type": ["integer", "null"]}});
    let parameters = json!({"type": "object", "properties": properties, "$defs": defs});
    vec![
        json!({"type": "function", "function": {"name": "write", "parameters": parameters}}),
        json!({"type": "function", "function": {"name": "list"}}),
    ]
}

/// The defaults, with calls read in this way.
pub(crate) fn options(thinking: ThinkingState, calls: CallMode) -> OutputOptions {
    OutputOptions {
        calls,
        ..OutputOptions::new(thinking, &tools())
    }
}

/// The events of a text that comes in `pieces`, those of a kind joined.
pub(crate) fn events<'t>(
    pieces: impl IntoIterator<Item = &'t str>,
    options: &OutputOptions,
    ending: Ending,
) -> Vec<OutputEvent> {
    let mut parser = OutputParser::new(options.clone());
    let mut events: Vec<OutputEvent> = Vec::new();
    for piece in pieces {
        events.extend(parser.push(piece));
    }
    events.extend(parser.finish(ending));
    let mut joined: Vec<OutputEvent> = Vec::new();
    for event in events {
        use OutputEvent::{CallArguments, Content, Markup, Reasoning};
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

/// All ways to read an output.
pub(crate) fn all_options() -> Vec<OutputOptions> {
    let mut all = Vec::new();
    for thinking in [
        ThinkingState::Inside,
        ThinkingState::Closed,
        ThinkingState::Unmarked,
    ] {
        for calls in [CallMode::Off, CallMode::Streamed, CallMode::Whole] {
            all.push(options(thinking, calls));
        }
        all.push(OutputOptions {
            reasoning: ReasoningFormat::InContent,
            only_known_tools: true,
            ..options(thinking, CallMode::Streamed)
        });
        all.push(OutputOptions {
            calls_in_reasoning: false,
            ..options(thinking, CallMode::Whole)
        });
    }
    all
}

/// Checks what is true of every output, and returns its events.
///
/// - The events' texts and the calls' sources are the text, in order.
/// - Markup is tags and white space, apart from brackets that closed nothing behind a JSON call.
/// - Calls are told one after the other, numbered, and their arguments are JSON objects.
/// - Calls that are told whole are complete.
pub(crate) fn check_law(text: &str, options: &OutputOptions, ending: Ending) -> Vec<OutputEvent> {
    let events = events([text], options, ending);
    let mut rebuilt = String::new();
    let mut open = None;
    let mut calls = 0;
    for event in &events {
        match event {
            OutputEvent::Reasoning(piece) | OutputEvent::Content(piece) => {
                assert!(open.is_none() && !piece.is_empty(), "{text:?}");
                rebuilt.push_str(piece);
            }
            OutputEvent::Markup(piece) => {
                assert!(open.is_none() && is_markup(piece), "{piece:?} in {text:?}");
                rebuilt.push_str(piece);
            }
            OutputEvent::CallStart { index, name } => {
                assert!(open.is_none() && *index == calls && !name.is_empty());
                assert!(options.calls != CallMode::Off);
                calls += 1;
                open = Some(String::new());
            }
            OutputEvent::CallArguments { index, json } => {
                assert!(*index + 1 == calls && !json.is_empty(), "{text:?}");
                open.as_mut().expect("a call is open").push_str(json);
            }
            OutputEvent::CallEnd {
                index,
                outcome,
                source,
            } => {
                let json = open.take().expect("a call is open");
                let value: Result<Value, _> = serde_json::from_str(&json);
                assert!(value.is_ok_and(|v| v.is_object()), "{json:?} of {text:?}");
                assert_eq!(
                    (*index + 1, source.start),
                    (calls, rebuilt.len()),
                    "{text:?}"
                );
                if options.calls == CallMode::Whole {
                    assert_eq!(*outcome, CallOutcome::Complete, "{text:?}");
                }
                rebuilt.push_str(&text[source.clone()]);
            }
        }
    }
    assert!(open.is_none());
    assert_eq!(rebuilt, text);
    let mut output = Output::default();
    events.iter().for_each(|event| output.add(event));
    assert_eq!(output, Output::read(text, options.clone(), ending));
    events
}

fn is_markup(piece: &str) -> bool {
    const TAGS: [&str; 4] = ["<think>", "</think>", "<tool_call>", "</tool_call>"];
    let without_tags = TAGS
        .iter()
        .fold(piece.to_owned(), |rest, tag| rest.replace(tag, " "));
    without_tags
        .chars()
        .all(|c| c.is_whitespace() || matches!(c, '}' | ',' | ']'))
}
