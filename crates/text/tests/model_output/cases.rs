//! What becomes of the outputs that models write, case by case. `docs/output.md` has the rules.

use crate::shared::{check_law, events, options, tools};
use serde_json::{Value, json};
use tidemill_text::ThinkingState::{self, Closed, Inside, Unmarked};
use tidemill_text::output::{
    CallMode, CallOutcome, Ending, Output, OutputEvent, OutputOptions, OutputParser,
    ReasoningFormat,
};

/// What is expected of an output.
#[derive(Debug, PartialEq)]
struct Want {
    reasoning: String,
    content: String,
    calls: Vec<(String, Value, CallOutcome)>,
}

fn want(reasoning: &str, content: &str, calls: &[(&str, Value)]) -> Want {
    let complete = |(name, arguments): &(&str, Value)| {
        ((*name).to_owned(), arguments.clone(), CallOutcome::Complete)
    };
    Want {
        reasoning: reasoning.to_owned(),
        content: content.to_owned(),
        calls: calls.iter().map(complete).collect(),
    }
}

/// The output told with these options, checked against the law and for cuts at every character.
fn read(text: &str, options: &OutputOptions, ending: Ending) -> Want {
    let told = check_law(text, options, ending);
    let characters = text.split("").filter(|piece| !piece.is_empty());
    assert_eq!(told, events(characters, options, ending), "{text:?}");
    let output = Output::read(text, options.clone(), ending);
    let calls = output.calls.into_iter().map(|call| {
        let arguments = serde_json::from_str(&call.arguments).unwrap();
        (call.name, arguments, call.outcome.unwrap())
    });
    Want {
        calls: calls.collect(),
        reasoning: output.reasoning,
        content: output.content,
    }
}

/// Told as it arrives and when it is whole, the text gives the same.
fn check(thinking: ThinkingState, text: &str, want: &Want) {
    for mode in [CallMode::Streamed, CallMode::Whole] {
        let found = read(text, &options(thinking, mode), Ending::Stopped);
        assert_eq!(found, *want, "{mode:?}: {text:?}");
    }
}

fn check_content(text: &str) {
    check(Closed, text, &want("", text, &[]));
}

const LIST: &str = "<tool_call>\n<function=list>\n</function>\n</tool_call>";

fn write(parameters: &[(&str, &str)]) -> String {
    let parameters: String = parameters
        .iter()
        .map(|(key, value)| format!("<parameter={key}>\n{value}\n</parameter>\n"))
        .collect();
    format!("<tool_call>\n<function=write>\n{parameters}</function>\n</tool_call>")
}

#[test]
fn calls_are_told_apart_from_the_text_around_them() {
    let list = ("list", json!({}));
    check(Closed, LIST, &want("", "", std::slice::from_ref(&list)));
    check(
        Closed,
        &format!("I look.\n\n{LIST}\n"),
        &want("", "I look.", std::slice::from_ref(&list)),
    );
    check(
        Closed,
        &format!("I look.\n\n{LIST}\n{LIST}"),
        &want("", "I look.", &[list.clone(), list.clone()]),
    );
    check(
        Closed,
        &format!("I look.\n\n{LIST}\n\nThat was it."),
        &want("", "I look.\n\nThat was it.", std::slice::from_ref(&list)),
    );
    check(
        Inside,
        &format!("hm\n</think>\n\n{LIST}"),
        &want("hm", "", &[list]),
    );
}

#[test]
fn arguments_have_the_types_of_the_schema() {
    let text = write(&[
        ("path", " a\"b\\é "),
        ("content", "\n1\n\n2\n"),
        ("count", "3"),
        ("ratio", "2.5"),
        ("force", "True"),
        ("options", "{\"a\": [1, null]}"),
        ("lines", "[1, 2]"),
        ("label", "None"),
        ("extent", "null"),
        ("any", "{}"),
        ("unknown", "5"),
    ]);
    let arguments = json!({
        "path": " a\"b\\é ", "content": "\n1\n\n2\n", "count": 3, "ratio": 2.5, "force": true,
        "options": {"a": [1, null]}, "lines": [1, 2], "label": null, "extent": null, "any": {},
        "unknown": "5",
    });
    check(Closed, &text, &want("", "", &[("write", arguments)]));

    let odd = write(&[
        ("count", "three"),
        ("force", "maybe"),
        ("options", "{a}"),
        ("label", "null and void"),
        ("any", "5"),
        ("path", ""),
    ]);
    let arguments = json!({
        "count": "three", "force": "maybe", "options": "{a}", "label": "null and void",
        "any": "5", "path": "",
    });
    check(Closed, &odd, &want("", "", &[("write", arguments)]));
}

