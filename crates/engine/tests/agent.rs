//! An agent's conversation with tools: each turn reads what is new, and nothing twice, also if every
//! turn is answered by a new process that has the folder of the one before.
//!
//! The tables of 30,000 tokens:
//! `cargo test --release -p tidemill-engine --test agent -- --ignored --nocapture`.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests end where they are surprised, and report"
)]

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;
use text::template::{FunctionCall, MessageToolCall};
use text::{ChatRequest, ChatTemplate, Message, Prompt, SpecialTokens, Tokenizer};
use tidemill_engine::cache::disk::{DiskSettings, DiskTier};
use tidemill_engine::cache::{boundaries_of_chat, start_of_tool_call};
use tidemill_engine::{
    BackendChoice, EngineSettings, Event, Miss, OpenedModel, Request, Reuse, ReusedFrom, Scheduler,
    SchedulerSettings, TokenRules,
};

/// What answers the turns of a conversation.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Life {
    /// One scheduler all of them.
    Long,
    /// A new one each, with the same folder.
    Restarted,
}

struct Agent {
    opened: OpenedModel,
    context: usize,
    /// For a conversation whose scheduler is started again.
    folder: Option<TempDir>,
    scheduler: Option<Scheduler>,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    /// Earlier prompts, with the places behind their last messages.
    earlier: Vec<(Vec<u32>, usize)>,
}

/// What a turn cost.
struct Turn {
    prompt: usize,
    new: usize,
    prefilled: usize,
    reuse: Reuse,
}

impl Agent {
    fn new(context: usize, life: Life) -> Self {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny/tidemill-tiny.gguf");
        let opened = OpenedModel::open(&path).unwrap();
        Self {
            tokenizer: opened.tokenizer().unwrap(),
            template: opened.template().unwrap(),
            opened,
            context,
            folder: (life == Life::Restarted).then(|| tempfile::tempdir().unwrap()),
            scheduler: None,
            earlier: Vec::new(),
        }
    }

    fn start(&self) -> Scheduler {
        let settings = EngineSettings {
            sequences: 2,
            ..EngineSettings::single(self.context)
        };
        let pool = Arc::new(cpu::Pool::new(cpu::default_threads()));
        let backend = BackendChoice::Cpu(cpu::Cpu::new(pool).unwrap());
        let numerics = backend.numerics();
        let engine = self.opened.load(backend, &settings, |_, _| {}).unwrap();
        let rules = Arc::new(TokenRules::of(&self.tokenizer));
        let scheduler = Scheduler::new(engine, rules, SchedulerSettings::default());
        let Some(folder) = &self.folder else {
            return scheduler;
        };
        let folder = folder.path().to_owned();
        let disk = DiskSettings::new(folder, 1 << 30, &self.opened, &settings, &numerics).unwrap();
        scheduler.with_tier(Box::new(DiskTier::open(&disk).unwrap()))
    }

    /// Sends the conversation as it is, as a client does. What the model says does not matter.
    fn ask(&mut self, chat: &ChatRequest) -> Turn {
        if self.folder.is_some() {
            // All is written before the next one starts.
            drop(self.scheduler.take());
        }
        let mut scheduler = self.scheduler.take().unwrap_or_else(|| self.start());
        let content = SpecialTokens::AsText;
        let prompt = Prompt::new(&self.template, &self.tokenizer, chat, content)
            .unwrap()
            .tokens;
        let mut request = Request::new(prompt.clone());
        request.boundaries = boundaries_of_chat(&prompt, &self.tokenizer, chat);
        request.keep_before = start_of_tool_call(&self.tokenizer).into_iter().collect();
        request.limits.max_tokens = Some(4);
        let mut ends = request.boundaries.iter();
        let last_end = ends.rfind(|b| b.kind.message().is_some()).unwrap().offset;

        let mut reuse = None;
        let mut prefilled = None;
        scheduler.submit(request).unwrap();
        while !scheduler.is_idle() {
            for event in scheduler.step() {
                match event {
                    Event::Started { reuse: told, .. } => reuse = Some(told),
                    Event::Finished { usage, .. } => prefilled = Some(usage.prefilled),
                    Event::Failed { error, .. } => panic!("{error}"),
                    _ => {}
                }
            }
        }
        scheduler.assert_consistent();
        self.scheduler = Some(scheduler);
        // Behind the longest earlier conversation that this one goes on from.
        let begins = |(earlier, end): &&(Vec<u32>, usize)| prompt.starts_with(&earlier[..*end]);
        let known = self
            .earlier
            .iter()
            .filter(begins)
            .map(|&(_, end)| end)
            .max();
        let turn = Turn {
            prompt: prompt.len(),
            new: prompt.len() - known.unwrap_or(0),
            prefilled: prefilled.unwrap(),
            reuse: reuse.unwrap(),
        };
        let from = match (self.earlier.is_empty(), &self.folder) {
            (true, _) => ReusedFrom::Nowhere,
            (false, None) => ReusedFrom::Memory,
            (false, Some(_)) => ReusedFrom::Tier,
        };
        assert_eq!(turn.reuse.from, from, "{:?}", turn.reuse);
        assert_eq!(turn.reuse.cached + turn.prefilled, turn.prompt);
        assert!(turn.prefilled <= turn.new, "only what is new is read");
        self.earlier.push((prompt, last_end));
        turn
    }
}

