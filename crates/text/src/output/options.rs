//! How the model's output is to be read.

use std::sync::Arc;

use serde_json::Value;

use super::schema::ToolSchemas;
use crate::template::ThinkingState;

/// What the parser has to know of the request.
#[derive(Debug, Clone)]
pub struct OutputOptions {
    /// Where the prompt left the model.
    pub thinking: ThinkingState,
    /// Where reasoning goes.
    pub reasoning: ReasoningFormat,
    /// What becomes of tool calls.
    pub calls: CallMode,
    /// Whether a call of a tool that the request does not have stays content. Otherwise it is a
    /// call, and the client decides.
    pub only_known_tools: bool,
    /// Whether a call that the output ends with counts inside reasoning, too. Some models of the
    /// family forget to close their reasoning first.
    pub calls_in_reasoning: bool,
    /// The request's tools.
    pub tools: Arc<ToolSchemas>,
}

impl OutputOptions {
    /// The defaults: reasoning apart, calls streamed if there are tools.
    pub fn new(thinking: ThinkingState, tools: &[Value]) -> Self {
        Self {
            thinking,
            reasoning: ReasoningFormat::Separate,
            calls: if tools.is_empty() {
                CallMode::Off
            } else {
                CallMode::Streamed
            },
            only_known_tools: false,
            calls_in_reasoning: true,
            tools: Arc::new(ToolSchemas::new(tools)),
        }
    }
}

/// Where reasoning goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReasoningFormat {
    /// It has events of its own, and its tags are markup. `deepseek` on the command line.
    #[default]
    Separate,
    /// It is content with its tags, as the model wrote it. `none` on the command line.
    InContent,
}

/// No such reasoning format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no reasoning format is called `{0}`; there are none, deepseek and auto")]
pub struct UnknownReasoningFormat(String);

impl std::str::FromStr for ReasoningFormat {
    type Err = UnknownReasoningFormat;

    /// `auto` is what suits the family, which is [`ReasoningFormat::Separate`].
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "none" => Ok(Self::InContent),
            "deepseek" | "auto" => Ok(Self::Separate),
            _ => Err(UnknownReasoningFormat(name.to_owned())),
        }
    }
}

/// What becomes of tool calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallMode {
    /// There are none: what looks like one is content.
    Off,
    /// A call is told as soon as its beginning is certain, its arguments as they arrive.
    Streamed,
    /// A call is told when it is complete. One that never is, is content from its first
    /// character on.
    Whole,
}