#[test]
fn text_arguments_arrive_as_they_are_written() {
    let mut parser = OutputParser::new(options(Closed, CallMode::Streamed));
    let mut push = |piece: &str| -> Vec<OutputEvent> { parser.push(piece) };
    let arguments = |json: &str| OutputEvent::CallArguments {
        index: 0,
        json: json.to_owned(),
    };
    let start = OutputEvent::CallStart {
        index: 0,
        name: "write".to_owned(),
    };
    assert_eq!(push("<tool_call>\n<function=write>\n"), []);
    let first = push("<parameter=path>\n");
    assert!(matches!(&first[0], OutputEvent::Markup(_)));
    assert_eq!(first[1..], [start, arguments("{\"path\":\"")]);
    assert_eq!(push("a.t"), [arguments("a.t")]);
    assert_eq!(push("xt\n"), [arguments("xt")]);
    assert_eq!(push("b"), [arguments("\\nb")]);
    assert_eq!(push("\n</parameter>\n"), []);
    assert_eq!(push("<parameter=count>\n1"), [arguments("\",\"count\":")]);
    assert_eq!(push("2\n</parameter>\n</function"), []);
    let end = push(">");
    assert_eq!(end[0], arguments("12}"));
    assert!(matches!(end[1], OutputEvent::CallEnd { .. }));
}

