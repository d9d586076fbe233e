//! Structured output on the tiny model's vocabulary, with a model that says anything at all.
#![expect(clippy::unwrap_used, reason = "tests end where they are surprised")]

use std::path::Path;
use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};
use text::output::{Ending, Output, OutputOptions, ToolForm};
use text::tokenizer::Decode;
use text::{SpecialTokens, ThinkingState, Tokenizer};
use tidemill_engine::OpenedModel;
use tidemill_engine::constraint::{
    Begin, Constraint, ConstraintError, Grammar, GrammarLimits, Grammars, Guide, ThinkingTokens,
};
use tidemill_engine::sampling::{Sampler, SamplerSettings, TokenRules};

struct Tiny {
    tokenizer: Arc<Tokenizer>,
    grammars: Grammars,
    rules: Arc<TokenRules>,
}

fn tiny() -> &'static Tiny {
    static TINY: OnceLock<Tiny> = OnceLock::new();
    TINY.get_or_init(|| {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny/tidemill-tiny.gguf");
        let tokenizer = Arc::new(OpenedModel::open(&path).unwrap().tokenizer().unwrap());
        let limits = GrammarLimits::default();
        Tiny {
            grammars: Grammars::new(Arc::clone(&tokenizer), limits, 2).unwrap(),
            rules: Arc::new(TokenRules::of(&tokenizer)),
            tokenizer,
        }
    })
}

fn compile(grammar: &Grammar) -> Constraint {
    tiny().grammars.compile(grammar).unwrap()
}

fn encode(text: &str) -> Vec<u32> {
    tiny().tokenizer.encode(text, SpecialTokens::Parse).unwrap()
}

fn decode(tokens: &[u32]) -> String {
    tiny().tokenizer.decode(tokens, Decode::Everything).unwrap()
}

/// Logits of a model that says anything, ends included.
fn logits(seed: u64, place: usize) -> Vec<f32> {
    let mut state = (seed << 20 ^ place as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..tiny().rules.rows())
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 24) as f32 * 8.0
        })
        .collect()
}

/// What such a model says under a constraint; `None` if it does not come to an end. Now and then it
/// sets out to end a parameter, as models do, and goes through with it where it may.
fn babble(constraint: &mut Constraint, seed: u64) -> Option<Vec<u32>> {
    let settings = SamplerSettings {
        temperature: 1.5,
        seed,
        ..SamplerSettings::default()
    };
    let mut sampler = Sampler::new(settings, Arc::clone(&tiny().rules)).unwrap();
    let closing = encode("\n</parameter>\n");
    let mut intent: &[u32] = &[];
    let mut said = Vec::new();
    for place in 0..600 {
        constraint.start(&[]);
        let mut row = logits(seed, place);
        // It would rather close what it has opened, the more the longer it goes on.
        let haste = 6.0 + place as f32 / 10.0;
        for closing in ["\"", "}", "]", "</parameter>", "\"}", "<", "/"] {
            if let Some(token) = tiny().tokenizer.id_of(closing) {
                row[token as usize] += haste;
            }
        }
        if intent.is_empty() && (place as u64 + seed) % 8 == 7 {
            intent = &closing;
        }
        if let [next, ..] = intent {
            row[*next as usize] += 40.0;
        }
        let mask = constraint.mask().unwrap();
        let token = sampler.choose(&mut row, Some(mask)).token;
        intent = match intent.split_first() {
            Some((&next, rest)) if next == token => rest,
            _ => &[],
        };
        assert!(mask.allows(token));
        constraint.accept(token).unwrap();
        sampler.accept(token);
        if tiny().rules.is_end(token) {
            return Some(said);
        }
        said.push(token);
    }
    None
}

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 12},
            "kind": {"enum": ["small", "large", 3]},
            "count": {"type": "integer", "minimum": 1, "maximum": 20},
            "on": {"type": "boolean"},
            "tags": {"type": "array", "items": {"type": "string", "maxLength": 5}, "maxItems": 3},
            "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/point"}]}
        },
        "required": ["name", "kind", "count", "next"],
        "additionalProperties": false,
        "$defs": {"point": {
            "type": "object",
            "properties": {"x": {"type": "number", "minimum": -1, "maximum": 1}},
            "required": ["x"],
            "additionalProperties": false
        }}
    })
}

