//! An answer as a whole.

use super::{Answer, AnswerEvent, Figures, Finish, TokenLogprob};
use crate::error::{ApiError, ErrorKind};

/// All answers to a prompt.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Collected {
    /// The prompt's tokens.
    pub(crate) prompt: Vec<u32>,
    /// Log-probabilities of the prompt's tokens but the first, if they were asked for.
    pub(crate) prompt_logprobs: Vec<TokenLogprob>,
    pub(crate) choices: Vec<CollectedChoice>,
    /// What they cost together.
    pub(crate) figures: Figures,
}

/// One complete answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CollectedChoice {
    pub(crate) reasoning: String,
    pub(crate) content: String,
    pub(crate) calls: Vec<CollectedCall>,
    pub(crate) logprobs: Vec<TokenLogprob>,
    pub(crate) finish: Finish,
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CollectedCall {
    pub(crate) id: String,
    pub(crate) name: String,
    /// The text of a JSON object.
    pub(crate) arguments: String,
}

#[derive(Default)]
struct Growing {
    reasoning: String,
    content: String,
    calls: Vec<CollectedCall>,
    logprobs: Vec<TokenLogprob>,
    finish: Option<Finish>,
}

/// Waits for all answers.
///
/// # Errors
/// When the request failed.
pub(crate) async fn collect(mut answer: Answer) -> Result<Collected, ApiError> {
    let mut collected = Collected::default();
    let mut growing: Vec<Growing> = Vec::new();
    let mut first = 0;
    while let Some(event) = answer.next().await {
        match event {
            AnswerEvent::Prompt {
                first_choice,
                tokens,
            } => {
                first = first_choice;
                collected.prompt = tokens;
            }
            AnswerEvent::PromptLogprobs { tokens, .. } => collected.prompt_logprobs.extend(tokens),
            event => take(event, first, &mut growing)?,
        }
    }
    for grown in growing {
        let gone = || ApiError::new(ErrorKind::Internal, "an answer did not come to its end");
        let finish = grown.finish.ok_or_else(gone)?;
        collected.figures.add(&finish.figures);
        collected.choices.push(CollectedChoice {
            reasoning: grown.reasoning,
            content: grown.content,
            calls: grown.calls,
            logprobs: grown.logprobs,
            finish,
        });
    }
    Ok(collected)
}

fn take(event: AnswerEvent, first: usize, growing: &mut Vec<Growing>) -> Result<(), ApiError> {
    match event {
        AnswerEvent::Failed(error) => return Err(error),
        AnswerEvent::Token { choice, logprob } => at(growing, choice, first).logprobs.push(logprob),
        AnswerEvent::Reasoning { choice, text } => {
            at(growing, choice, first).reasoning.push_str(&text)
        }
        AnswerEvent::Content { choice, text } => at(growing, choice, first).content.push_str(&text),
        AnswerEvent::CallStart {
            choice, id, name, ..
        } => at(growing, choice, first).calls.push(CollectedCall {
            id,
            name,
            arguments: String::new(),
        }),
        AnswerEvent::CallArguments {
            choice,
            index,
            json,
        } => {
            if let Some(call) = at(growing, choice, first).calls.get_mut(index) {
                call.arguments.push_str(&json);
            }
        }
        AnswerEvent::Finished { choice, finish } => {
            at(growing, choice, first).finish = Some(finish)
        }
        AnswerEvent::Prompt { .. }
        | AnswerEvent::PromptLogprobs { .. }
        | AnswerEvent::Started { .. }
        | AnswerEvent::Progress { .. }
        | AnswerEvent::CallEnd { .. } => {}
    }
    Ok(())
}

fn at(growing: &mut Vec<Growing>, choice: usize, first: usize) -> &mut Growing {
    let choice = choice.saturating_sub(first);
    if growing.len() <= choice {
        growing.resize_with(choice + 1, Growing::default);
    }
    &mut growing[choice]
}
