//! The tiny model under the scheduler, held to grammars, seeds, budgets and stop strings.
#![expect(clippy::unwrap_used, reason = "tests end where they are surprised")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use text::output::{Ending, Output, OutputOptions, ToolForm};
use text::tokenizer::Decode;
use text::{ThinkingState, Tokenizer};
use tidemill_engine::constraint::{
    Begin, Constraint, Grammar, GrammarLimits, Grammars, Guide, ThinkingTokens,
};
use tidemill_engine::sampling::{Logprobs, LogprobsOf, TokenLogprobs, preset};
use tidemill_engine::speculate::{Depth, DraftCounts, Speculation, SpeculationSettings};
use tidemill_engine::stop::StopStrings;
use tidemill_engine::{
    BackendChoice, EngineSettings, Event, FinishReason, OpenedModel, Request, RequestId,
    SamplerSettings, Scheduler, SchedulerSettings, TokenRules, Work,
};

#[derive(Deserialize)]
struct HeldOut {
    task: String,
    tools: Vec<Value>,
    prompt_ids: Vec<u32>,
}

struct Tiny {
    opened: OpenedModel,
    tokenizer: Arc<Tokenizer>,
    grammars: Grammars,
    thinking: Arc<ThinkingTokens>,
    held_out: Vec<HeldOut>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny")
}

fn tiny() -> &'static Tiny {
    static TINY: OnceLock<Tiny> = OnceLock::new();
    TINY.get_or_init(|| {
        let opened = OpenedModel::open(&folder().join("tidemill-tiny.gguf")).unwrap();
        let tokenizer = Arc::new(opened.tokenizer().unwrap());
        let held_out = std::fs::read_to_string(folder().join("heldout.jsonl")).unwrap();
        Tiny {
            grammars: Grammars::new(Arc::clone(&tokenizer), GrammarLimits::default(), 1).unwrap(),
            thinking: Arc::new(ThinkingTokens::of(&tokenizer).unwrap().unwrap()),
            held_out: held_out
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect(),
            opened,
            tokenizer,
        }
    })
}

fn engine(sequences: usize) -> tidemill_engine::Engine {
    let settings = EngineSettings {
        total_tokens: 1024 * sequences,
        sequences,
        ..EngineSettings::single(2048)
    };
    let backend = BackendChoice::Cpu(cpu::Cpu::new(Arc::new(cpu::Pool::new(1))).unwrap());
    tiny().opened.load(backend, &settings, |_, _| {}).unwrap()
}

fn scheduler(sequences: usize) -> Scheduler {
    let rules = Arc::new(TokenRules::of(&tiny().tokenizer));
    Scheduler::new(engine(sequences), rules, SchedulerSettings::default())
        .with_tokenizer(Arc::clone(&tiny().tokenizer))
}

/// What became of an answer.
#[derive(Debug, Default, Clone, PartialEq)]
struct Answer {
    tokens: Vec<u32>,
    text: String,
    logprobs: Vec<Option<TokenLogprobs>>,
    end: Option<FinishReason>,
    stop_string: Option<String>,
    error: Option<String>,
}

/// Runs all requests to their ends.
fn finish(scheduler: &mut Scheduler) -> BTreeMap<(RequestId, usize), Answer> {
    let mut answers: BTreeMap<(RequestId, usize), Answer> = BTreeMap::new();
    while !scheduler.is_idle() {
        for event in scheduler.step() {
            match event {
                Event::Token {
                    request,
                    choice,
                    token,
                    text,
                    logprobs,
                } => {
                    let answer = answers.entry((request, choice)).or_default();
                    assert_eq!(answer.end, None);
                    answer.tokens.push(token);
                    answer.text.push_str(&text);
                    answer.logprobs.push(logprobs);
                }
                Event::Finished {
                    request,
                    choice,
                    reason,
                    text,
                    stop_string,
                    ..
                } => {
                    let answer = answers.entry((request, choice)).or_default();
                    answer.text.push_str(&text);
                    answer.end = Some(reason);
                    answer.stop_string = stop_string;
                }
                Event::Failed { request, error } => {
                    answers.entry((request, 0)).or_default().error = Some(error);
                }
                _ => {}
            }
        }
    }
    answers
}

fn prompts(task: &str) -> impl Iterator<Item = &'static HeldOut> {
    tiny().held_out.iter().filter(move |row| row.task == task)
}

fn guide(state: ThinkingState, budget: Option<usize>, grammar: Option<(Begin, Grammar)>) -> Guide {
    let compile = |(begin, grammar): (Begin, Grammar)| -> (Begin, Constraint) {
        (begin, tiny().grammars.compile(&grammar).unwrap())
    };
    let vocabulary = tiny().tokenizer.vocabulary_size();
    let thinking = Some(Arc::clone(&tiny().thinking));
    Guide::new(thinking, state, budget, grammar.map(compile), vocabulary)
}