fn fits_schema(value: &Value) -> bool {
    let Some(object) = value.as_object() else {
        return false;
    };
    let known = ["name", "kind", "count", "on", "tags", "next"];
    let count = value["count"].as_i64().unwrap_or(0);
    object.keys().all(|key| known.contains(&key.as_str()))
        && value["name"]
            .as_str()
            .is_some_and(|name| name.chars().count() <= 12)
        && [json!("small"), json!("large"), json!(3)].contains(&value["kind"])
        && (1..=20).contains(&count)
        && object.get("on").is_none_or(Value::is_boolean)
        && object.get("tags").is_none_or(|tags| {
            tags.as_array()
                .is_some_and(|tags| tags.len() <= 3 && tags.iter().all(Value::is_string))
        })
        && object.get("next").is_some_and(|next| {
            next.is_null()
                || next["x"]
                    .as_f64()
                    .is_some_and(|x| (-1.0..=1.0).contains(&x))
        })
}

#[test]
fn whatever_the_model_says_fits_the_schema() {
    let mut ended = 0;
    for seed in 0..40 {
        let mut constraint = compile(&Grammar::JsonSchema(schema()));
        let Some(said) = babble(&mut constraint, seed) else {
            continue;
        };
        ended += 1;
        let text = decode(&said);
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{text:?}: {e}"));
        assert!(fits_schema(&value), "{text}");
        assert!(constraint.is_complete().unwrap());
    }
    assert!(ended >= 36, "{ended} of 40 came to an end");
}

#[test]
fn a_json_object_is_one() {
    for seed in 0..10 {
        let said = babble(&mut compile(&Grammar::JsonObject), seed);
        let said = decode(&said.expect("it closes what it opened in time"));
        let value: Value = serde_json::from_str(&said).unwrap();
        assert!(value.is_object(), "{said}");
    }
}

fn tools() -> Vec<Value> {
    vec![
        json!({"type": "function", "function": {"name": "set_light", "parameters": {
            "type": "object",
            "properties": {
                "room": {"type": "string"},
                "level": {"type": "integer", "minimum": 0, "maximum": 9},
                "on": {"type": "boolean"},
                "mode": {"enum": ["day", "night"]}
            },
            "required": ["room", "on"]
        }}}),
        json!({"type": "function", "function": {"name": "stop"}}),
        json!({"name": "points", "parameters": {
            "type": "object",
            "properties": {"at": {"type": "array", "maxItems": 2, "items": {"$ref": "#/$defs/n"}}},
            "required": ["at"],
            "$defs": {"n": {"type": "integer", "minimum": 0, "maximum": 50}}
        }}),
    ]
}

fn calls(form: ToolForm, is_parallel: bool, is_opened: bool) -> Grammar {
    Grammar::ToolCalls {
        tools: tools(),
        form,
        is_parallel,
        is_opened,
    }
}

fn assert_call_fits(name: &str, arguments: &Value) {
    let shown = format!("{name} {arguments}");
    match name {
        "set_light" => {
            assert!(
                arguments["room"].is_string() && arguments["on"].is_boolean(),
                "{shown}"
            );
            let level = arguments
                .get("level")
                .map(|level| level.as_i64().unwrap_or(-1));
            assert!(
                level.is_none_or(|level| (0..=9).contains(&level)),
                "{shown}"
            );
            let mode = arguments.get("mode");
            assert!(
                mode.is_none_or(|mode| mode == "day" || mode == "night"),
                "{shown}"
            );
        }
        "stop" => assert_eq!(arguments, &json!({})),
        "points" => assert!(arguments["at"].as_array().unwrap().len() <= 2, "{shown}"),
        other => panic!("called {other:?}"),
    }
}

