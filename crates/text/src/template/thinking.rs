//! What a rendered prompt says about thinking: where the model's own text begins.

/// The tag that opens the thinking block.
pub const THINK_OPEN: &str = "<think>";
/// The tag that closes it.
pub const THINK_CLOSE: &str = "</think>";

/// Where a prompt leaves the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThinkingState {
    /// Inside an open `<think>`: the model's first words are reasoning.
    Inside,
    /// Behind a closed thinking block: the model's first words are the answer.
    Closed,
    /// The prompt holds no thinking block; the model may open one itself.
    Unmarked,
}

impl ThinkingState {
    /// Reads the state off the end of a prompt: what follows the last start of a turn.
    pub fn of_prompt(prompt: &str) -> Self {
        const TURN_START: &str = "<|im_start|>";
        let turn = prompt.rfind(TURN_START).map_or(prompt, |at| &prompt[at..]);
        match (turn.rfind(THINK_OPEN), turn.rfind(THINK_CLOSE)) {
            (Some(open), Some(close)) if open < close => Self::Closed,
            (Some(_), _) => Self::Inside,
            (None, Some(_)) => Self::Closed,
            (None, None) => Self::Unmarked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_turn_decides() {
        let check = |prompt, want| assert_eq!(ThinkingState::of_prompt(prompt), want, "{prompt:?}");
        check("<|im_start|>assistant\n<think>\n", ThinkingState::Inside);
        check(
            "<|im_start|>assistant\n<think>\n\n</think>\n\n",
            ThinkingState::Closed,
        );
        check("<|im_start|>assistant\n", ThinkingState::Unmarked);
        check("<think><|im_start|>assistant\n", ThinkingState::Unmarked);
        check(
            "<|im_start|>assistant\n<think>\nhm, <think>",
            ThinkingState::Inside,
        );
        check("a </think> b", ThinkingState::Closed);
        check("", ThinkingState::Unmarked);
    }
}