/// Text of about this many tokens.
fn text(seed: usize, tokens: usize) -> String {
    let words = [
        "the", "sum", "of", "red", "and", "blue", "is", "7", "in", "list",
    ];
    (0..tokens)
        .map(|at| words[(at * 7 + at / 9 * seed + seed) % 10])
        .collect::<Vec<_>>()
        .join(" ")
}

fn tools(tokens: usize) -> Vec<Value> {
    let tool = |name: &str| {
        json!({"type": "function", "function": {
            "name": name,
            "description": text(name.len(), tokens / 3),
            "parameters": {"type": "object", "properties": {"path": {"type": "string"}}},
        }})
    };
    ["read_file", "list_files", "run"].map(tool).to_vec()
}

fn calls_tool(turn: usize, thought: &str) -> Message {
    Message {
        reasoning_content: Some(thought.to_owned()),
        tool_calls: vec![MessageToolCall {
            id: Some(format!("call_{turn}")),
            kind: Some("function".to_owned()),
            function: FunctionCall {
                name: "read_file".to_owned(),
                arguments: json!({"path": format!("src/file_{turn}.rs")}),
            },
        }],
        ..Message::new("assistant", "")
    }
}

fn answers(thought: &str, content: &str) -> Message {
    Message {
        reasoning_content: Some(thought.to_owned()),
        ..Message::new("assistant", content)
    }
}

/// What the agent does between its tools.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Habit {
    /// One question, then tool after tool.
    Works,
    /// Every third turn is an answer and a new question, which makes the template drop the thoughts
    /// since the last one.
    AsksBetween,
}

/// Twelve turns, of which the last one's prompt has about `total` tokens.
fn converse(habit: Habit, total: usize, life: Life) {
    let per_turn = total / 14;
    let mut agent = Agent::new(total + total / 2, life);
    let mut chat = ChatRequest::new(vec![
        Message::new("system", text(1, per_turn)),
        Message::new("user", text(2, per_turn / 2)),
    ]);
    chat.tools = tools(per_turn);
    println!(
        "\nan agent that {habit:?}, {life:?}\n\
         | turn | prompt | new | cached | read | why not more |\n|---|---|---|---|---|---|"
    );
    let mut first_stripped = None;
    for number in 1..=12 {
        let turn = agent.ask(&chat);
        println!(
            "| {number} | {} | {} | {} | {} | {} |",
            turn.prompt, turn.new, turn.reuse.cached, turn.prefilled, turn.reuse.rest
        );
        if let Some(message) = first_stripped.take() {
            let reason = turn.reuse.rest;
            assert!(
                matches!(reason, Miss::Diverged { message: Some(at), .. } if at == message),
                "turn {number}: {reason:?}, and message {message} was the first to change"
            );
        }
        let thought = text(number, per_turn / 8);
        if habit == Habit::AsksBetween && number % 3 == 0 {
            // The first answer since the last question.
            let asks = |message: &Message| message.role == "user";
            first_stripped = chat.messages.iter().rposition(asks).map(|at| at + 1);
            let content = text(number + 7, per_turn / 4);
            chat.messages.push(answers(&thought, &content));
            let question = text(number + 40, per_turn / 4);
            chat.messages.push(Message::new("user", question));
        } else {
            chat.messages.push(calls_tool(number, &thought));
            let result = text(number + 20, per_turn);
            chat.messages.push(Message::new("tool", result));
        }
    }
}

const LIVES: [Life; 2] = [Life::Long, Life::Restarted];

#[test]
fn turns_read_only_what_is_new() {
    for life in LIVES {
        converse(Habit::Works, 4000, life);
    }
}

#[test]
fn dropped_thoughts_cost_their_own_turns_only() {
    for life in LIVES {
        converse(Habit::AsksBetween, 4000, life);
    }
}

#[test]
#[ignore = "30,000 tokens: a minute in a release build"]
fn long_conversations_read_only_what_is_new() {
    for life in LIVES {
        converse(Habit::Works, 23_000, life);
        converse(Habit::AsksBetween, 30_000, life);
    }
}