fn wild(seed: u64) -> SamplerSettings {
    SamplerSettings {
        temperature: 1.5,
        seed,
        ..SamplerSettings::default()
    }
}

fn request(prompt: &[u32], sampling: SamplerSettings, most: usize) -> Request {
    let mut request = Request::new(prompt.to_vec());
    request.sampling = sampling;
    request.limits.max_tokens = Some(most);
    request
}

#[test]
fn answers_fit_a_schema_whatever_the_temperature() {
    let schema = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 10},
            "age": {"type": "integer", "minimum": 1, "maximum": 120},
            "city": {"enum": ["Rome", "Oslo", null]}
        },
        "required": ["name", "age", "city"],
        "additionalProperties": false
    });
    let mut scheduler = scheduler(8);
    for (seed, row) in prompts("json").take(24).enumerate() {
        let grammar = Some((Begin::BehindThinking, Grammar::JsonSchema(schema.clone())));
        let state = ThinkingState::of_prompt(
            &tiny()
                .tokenizer
                .decode(&row.prompt_ids, Decode::Everything)
                .unwrap(),
        );
        // Thinking ends in time, and the answer fits behind it.
        let guide = guide(state, Some(8), grammar);
        let request = request(&row.prompt_ids, wild(seed as u64), 250);
        scheduler.submit_guided(request, guide).unwrap();
    }
    let answers = finish(&mut scheduler);
    assert_eq!(answers.len(), 24);
    for answer in answers.values() {
        assert_eq!(
            (&answer.error, answer.end),
            (&None, Some(FinishReason::Stop)),
            "{answer:?}"
        );
        let json = answer.text.rsplit("</think>").next().unwrap();
        let value: Value = serde_json::from_str(json).unwrap();
        let age = value["age"].as_i64().unwrap();
        assert!(
            value["name"].is_string() && (1..=120).contains(&age),
            "{value}"
        );
        assert!(
            [json!("Rome"), json!("Oslo"), Value::Null].contains(&value["city"]),
            "{value}"
        );
    }
    scheduler.engine().assert_consistent();
}

/// Held to a schema and to words that leave little choice, with drafts of these kinds: the answers,
/// what the drafter did, and how many steps it took.
fn structured(
    speculation: Option<SpeculationSettings>,
) -> (BTreeMap<(RequestId, usize), Answer>, DraftCounts, u64) {
    let schema = json!({
        "type": "object",
        "properties": {
            "temperature": {"type": "integer", "minimum": 1, "maximum": 120},
            "conditions": {"enum": ["sunny", "cloudy"]}
        },
        "required": ["temperature", "conditions"],
        "additionalProperties": false
    });
    let mut scheduler = scheduler(4);
    if let Some(settings) = speculation {
        let mut now = 0;
        let clock = Box::new(move || {
            now += 1;
            Duration::from_micros(now)
        });
        let hidden = tiny().opened.config.hidden_size;
        let drafter = Speculation::new(scheduler.engine(), hidden, settings, clock);
        scheduler = scheduler.with_drafter(Box::new(drafter));
    }
    for (seed, row) in prompts("json").take(12).enumerate() {
        let words = r"(sunny|cloudy), and that is all there is to say about (Rome|Oslo) today";
        let grammar = match seed % 2 {
            0 => Grammar::Regex(words.to_owned()),
            _ => Grammar::JsonSchema(schema.clone()),
        };
        let guide = guide(ThinkingState::Closed, None, Some((Begin::AtOnce, grammar)));
        let mut request = request(&row.prompt_ids, wild(seed as u64), 40);
        if seed % 3 == 0 {
            request.sampling.temperature = 0.0;
        }
        scheduler.submit_guided(request, guide).unwrap();
    }
    let answers = finish(&mut scheduler);
    scheduler.assert_consistent();
    let steps = scheduler.metrics().steps;
    (answers, scheduler.drafts(), steps)
}

#[test]
fn grammars_and_drafts_give_the_same_answers() {
    let (plain, _, plain_steps) = structured(None);
    assert!(
        plain
            .values()
            .all(|answer| answer.error.is_none() && answer.end.is_some())
    );
    for (head, lookup) in [(false, false), (true, false), (true, true)] {
        let settings = SpeculationSettings {
            head,
            lookup,
            depth: Depth::Full,
            ..SpeculationSettings::default()
        };
        let (answers, counts, steps) = structured(Some(settings));
        assert_eq!(answers, plain, "{settings:?}");
        // What the grammar leaves no choice about is drafted whatever else is.
        assert!(
            steps < plain_steps * 4 / 5,
            "{steps} of {plain_steps}: {counts:?}"
        );
    }
}