#[test]
fn whatever_the_model_says_is_a_call_in_xml_form() {
    let mut ended = 0;
    for seed in 0..40 {
        let Some(said) = babble(
            &mut compile(&calls(ToolForm::Xml, seed % 2 == 0, false)),
            seed,
        ) else {
            continue;
        };
        ended += 1;
        let text = decode(&said);
        let options = OutputOptions::new(ThinkingState::Closed, &tools());
        let answer = Output::read(&text, options, Ending::Stopped);
        assert_eq!(answer.content, "", "{text}");
        assert!(
            answer.calls.len() == 1 || seed % 2 == 0 && !answer.calls.is_empty(),
            "{text}"
        );
        for call in answer.calls {
            assert_call_fits(&call.name, &serde_json::from_str(&call.arguments).unwrap());
        }
    }
    assert!(ended >= 36, "{ended} of 40 came to an end");
}

#[test]
fn whatever_the_model_says_is_a_call_in_json_form() {
    let mut ended = 0;
    for seed in 0..30 {
        let Some(said) = babble(&mut compile(&calls(ToolForm::Json, false, false)), seed) else {
            continue;
        };
        ended += 1;
        let text = decode(&said);
        let inner = text.strip_prefix("<tool_call>\n").unwrap();
        let inner = inner.strip_suffix("\n</tool_call>").unwrap();
        let call: Value = serde_json::from_str(inner).unwrap();
        assert_call_fits(call["name"].as_str().unwrap(), &call["arguments"]);
    }
    assert!(ended >= 20, "{ended} of 30 came to an end");
}

/// Whether a text follows a grammar to its end.
fn follows(grammar: &Grammar, text: &str) -> bool {
    let mut constraint = compile(grammar);
    for token in encode(text) {
        if constraint.accept(token).is_err() {
            return false;
        }
    }
    let mask = constraint.mask().unwrap();
    tiny().rules.ends().iter().all(|&end| mask.allows(end))
}

#[test]
fn calls_as_the_template_writes_them_follow_the_rules() {
    let grammar = calls(ToolForm::Xml, true, false);
    let call = |body: &str| format!("<tool_call>\n<function={body}</function>\n</tool_call>");
    let on = "<parameter=on>\nTrue\n</parameter>\n";
    let room = "<parameter=room>\nthe <b>kitchen</b>\nupstairs\n</parameter>\n";
    let level = "<parameter=level>\n7\n</parameter>\n";
    let at = "points>\n<parameter=at>\n[1, 23]\n</parameter>\n";
    for (text, fits) in [
        (call(&format!("set_light>\n{room}{on}")), true),
        (call(&format!("set_light>\n{on}{level}{room}")), true),
        (call(&format!("set_light>\n{on}{level}")), false),
        (call(&format!("set_light>\n{on}{room}{on}")), false),
        (
            call(&format!(
                "set_light>\n{on}{room}{}",
                level.replace('7', "12")
            )),
            false,
        ),
        (
            call(&format!(
                "set_light>\n{on}{room}{}",
                level.replace('7', "x")
            )),
            false,
        ),
        (call("stop>\n"), true),
        (call("halt>\n"), false),
        (call(at), true),
        (format!("{}\n{}", call("stop>\n"), call(at)), true),
        (format!("{} so", call("stop>\n")), false),
        ("<tool_call>".to_owned(), false),
        ("Well.".to_owned(), false),
    ] {
        assert_eq!(follows(&grammar, &text), fits, "{text}");
    }
}

