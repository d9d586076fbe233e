//! What an answer has to look like, and how long the model may think before it.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use engine::constraint::{Begin, Grammar, GrammarLimits, Grammars, Guide, ThinkingTokens};
use serde_json::Value;
use text::{ThinkingState, Tokenizer};

use crate::exit::Failure;

/// Flags for structured output and thinking.
#[derive(Debug, Args)]
pub(crate) struct StructureArgs {
    /// Rules that answers follow, in GBNF or Lark form.
    #[arg(long, value_name = "RULES", group = "language")]
    grammar: Option<String>,
    /// A file with such rules.
    #[arg(long, value_name = "FILE", group = "language")]
    grammar_file: Option<PathBuf>,
    /// The JSON schema of answers; {} for any JSON.
    #[arg(short = 'j', long, value_name = "SCHEMA", group = "language")]
    json_schema: Option<String>,
    /// A file with such a schema.
    #[arg(long, value_name = "FILE", group = "language")]
    json_schema_file: Option<PathBuf>,
    /// The most tokens of thinking, 0 for none at all (default: as many as the model likes).
    #[arg(long, value_name = "N", value_parser = budget, allow_hyphen_values = true)]
    reasoning_budget: Option<Budget>,
    /// What the model says when its time to think is up (default: what the family's authors use).
    #[arg(long, value_name = "TEXT")]
    reasoning_budget_message: Option<String>,
}

/// A bound on thinking; `None` for no bound.
#[derive(Debug, Clone, Copy)]
struct Budget(Option<usize>);

/// As in other engines, -1 is no bound.
fn budget(text: &str) -> Result<Budget, String> {
    match text.parse::<i64>() {
        Ok(-1) => Ok(Budget(None)),
        Ok(tokens @ 0..) => Ok(Budget(Some(tokens as usize))),
        _ => Err("expected a number of tokens, or -1 for no bound".to_owned()),
    }
}

/// What steers the answers of a conversation.
#[derive(Debug, Default)]
pub(super) struct Structure {
    grammar: Option<(Grammars, Grammar)>,
    thinking: Option<Arc<ThinkingTokens>>,
    budget: Option<usize>,
    vocabulary: usize,
}

impl StructureArgs {
    /// Reads what the flags name, and checks it.
    pub(super) fn read(&self, tokenizer: &Arc<Tokenizer>) -> anyhow::Result<Structure> {
        let words = self.reasoning_budget_message.as_deref();
        let thinking = match words {
            Some(words) => ThinkingTokens::with_words(tokenizer, words),
            None => ThinkingTokens::of(tokenizer),
        };
        let mut structure = Structure {
            grammar: None,
            thinking: thinking?.map(Arc::new),
            budget: self.reasoning_budget.and_then(|Budget(tokens)| tokens),
            vocabulary: tokenizer.vocabulary_size(),
        };
        if let Some(grammar) = self.grammar()? {
            // One answer at a time: its masks are found when they are needed, or beside the model.
            let grammars = Grammars::new(Arc::clone(tokenizer), GrammarLimits::default(), 1)?;
            let bad = |error: &dyn std::fmt::Display| Failure::BadInput(error.to_string());
            grammars.compile(&grammar).map_err(|error| bad(&error))?;
            structure.grammar = Some((grammars, grammar));
        }
        Ok(structure)
    }

    fn grammar(&self) -> anyhow::Result<Option<Grammar>> {
        let read = |path: &PathBuf| {
            std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
        };
        let schema = |text: &str| {
            serde_json::from_str::<Value>(text)
                .map(|schema| Some(Grammar::JsonSchema(schema)))
                .map_err(|error| {
                    let why = format!(
                        "the JSON schema: {error}; expected such as {{\"type\": \"object\"}}"
                    );
                    anyhow::Error::from(Failure::BadInput(why))
                })
        };
        match (
            &self.grammar,
            &self.grammar_file,
            &self.json_schema,
            &self.json_schema_file,
        ) {
            (Some(rules), ..) => Ok(Some(rules_of(rules.clone()))),
            (_, Some(path), ..) => Ok(Some(rules_of(read(path)?))),
            (_, _, Some(text), _) => schema(text),
            (_, _, _, Some(path)) => schema(&read(path)?),
            _ => Ok(None),
        }
    }
}

/// The two forms are told apart by how they define a rule.
fn rules_of(rules: String) -> Grammar {
    if rules.contains("::=") {
        Grammar::Gbnf(rules)
    } else {
        Grammar::Lark(rules)
    }
}

impl Structure {
    /// A guide for the next answer.
    pub(super) fn guide(&self, state: ThinkingState) -> anyhow::Result<Guide> {
        let constraint = match &self.grammar {
            Some((grammars, grammar)) => Some((Begin::BehindThinking, grammars.compile(grammar)?)),
            None => None,
        };
        let thinking = self.thinking.clone();
        let (budget, vocabulary) = (self.budget, self.vocabulary);
        Ok(Guide::new(thinking, state, budget, constraint, vocabulary))
    }
}