#[test]
fn calls_fit_their_tools_whatever_the_temperature() {
    let mut scheduler = scheduler(8);
    let mut tools = BTreeMap::new();
    for (seed, row) in prompts("tool call").take(24).enumerate() {
        let grammar = Grammar::ToolCalls {
            tools: row.tools.clone(),
            form: ToolForm::Xml,
            is_parallel: false,
            is_opened: false,
        };
        let prompt = tiny()
            .tokenizer
            .decode(&row.prompt_ids, Decode::Everything)
            .unwrap();
        let state = ThinkingState::of_prompt(&prompt);
        let guide = guide(state, Some(12), Some((Begin::BehindThinking, grammar)));
        let request = request(&row.prompt_ids, wild(seed as u64 + 100), 600);
        let id = scheduler.submit_guided(request, guide).unwrap();
        tools.insert(id, &row.tools);
    }
    for ((id, _), answer) in finish(&mut scheduler) {
        let end = (&answer.error, answer.end);
        assert_eq!(end, (&None, Some(FinishReason::Stop)), "{answer:?}");
        let said = answer.text.rsplit("</think>").next().unwrap().trim_start();
        let options = OutputOptions::new(ThinkingState::Closed, tools[&id]);
        let parsed = Output::read(said, options, Ending::Stopped);
        assert_eq!(
            (parsed.content.as_str(), parsed.calls.len()),
            ("", 1),
            "{said}"
        );
        let call = &parsed.calls[0];
        let arguments: serde_json::Map<String, Value> =
            serde_json::from_str(&call.arguments).unwrap();
        let tool = tools[&id]
            .iter()
            .find(|tool| tool["function"]["name"] == call.name.as_str());
        let parameters = &tool.unwrap()["function"]["parameters"];
        for name in parameters["required"].as_array().unwrap() {
            assert!(arguments.contains_key(name.as_str().unwrap()), "{said}");
        }
        for (name, value) in &arguments {
            let schema = &parameters["properties"][name];
            let fits = match schema["type"].as_str().unwrap() {
                "integer" => value.is_i64(),
                "number" => value.is_number(),
                "boolean" => value.is_boolean(),
                "array" => value.is_array(),
                "object" => value.is_object(),
                _ => value.is_string(),
            };
            assert!(fits, "{name}: {value} for {schema}");
            if let Some(allowed) = schema["enum"].as_array() {
                assert!(allowed.contains(value), "{name}: {value} for {schema}");
            }
        }
    }
}

#[test]
fn a_seed_gives_the_same_answer_alone_and_in_a_crowd() {
    let rows: Vec<&HeldOut> = prompts("stories").take(16).collect();
    let sampling = |seed| SamplerSettings {
        seed,
        ..preset("thinking").unwrap().over(SamplerSettings::default())
    };
    let mut crowd = scheduler(16);
    let ids: Vec<RequestId> = (0..)
        .zip(&rows)
        .map(|(seed, row)| {
            crowd
                .submit(request(&row.prompt_ids, sampling(seed), 60))
                .unwrap()
        })
        .collect();
    let together = finish(&mut crowd);
    let mut different = std::collections::BTreeSet::new();
    for (seed, (row, id)) in rows.iter().zip(ids).enumerate().step_by(3) {
        let mut alone = scheduler(1);
        alone
            .submit(request(&row.prompt_ids, sampling(seed as u64), 60))
            .unwrap();
        let answers = finish(&mut alone);
        let answer = answers.values().next().unwrap();
        assert_eq!(answer, &together[&(id, 0)], "seed {seed}");
        different.insert(answer.tokens.clone());
    }
    assert!(different.len() > 3);
}

#[test]
fn log_probabilities_are_those_of_the_model() {
    let row = prompts("stories").next().unwrap();
    let sampling = SamplerSettings {
        logprobs: Some(Logprobs {
            top: 4,
            of: LogprobsOf::Model,
        }),
        presence_penalty: 0.5,
        ..wild(3)
    };
    let mut scheduler = scheduler(2);
    scheduler
        .submit(request(&row.prompt_ids, sampling, 20))
        .unwrap();
    let answers = finish(&mut scheduler);
    let answer = answers.values().next().unwrap();

    // The same tokens through a fresh engine at once.
    let mut engine = engine(1);
    let sequence = engine.start().unwrap();
    let tokens = [row.prompt_ids.as_slice(), &answer.tokens].concat();
    let logits: Vec<usize> = (row.prompt_ids.len() - 1..tokens.len() - 1).collect();
    let outputs = engine
        .step(&[Work {
            sequence,
            tokens,
            logits,
        }])
        .unwrap();
    let rules = TokenRules::of(&tiny().tokenizer);
    assert_eq!(answer.tokens.len(), answer.logprobs.len());
    for (index, (&token, logprobs)) in answer.tokens.iter().zip(&answer.logprobs).enumerate() {
        let again = TokenLogprobs::of_logits(outputs[0].row(index), &rules, token, 4);
        assert_eq!(logprobs.as_ref(), Some(&again), "token {index}");
    }
}