#[test]
fn the_json_form_is_read_too() {
    let call = |json: &str| format!("<tool_call>\n{json}\n</tool_call>");
    let one = |json: &str, arguments: Value| {
        check(Closed, &call(json), &want("", "", &[("write", arguments)]));
    };
    one(
        r#"{"name": "write", "arguments": {"path": "a", "count": 1}}"#,
        json!({"path": "a", "count": 1}),
    );
    one(r#"{"name": "write"}"#, json!({}));
    one(r#"{"name": "write", "arguments": null}"#, json!({}));
    one(
        r#"{"id": 7, "arguments": {"a": [1, {}]}, "type": "function", "name": "write"}"#,
        json!({"a": [1, {}]}),
    );
    one(
        r#"{"name": "write", "parameters": "{\"a\": 1}"}"#,
        json!({"a": 1}),
    );
    // What models get wrong: line ends in strings, Python's words, braces too few or too many.
    one(
        "{\"name\": \"write\", \"arguments\": {\"a\": \"1\n2\", \"b\": True,}}",
        json!({"a": "1\n2", "b": true}),
    );
    one(
        r#"{"name": "write", "arguments": {"a": {"b": 1}}"#,
        json!({"a": {"b": 1}}),
    );
    one(
        r#"{"name": "write", "arguments": {"a": 1}}}"#,
        json!({"a": 1}),
    );
    let tags = r#"{"name": "write", "arguments": {"a": "</tool_call> <function=\"x\"> <think>"}}"#;
    one(tags, json!({"a": "</tool_call> <function=\"x\"> <think>"}));
    // Several in one wrapper.
    let two = "{\"name\": \"list\"}\n{\"name\": \"write\", \"arguments\": {}}";
    let calls = [("list", json!({})), ("write", json!({}))];
    check(Closed, &call(two), &want("", "", &calls));
}

#[test]
fn forgotten_tags_are_forgiven() {
    let wanted = want("", "", &[("write", json!({"path": "a", "count": 1}))]);
    for text in [
        // As it should be, then without one thing after the other.
        "<tool_call>\n<function=write>\n<parameter=path>\na\n</parameter>\n\
         <parameter=count>\n1\n</parameter>\n</function>\n</tool_call>",
        "<tool_call>\n<function=write>\n<parameter=path>\na\n</parameter>\n\
         <parameter=count>\n1\n</parameter>\n</function>\n",
        "<tool_call>\n<function=write>\n<parameter=path>\na\n</parameter>\n\
         <parameter=count>\n1\n</parameter>\n</tool_call>",
        "<tool_call>\n<function=write>\n<parameter=path>\na\n</parameter>\n\
         <parameter=count>\n1\n</parameter>\n",
        "<tool_call>\n<function=write>\n<parameter=path>\na\n\
         <parameter=count>\n1\n</parameter>\n</function>\n</tool_call>",
        "<tool_call>\n<function=write>\n<parameter=path>\na\n</parameter>\n\
         <parameter=count>\n1\n</function>\n</tool_call>",
        "<tool_call>\n<function=write>\n<parameter=path>\na\n</parameter>\n\
         <parameter=count>\n1\n</tool_call>",
        "<function=write>\n<parameter=path>\na\n</parameter>\n\
         <parameter=count>\n1\n</parameter>\n</function>",
        "<function=write>\n<parameter=path>\na\n</parameter>\n\
         <parameter=count>\n1\n</parameter>\n</function>\n</tool_call>",
        // Other spellings.
        "<tool_call><function=write><parameter=path>a</parameter>\
         <parameter=count>1</parameter></function></tool_call>",
        "<tool_call>\n  <function = \"write\">\n  <parameter name='path'>\na\n</parameter>\n\n\
         <parameter = count >\n1\n</parameter>\n  </function>\n</tool_call>",
    ] {
        check(Closed, text, &wanted);
    }
    let both = [("list", json!({})), ("write", json!({"path": "a"}))];
    for text in [
        "<tool_call>\n<function=list>\n</function>\n<function=write>\n<parameter=path>\na\n\
         </parameter>\n</function>\n</tool_call>",
        "<tool_call>\n<function=list>\n</tool_call>\n<tool_call>\n<function=write>\n\
         <parameter=path>\na\n</parameter>\n</function>\n</tool_call>",
        "<tool_call>\n<function=list>\n</function>\n<tool_call>\n<function=write>\n\
         <parameter=path>\na\n</parameter>\n</function>\n</tool_call>",
    ] {
        check(Closed, text, &want("", "", &both));
    }
}

#[test]
fn values_may_speak_of_tags() {
    for value in [
        "a </parameter> b\n</tool_call>\n",
        "</tool_call>",
        "</parameter>",
        "</parameter></parameter>",
        "<parameter=",
        "see <parameter=x> and\n<parameter=x>\n",
        "<tool_call>\n<function=list>\n</function>\n</tool_call>",
        "before\n<tool_call>\n<function=f>\n<parameter=count>\n1\n</parameter>\n</function>\n\
         </tool_call>\nafter",
        "<tool_call>\n{\"name\": 1}\n</tool_call>\n",
        "<think>\n</think>",
        "a < b > c </ </p </parameter",
    ] {
        let text = write(&[("path", "p"), ("content", value), ("count", "1")]);
        let arguments = json!({"path": "p", "content": value, "count": 1});
        check(Closed, &text, &want("", "", &[("write", arguments)]));
    }
}

#[test]
fn what_is_no_call_is_content() {
    for text in [
        "plain",
        " spaces stay \n",
        "<tool_call>",
        "<tool_call>\n",
        "<tool_call>\n</tool_call>",
        "half a tag </tool_ca",
        "a `<tool_call>` in prose",
        "say <tool_call> and then <function=list>",
        "`<tool_call>\n<function=list>\n</function>\n</tool_call>`",
        "<tool_call>\n<function=list>\n",
        "<tool_call>\n<function=>\n</function>\n</tool_call>",
        "<tool_call>\n<function=f\n></function></tool_call>",
        "<tool_call>\n<function=list> and so on </function>",
        "<tool_call>\n{\"name\": 1}\n</tool_call>",
        "<tool_call>\n{\"nam",
        "<tool_call>\n[]\n</tool_call>",
        "<tool_call>\n{\"arguments\": {}}\n</tool_call>",
        "<function=unknown>\n</function>",
        "in a line <function=list>\n</function>",
        "a <think> b </think> c",
    ] {
        check_content(text);
    }
    check(
        Closed,
        &format!("<tool_call> broken {LIST}"),
        &want("", "<tool_call> broken", &[("list", json!({}))]),
    );
    check(
        Closed,
        &format!("<tool_call>\n<function=\n{LIST} oops"),
        &want("", "<tool_call>\n<function= oops", &[("list", json!({}))]),
    );
}

#[test]
fn unknown_tools_are_called_unless_that_is_refused() {
    let text = "<tool_call>\n<function=other>\n<parameter=a>\n1\n</parameter>\n</function>\n\
                </tool_call>";
    check(Closed, text, &want("", "", &[("other", json!({"a": "1"}))]));
    for mode in [CallMode::Streamed, CallMode::Whole] {
        let strict = OutputOptions {
            only_known_tools: true,
            ..options(Closed, mode)
        };
        let found = read(text, &strict, Ending::Stopped);
        assert_eq!(found, want("", text, &[]));
        let json = "<tool_call>{\"name\": \"other\", \"arguments\": {}}</tool_call>";
        assert_eq!(read(json, &strict, Ending::Stopped), want("", json, &[]));
        let found = read(LIST, &strict, Ending::Stopped);
        assert_eq!(found, want("", "", &[("list", json!({}))]));
    }
    let without = OutputOptions::new(Closed, &[]);
    assert_eq!(read(LIST, &without, Ending::Stopped), want("", LIST, &[]));
}

#[test]
fn calls_that_break_off_are_closed() {
    let check = |text: &str, name: &str, arguments: Value, outcome, content: &str| {
        let streamed = options(Closed, CallMode::Streamed);
        let mut wanted = want("", content, &[(name, arguments)]);
        wanted.calls[0].2 = outcome;
        assert_eq!(read(text, &streamed, Ending::Cut), wanted, "{text:?}");
        let whole = read(text, &options(Closed, CallMode::Whole), Ending::Cut);
        assert_eq!(whole, want("", text, &[]));
    };
    use CallOutcome::{Malformed, Truncated};
    let head = "<tool_call>\n<function=write>\n";
    for (rest, arguments) in [
        ("<parameter=path>", json!({"path": ""})),
        ("<parameter=path>\nab\n", json!({"path": "ab"})),
        ("<parameter=path>\nab\n</para", json!({"path": "ab"})),
        ("<parameter=path>\nab\n<par", json!({"path": "ab\n<par"})),
        (
            "<parameter=path>\nab\n</parameter>\n",
            json!({"path": "ab"}),
        ),
        ("<parameter=count>\n1", json!({"count": 1})),
        ("<parameter=options>\n{\"a\"", json!({"options": "{\"a\""})),
    ] {
        check(&format!("{head}{rest}"), "write", arguments, Truncated, "");
    }
    let head = "<tool_call>\n{\"name\": \"write\", \"arguments\": {";
    for (rest, arguments) in [
        ("", json!({})),
        ("\"pa", json!({"pa": null})),
        ("\"path\": \"a\\", json!({"path": "a"})),
        ("\"path\": \"a</tool", json!({"path": "a</tool"})),
        ("\"lines\": [1, 2", json!({"lines": [1, 2]})),
        ("\"lines\": [1, tr", json!({"lines": [1, null]})),
    ] {
        check(&format!("{head}{rest}"), "write", arguments, Truncated, "");
    }
    check(
        &format!("{head}\"a\": 1, oops, I meant }}\n"),
        "write",
        json!({"a": 1}),
        Malformed,
        "oops, I meant }\n",
    );
    // A cut call that lacks nothing but its end is as good as complete for JSON alone.
    let text = format!("{head}\"a\": 1}}");
    let found = read(&text, &options(Closed, CallMode::Whole), Ending::Cut);
    assert_eq!(found, want("", "", &[("write", json!({"a": 1}))]));
}

#[test]
fn code_blocks_hold_examples_unless_the_output_ends_there() {
    let example = format!("```xml\n{LIST}\n```");
    check_content(&example);
    check_content(&format!("{example}\nThat is how."));
    check_content(&format!("~~~\n{LIST} and so on"));
    check_content("```\n<tool_call>\n<function=write>\n<parameter=path>\n```\nso");
    let list = ("list", json!({}));
    check(
        Closed,
        &format!("{example}\n\n{LIST}"),
        &want("", &example, std::slice::from_ref(&list)),
    );
    check(
        Closed,
        &format!("```\nnever closed\n{LIST}\n{LIST}\n"),
        &want("", "```\nnever closed", &[list.clone(), list.clone()]),
    );
    let cut = read(
        &format!("```\n{LIST}"),
        &options(Closed, CallMode::Streamed),
        Ending::Cut,
    );
    assert_eq!(cut, want("", &format!("```\n{LIST}"), &[]));
}

#[test]
fn reasoning_holds_plans_unless_the_output_ends_there() {
    let list = ("list", json!({}));
    let call = std::slice::from_ref(&list);
    check(Inside, &format!("hm\n{LIST}"), &want("hm", "", call));
    check(
        Inside,
        &format!("hm\n{LIST}\n</think>\n\n"),
        &want("hm", "", call),
    );
    check(Inside, LIST, &want("", "", call));
    let plan = format!("hm\n{LIST} or not");
    check(Inside, &plan, &want(&plan, "", &[]));
    let plan = format!("hm\n{LIST}");
    check(
        Inside,
        &format!("{plan}\n</think>\n\nno"),
        &want(&plan, "no", &[]),
    );
    check(
        Inside,
        &format!("{plan}\n</think>\n\n{LIST}"),
        &want(&plan, "", call),
    );
    let half = "<tool_call>\n<function=write>\n<parameter=path>\n";
    check(
        Inside,
        &format!("hm {half}</think>so"),
        &want(&format!("hm {}", half.trim_end()), "so", &[]),
    );
    let never = OutputOptions {
        calls_in_reasoning: false,
        ..options(Inside, CallMode::Streamed)
    };
    let found = read(&format!("hm\n{LIST}"), &never, Ending::Stopped);
    assert_eq!(found, want(&format!("hm\n{LIST}"), "", &[]));
}

#[test]
fn reasoning_is_told_from_the_answer() {
    let check = |thinking, text: &str, reasoning: &str, content: &str| {
        check(thinking, text, &want(reasoning, content, &[]));
    };
    check(Inside, "why\n</think>\n\nso", "why", "so");
    check(Inside, "\n a  b \n</think>so ", "a  b", "so ");
    check(Inside, "</think>\n\n", "", "");
    check(Inside, "a </thin b", "a </thin b", "");
    check(Inside, "cut off </thi", "cut off </thi", "");
    check(Inside, "cut off \n", "cut off", "");
    check(Inside, "<think>\nwhy</think>so", "why", "so");
    check(Inside, "a</think>b</think>c", "a", "b</think>c");
    check(Inside, "a</think>\n</think>b", "a", "b");
    check(Inside, "a</think>\n<think>\n\nb</think>c", "a\n\nb", "c");
    check(Inside, "a <think> b</think>c", "a <think> b", "c");
    check(Closed, " so</think>", "", " so</think>");
    check(Unmarked, "\n<think>why</think> so", "why", "so");
    check(Unmarked, " <thinking", "", " <thinking");
    check(Unmarked, " so <think>", "", " so <think>");
    check(Unmarked, " <th", "", " <th");
    check(Unmarked, " \n", "", " \n");
}

#[test]
fn reasoning_may_stay_in_the_content() {
    for (text, content) in [
        (
            format!("why\n</think>\n\nso\n{LIST}"),
            "why\n</think>\n\nso",
        ),
        (format!(" why\n</think>\n\n{LIST}"), " why\n</think>\n\n"),
    ] {
        let in_content = OutputOptions {
            reasoning: "none".parse().unwrap(),
            ..options(Inside, CallMode::Streamed)
        };
        let found = read(&text, &in_content, Ending::Stopped);
        assert_eq!(found, want("", content, &[("list", json!({}))]));
    }
    assert_eq!("auto".parse(), Ok(ReasoningFormat::Separate));
    let error = "some".parse::<ReasoningFormat>().unwrap_err().to_string();
    assert!(error.contains("deepseek"), "{error}");
}

#[test]
fn sources_are_what_the_model_wrote() {
    let text = format!("é\n{}\n{LIST}", write(&[("path", "ü")]));
    let output = Output::read(&text, options(Closed, CallMode::Streamed), Ending::Stopped);
    let sources: Vec<&str> = output
        .calls
        .iter()
        .map(|call| &text[call.source.clone()])
        .collect();
    let want = [
        "<function=write>\n<parameter=path>\nü\n</parameter>\n</function>",
        "<function=list>\n</function>",
    ];
    assert_eq!(sources, want);
    assert_eq!(tools().len(), 2);
}
