//! Facts planted at many depths are recalled on every road through the engine.
//!
//! A recurrent state that is cut, copied or restored a little wrong still writes fluent text; what
//! it forgets is what stood far back. So the tiny model is asked for facts from all depths of its
//! prompt: read at once, in small chunks, among others, from the cache, as one of several answers,
//! and after it had to make room. The answers have to be the same ones, and as right as
//! transformers' are.
#![expect(clippy::unwrap_used, reason = "tests end where they are surprised")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use text::{ChatRequest, Message, Prompt, SpecialTokens, Tokenizer};
use tidemill_engine::cache::CacheSettings;
use tidemill_engine::{
    BackendChoice, EngineSettings, Event, OpenedModel, Request, RequestId, Scheduler,
    SchedulerSettings, TokenRules,
};

#[derive(Deserialize)]
struct HeldOut {
    task: String,
    expected: Value,
    prompt_ids: Vec<u32>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny")
}

/// A prompt with the answer it asks for.
#[derive(Clone)]
struct Asked {
    prompt: Vec<u32>,
    expected: String,
    /// Where the fact stands, in tenths of the prompt; `None` for held-out prompts.
    depth: Option<usize>,
}

struct Roads {
    opened: OpenedModel,
    tokenizer: Arc<Tokenizer>,
}

/// How a scheduler is set up for a road.
#[derive(Clone, Copy)]
struct Road {
    sequences: usize,
    /// Tokens of key/value memory.
    memory: usize,
    chunk: usize,
    caches: bool,
    choices: usize,
    /// How often the same prompts are asked.
    rounds: usize,
    /// Whether requests come while others run, each more urgent than those before it.
    pushes: bool,
}

const PLAIN: Road = Road {
    sequences: 1,
    memory: 2048,
    chunk: 512,
    caches: false,
    choices: 1,
    rounds: 1,
    pushes: false,
};

impl Roads {
    fn open() -> Self {
        let opened = OpenedModel::open(&folder().join("tidemill-tiny.gguf")).unwrap();
        Self {
            tokenizer: Arc::new(opened.tokenizer().unwrap()),
            opened,
        }
    }

    /// All answers on a road, for each round and choice, and how many pauses there were.
    fn go(&self, road: Road, asked: &[Asked]) -> (Vec<Vec<String>>, usize) {
        let settings = EngineSettings {
            total_tokens: road.memory,
            sequences: road.sequences,
            ..EngineSettings::single(road.memory.min(2048))
        };
        let backend = BackendChoice::Cpu(cpu::Cpu::new(Arc::new(cpu::Pool::new(2))).unwrap());
        let engine = self.opened.load(backend, &settings, |_, _| {}).unwrap();
        let rules = Arc::new(TokenRules::of(&self.tokenizer));
        let cache = match road.caches {
            true => CacheSettings::default(),
            false => CacheSettings::off(),
        };
        let settings = SchedulerSettings {
            chunk_tokens: road.chunk,
            cache,
            ..SchedulerSettings::default()
        };
        let mut scheduler =
            Scheduler::new(engine, rules, settings).with_tokenizer(Arc::clone(&self.tokenizer));
        let (mut rounds, mut pauses) = (Vec::new(), 0);
        for _ in 0..road.rounds {
            let mut texts: BTreeMap<(usize, RequestId), String> = BTreeMap::new();
            let mut waiting = asked.iter().enumerate();
            loop {
                let count = if road.pushes { 1 } else { asked.len() };
                for (index, asked) in waiting.by_ref().take(count) {
                    let mut request = Request::new(asked.prompt.clone());
                    request.choices = road.choices;
                    request.limits.max_tokens = Some(40);
                    request.priority = if road.pushes { index as i32 } else { 0 };
                    scheduler.submit(request).unwrap();
                }
                if scheduler.is_idle() {
                    break;
                }
                for event in scheduler.step() {
                    match event {
                        Event::Token {
                            request,
                            choice,
                            text,
                            ..
                        }
                        | Event::Finished {
                            request,
                            choice,
                            text,
                            ..
                        } => {
                            texts.entry((choice, request)).or_default().push_str(&text);
                        }
                        Event::Failed { error, .. } => panic!("{error}"),
                        Event::Paused { .. } => pauses += 1,
                        _ => {}
                    }
                }
            }
            scheduler.engine().assert_consistent();
            let texts: Vec<String> = texts.into_values().collect();
            rounds.extend(texts.chunks(asked.len()).map(<[String]>::to_vec));
        }
        (rounds, pauses)
    }