#[test]
fn stop_strings_end_the_text_before_them() {
    let row = prompts("stories").next().unwrap();
    let greedy = SamplerSettings::default();
    let mut plain = scheduler(1);
    plain
        .submit(request(&row.prompt_ids, greedy.clone(), 100))
        .unwrap();
    let whole = finish(&mut plain).into_values().next().unwrap();
    let words: Vec<&str> = whole.text.split(' ').collect();
    // From the middle of one word to the middle of the next.
    let (a, b) = (words[6], words[7]);
    let stop = format!("{} {}", &a[a.len() - 1..], &b[..1]);
    let at = whole.text.find(&stop).unwrap();

    let mut request = request(&row.prompt_ids, greedy, 100);
    request.limits.stop = StopStrings::new(&["never said".to_owned(), stop.clone()]).unwrap();
    let mut stopping = scheduler(1);
    stopping.submit(request).unwrap();
    let cut = finish(&mut stopping).into_values().next().unwrap();
    assert_eq!(cut.text, whole.text[..at]);
    assert_eq!(
        (cut.end, cut.stop_string),
        (Some(FinishReason::Stop), Some(stop))
    );
    assert!(whole.tokens.starts_with(&cut.tokens) && cut.tokens.len() < whole.tokens.len());
}

#[test]
fn budgets_and_least_lengths_are_kept() {
    let thinks = |row: &&HeldOut| {
        let prompt = tiny()
            .tokenizer
            .decode(&row.prompt_ids, Decode::Everything)
            .unwrap();
        ThinkingState::of_prompt(&prompt) == ThinkingState::Inside
    };
    let row = tiny().held_out.iter().find(thinks).unwrap();
    for budget in [0, 3] {
        let mut scheduler = scheduler(2);
        let mut two = request(&row.prompt_ids, wild(1), 200);
        two.choices = 2;
        let guide = guide(ThinkingState::Inside, Some(budget), None);
        scheduler.submit_guided(two, guide).unwrap();
        let answers = finish(&mut scheduler);
        assert_eq!(answers.len(), 2);
        for answer in answers.values() {
            let (thought, _) = answer.text.split_once("</think>\n\n").unwrap();
            let excuse = "Considering the limited time by the user";
            assert_eq!(thought.contains(excuse), budget > 0, "{thought}");
        }
    }
    let mut scheduler = scheduler(1);
    let row = prompts("chat").next().unwrap();
    let mut long = request(&row.prompt_ids, SamplerSettings::default(), 80);
    long.sampling.min_tokens = 70;
    scheduler.submit(long).unwrap();
    let answer = finish(&mut scheduler).into_values().next().unwrap();
    assert!(answer.tokens.len() >= 70, "{answer:?}");
}

#[test]
fn a_grammar_that_costs_too_much_ends_its_own_request_only() {
    let limits = GrammarLimits {
        mask_items: 60,
        ..GrammarLimits::default()
    };
    let tight = Grammars::new(Arc::clone(&tiny().tokenizer), limits, 1).unwrap();
    let ambiguous = Grammar::Lark("start: s\ns: s s | \"a\" | \"b\" | \"c\" | \"ab\"".to_owned());
    let constraint = tight.compile(&ambiguous).unwrap();
    let vocabulary = tiny().tokenizer.vocabulary_size();
    let begin = Some((Begin::AtOnce, constraint));
    let hostile = Guide::new(None, ThinkingState::Closed, None, begin, vocabulary);
    let row = prompts("chat").next().unwrap();
    let mut scheduler = scheduler(2);
    let bad = scheduler
        .submit_guided(request(&row.prompt_ids, wild(1), 200), hostile)
        .unwrap();
    let good = scheduler
        .submit(request(&row.prompt_ids, SamplerSettings::default(), 50))
        .unwrap();
    let answers = finish(&mut scheduler);
    let error = answers[&(bad, 0)].error.as_ref().unwrap();
    assert!(error.contains("too complex"), "{error}");
    assert_eq!(answers[&(good, 0)].error, None);
    assert_eq!(answers[&(good, 0)].end, Some(FinishReason::Stop));
    scheduler.engine().assert_consistent();
}