#[test]
fn every_kind_of_grammar_is_understood() {
    let check = |grammar: Grammar, good: &[&str], bad: &[&str]| {
        for text in good {
            assert!(
                follows(&grammar, text),
                "{text:?} should follow {grammar:?}"
            );
        }
        for text in bad {
            assert!(
                !follows(&grammar, text),
                "{text:?} should not follow {grammar:?}"
            );
        }
    };
    check(
        Grammar::Regex("(yes|no)[.!]?".to_owned()),
        &["yes", "no!", "yes."],
        &["maybe", "", "yes!!", "ye"],
    );
    check(
        Grammar::Lark("start: NAME (\",\" NAME)*\nNAME: /[a-z]+/".to_owned()),
        &["a", "one,two,three"],
        &["one,", "One", "one two"],
    );
    let arithmetic = "root ::= expr # whole\nexpr ::= term ([-+*/] term)*\n\
                      term ::= number | \"(\" expr \")\"\nnumber ::= [0-9]{1,3}\n";
    check(
        Grammar::Gbnf(arithmetic.to_owned()),
        &["1", "12+(3*4)-5", "((((7))))"],
        &["1234", "1+", "(1", "1 + 2", ""],
    );
    let list = "root ::= (\"- \" item)+\nitem ::= [^\\n]+ \"\\n\"\n";
    check(
        Grammar::Gbnf(list.to_owned()),
        &["- one\n", "- one\n- two \"quoted\" /x/\n"],
        &["- one", "one\n", "- \n"],
    );
    let json = r#"
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
ws ::= | " " | "\n" [ \t]{0,20}
"#;
    check(
        Grammar::Gbnf(json.to_owned()),
        &[
            "{}",
            r#"{"a": [1, -2.5e+3, "x\n\u00e9"], "b": {"c": null}}"#,
        ],
        &["[]", r#"{"a": }"#, r#"{"a": 1,}"#, r#"{"a": 01}"#],
    );
    let word = "root ::= \"Straße\" [α-ω]{2,} | .{3}".to_owned();
    check(
        Grammar::Gbnf(word),
        &["Straßeαβ", "a\né"],
        &["Straßeα", "ab"],
    );
}

#[test]
fn what_is_wrong_with_a_grammar_is_said() {
    let refused = |grammar: Grammar| tiny().grammars.compile(&grammar).unwrap_err().to_string();
    for (gbnf, words) in [
        ("root ::= a", "\"a\" is used and not defined"),
        ("a ::= \"x\"", "no rule \"root\""),
        ("root ::= \"x", "line 1: expected the end of a string"),
        ("root ::= \"x\"\nroot ::= \"y\"", "defined twice"),
        ("root ::= (\"x\"\n", "line 2: expected \")\""),
        ("root ::= [a-z]{3,1}", "expected a repetition"),
        ("root = \"x\"", "expected \"::=\""),
    ] {
        let error = refused(Grammar::Gbnf(gbnf.to_owned()));
        assert!(error.contains(words), "{gbnf}: {error}");
    }
    assert!(refused(Grammar::Regex("(a".to_owned())).contains("cannot be compiled"));
    assert!(refused(Grammar::Lark("start: missing".to_owned())).contains("missing"));
    let unsatisfiable = json!({"type": "integer", "minimum": 5, "maximum": 1});
    assert!(refused(Grammar::JsonSchema(unsatisfiable)).contains("cannot be compiled"));
}

#[test]
fn hostile_grammars_cost_little_and_are_refused() {
    let refuse = |grammar: Grammar| {
        let start = std::time::Instant::now();
        let error = follow_anything(&grammar);
        let took = start.elapsed();
        assert!(took.as_secs() < 20, "{error:?} took {took:?}");
        error
    };
    let large = Grammar::Regex("a".repeat(2 << 20));
    assert!(matches!(
        refuse(large),
        Some(ConstraintError::TooLarge { .. })
    ));
    let deep = Grammar::Lark(format!(
        "start: {}\"a\"{}",
        "(".repeat(9999),
        ")".repeat(9999)
    ));
    assert!(matches!(
        refuse(deep),
        Some(ConstraintError::TooDeep { .. })
    ));
    let mut nested = json!({"type": "integer"});
    for _ in 0..120 {
        nested = json!({"type": "array", "items": nested});
    }
    // Deep, and still fine.
    assert_eq!(refuse(Grammar::JsonSchema(nested)), None);
    let doubling: String = (0..40)
        .map(|level| format!("r{level} ::= r{0} r{0}\n", level + 1))
        .collect();
    let doubling = Grammar::Gbnf(format!("root ::= r0\n{doubling}r40 ::= \"a\""));
    assert!(matches!(refuse(doubling), Some(ConstraintError::Gbnf(_))));
    let chain: String = (0..20_000)
        .map(|level| format!("r{level} ::= \"a\" r{}\n", level + 1))
        .collect();
    let chain = Grammar::Gbnf(format!("root ::= r0\n{chain}r20000 ::= root"));
    refuse(chain);
    let repeats = Grammar::Regex("((a{1,500}b?){1,500}c?){1,500}".to_owned());
    refuse(repeats);
    // Every split of the text is a parse of its own.
    refuse(Grammar::Lark(
        "start: s\ns: s s s | s s | \"a\" | \"a\" s | \"\"".to_owned(),
    ));
    let unlike = (0..3000)
        .map(|n| format!("/[^{n}]*{n}x/"))
        .collect::<Vec<_>>()
        .join(" | ");
    refuse(Grammar::Lark(format!("start: {unlike}")));
}

/// Compiles a grammar and follows it with many tokens; the error that ends that, if any.
fn follow_anything(grammar: &Grammar) -> Option<ConstraintError> {
    let mut constraint = match tiny().grammars.compile(grammar) {
        Ok(constraint) => constraint,
        Err(error) => return Some(error),
    };
    for place in 0..100 {
        constraint.start(&[]);
        let mask = match constraint.mask() {
            Ok(mask) => mask,
            Err(error) => return Some(error),
        };
        let allowed: Vec<u32> = mask.tokens().collect();
        let token = allowed[place * 31 % allowed.len()];
        if let Err(error) = constraint.accept(token) {
            return Some(error);
        }
    }
    None
}

#[test]
fn masks_of_a_draft_are_those_of_going_there() {
    let text = "{\"name\": \"ab\", \"kind\": 3, \"count\": 12, \"next\": null}";
    let tokens = encode(text);
    let mut plain = compile(&Grammar::JsonSchema(schema()));
    let mut drafting = compile(&Grammar::JsonSchema(schema()));
    let mut at = 0;
    while at < tokens.len() {
        let width = (at % 4 + 1).min(tokens.len() - at);
        let mut draft = tokens[at..at + width].to_vec();
        // Every third draft is wrong at its end.
        let is_wrong = at % 3 == 0;
        if is_wrong {
            draft[width - 1] = encode("~")[0];
        }
        let allowed = drafting.allowed(&draft).unwrap();
        assert_eq!(allowed < width, is_wrong && allowed == width - 1);
        drafting.start(&draft);
        for &token in &tokens[at..at + width] {
            let mask = plain.mask().unwrap().clone();
            assert_eq!(drafting.mask().unwrap(), &mask);
            assert!(mask.allows(token));
            plain.accept(token).unwrap();
            drafting.accept(token).unwrap();
        }
        // Another answer that goes on from here goes its own way.
        let mut other = drafting.fork().unwrap();
        assert_eq!(other.mask().unwrap(), plain.mask().unwrap());
        let end = other.mask().unwrap().tokens().next().unwrap();
        other.accept(end).unwrap();
        at += width;
    }
    assert!(plain.is_complete().unwrap() && drafting.is_complete().unwrap());
    let wrong = encode("x")[0];
    let mut fresh = compile(&Grammar::JsonObject);
    assert_eq!(
        fresh.accept(wrong),
        Err(ConstraintError::Violated { token: wrong })
    );
    // Nothing has moved.
    fresh.accept(encode("{")[0]).unwrap();
}

fn thinking() -> Arc<ThinkingTokens> {
    Arc::new(ThinkingTokens::of(&tiny().tokenizer).unwrap().unwrap())
}

fn guide(
    state: ThinkingState,
    budget: Option<usize>,
    constraint: Option<(Begin, Constraint)>,
) -> Guide {
    let vocabulary = tiny().tokenizer.vocabulary_size();
    Guide::new(Some(thinking()), state, budget, constraint, vocabulary)
}

/// Says a text as far as nothing is forced; returns what was said.
fn say(guide: &mut Guide, text: &str) -> String {
    let mut said = Vec::new();
    for token in encode(text) {
        while let Some(forced) = guide.forced_next() {
            guide.accept(forced).unwrap();
            said.push(forced);
        }
        guide.accept(token).unwrap();
        said.push(token);
    }
    while let Some(forced) = guide.forced_next() {
        guide.accept(forced).unwrap();
        said.push(forced);
    }
    decode(&said)
}

#[test]
fn thinking_ends_in_time() {
    const WORDS: &str = "\n\nConsidering the limited time by the user, I have to give the solution \
                         based on the thinking directly now.\n</think>\n\n";
    let hm = encode("hm hm");
    let mut late = guide(ThinkingState::Inside, Some(hm.len()), None);
    assert_eq!(say(&mut late, "hm hm"), format!("hm hm{WORDS}"));
    assert!(!late.is_thinking());
    assert_eq!(say(&mut late, "so"), "so");
    // Opening it again does not bring more time.
    assert_eq!(say(&mut late, "<think>"), format!("<think>{WORDS}"));

    let mut none = guide(ThinkingState::Inside, Some(0), None);
    assert_eq!(say(&mut none, ""), "</think>\n\n");
    let mut early = guide(ThinkingState::Inside, Some(50), None);
    assert_eq!(say(&mut early, "hm</think>so"), "hm</think>so");
    let mut without = guide(ThinkingState::Closed, Some(0), None);
    assert_eq!(say(&mut without, "so"), "so");
    let mut opening = guide(ThinkingState::Unmarked, Some(hm.len()), None);
    assert_eq!(
        say(&mut opening, "<think>hm hm"),
        format!("<think>hm hm{WORDS}")
    );

    let mut drafts = guide(ThinkingState::Inside, Some(hm.len()), None);
    let long = [hm.clone(), hm.clone()].concat();
    assert_eq!(drafts.worth_verifying(&long).unwrap(), hm.len());
}

#[test]
fn a_constraint_begins_behind_the_thinking() {
    let constraint = compile(&Grammar::JsonSchema(schema()));
    let mut guide = guide(
        ThinkingState::Inside,
        None,
        Some((Begin::BehindThinking, constraint)),
    );
    assert!(guide.is_thinking());
    let mask = guide.mask().unwrap().unwrap();
    assert!(mask.allows(encode("x")[0]));
    assert!(tiny().rules.ends().iter().all(|&end| !mask.allows(end)));
    assert!(!mask.allows(encode("<tool_call>")[0]));
    assert_eq!(say(&mut guide, "hm.</think>"), "hm.</think>\n\n");
    assert!(!guide.is_thinking());
    let mask = guide.mask().unwrap().unwrap();
    assert!(mask.allows(encode("{")[0]) && !mask.allows(encode("x")[0]));
}

#[test]
fn a_call_is_free_to_make_and_then_has_to_be_right() {
    let trigger = encode("<tool_call>")[0];
    let constraint = compile(&calls(ToolForm::Xml, true, true));
    let begin = Some((Begin::Behind(trigger), constraint));
    let mut guide = guide(ThinkingState::Closed, None, begin);
    assert!(guide.mask().unwrap().is_none());
    say(&mut guide, "Let me see.\n\n");
    let draft = encode("so <tool_call>\n<function=stop>\n");
    let until = draft.iter().position(|&token| token == trigger).unwrap() + 1;
    assert_eq!(guide.worth_verifying(&draft).unwrap(), until);
    say(&mut guide, "<tool_call>");
    assert!(guide.mask().unwrap().is_some());
    assert!(guide.accept(encode("x")[0]).is_err());
    // What the form prescribes is known before the model says it.
    let certain = decode(&guide.certain().unwrap());
    // Behind it a token may begin that has the sign and a part of the name.
    assert_eq!(certain, "\n<function");
    say(&mut guide, "\n<function=stop>\n</function>\n</tool_call>");
    let mask = guide.mask().unwrap().unwrap();
    assert!(tiny().rules.ends().iter().all(|&end| mask.allows(end)));
    assert!(mask.allows(encode("\n")[0]) && !mask.allows(encode("x")[0]));
}