    /// Facts in the form that the model was trained on, the one asked for at each depth.
    fn planted(&self) -> Vec<Asked> {
        const FACTS: usize = 10;
        let people = [
            "Ivy", "Cleo", "Sara", "Otto", "Lena", "Max", "Nina", "Sam", "Rosa", "Lou",
        ];
        let cities = [
            "Delhi", "Seoul", "Rome", "Oslo", "Paris", "Cairo", "Lima", "Tokyo", "Bern", "Madrid",
        ];
        let template = self.opened.template().unwrap();
        let mut asked = Vec::new();
        for depth in 0..FACTS {
            for turn in 0..3 {
                let city = |person: usize| cities[(person * 3 + turn * 7 + 1) % FACTS];
                let facts: Vec<String> = (0..FACTS)
                    .map(|person| format!("{} lives in {}.", people[person], city(person)))
                    .collect();
                let mut request = ChatRequest::new(vec![
                    Message::new(
                        "user",
                        format!("Here are some facts.\n{}", facts.join("\n")),
                    ),
                    Message::new("assistant", "I will remember that."),
                    Message::new("user", format!("Where does {} live?", people[depth])),
                ]);
                request.enable_thinking = Some(false);
                let prompt =
                    Prompt::new(&template, &self.tokenizer, &request, SpecialTokens::AsText);
                asked.push(Asked {
                    prompt: prompt.unwrap().tokens,
                    expected: facts[depth].clone(),
                    depth: Some(depth),
                });
            }
        }
        asked
    }
}

fn held_out() -> Vec<Asked> {
    let text = std::fs::read_to_string(folder().join("heldout.jsonl")).unwrap();
    let rows = text
        .lines()
        .map(|line| serde_json::from_str::<HeldOut>(line).unwrap());
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    rows.filter(|row| ["recall", "far recall"].contains(&row.task.as_str()))
        .filter(|row| {
            let count = seen.entry(row.task.clone()).or_default();
            *count += 1;
            *count <= 12
        })
        .map(|row| Asked {
            prompt: row.prompt_ids,
            expected: row.expected.as_str().unwrap_or_default().to_owned(),
            depth: None,
        })
        .collect()
}

fn is_right(asked: &Asked, answer: &str) -> bool {
    answer.rsplit("</think>").next().unwrap().trim() == asked.expected
}

#[test]
fn facts_are_recalled_on_every_road() {
    let roads = Roads::open();
    let mut asked = roads.planted();
    let planted = asked.len();
    asked.extend(held_out());
    let (plain, _) = roads.go(PLAIN, &asked);
    let plain = &plain[0];

    let right: Vec<bool> = asked
        .iter()
        .zip(plain)
        .map(|(a, text)| is_right(a, text))
        .collect();
    for depth in 0..10 {
        let of_depth: Vec<bool> = asked
            .iter()
            .zip(&right)
            .filter(|(asked, _)| asked.depth == Some(depth))
            .map(|(_, right)| *right)
            .collect();
        let count = of_depth.iter().filter(|right| **right).count();
        println!("depth {depth}: {count} of {} right", of_depth.len());
    }
    // Of 30, at all depths: less would be a state that forgets, more than the model can is nobody's.
    let near = |depths: std::ops::Range<usize>| {
        let of = asked.iter().zip(&right);
        of.filter(|(asked, right)| **right && asked.depth.is_some_and(|d| depths.contains(&d)))
            .count()
    };
    let [first, last] = [near(0..5), near(5..10)];
    assert!(first >= 11 && last >= 7, "{first} and {last} of 15 right");
    let far = right[planted..].iter().filter(|right| **right).count();
    println!("held out: {far} of {} right", asked.len() - planted);
    // transformers has 82 and 76 of 100 right.
    assert!(far * 10 >= (asked.len() - planted) * 8, "{far}");

    let all = [
        ("chunks of 16", Road { chunk: 16, ..PLAIN }, false),
        (
            "sixteen at once",
            Road {
                sequences: 16,
                memory: 16_384,
                chunk: 64,
                ..PLAIN
            },
            false,
        ),
        (
            "cached",
            Road {
                sequences: 4,
                memory: 8192,
                caches: true,
                rounds: 2,
                ..PLAIN
            },
            false,
        ),
        (
            "three answers",
            Road {
                sequences: 4,
                memory: 8192,
                choices: 3,
                ..PLAIN
            },
            false,
        ),
        (
            "too little memory",
            Road {
                sequences: 6,
                memory: 1728,
                chunk: 32,
                pushes: true,
                ..PLAIN
            },
            true,
        ),
    ];
    for (name, road, has_to_pause) in all {
        let (rounds, pauses) = roads.go(road, &asked);
        assert_eq!(rounds.len(), road.rounds * road.choices, "{name}");
        for (round, answers) in rounds.iter().enumerate() {
            for (index, (answer, plain)) in answers.iter().zip(plain).enumerate() {
                assert_eq!(answer, plain, "{name}, round {round}, prompt {index}");
            }
        }
        println!("{name}: the same answers, {pauses} pauses");
        assert!(pauses > 0 || !has_to_pause, "{name}");
    }
}
