//! Where the messages of a conversation lie in its prompt.

use text::{ChatRequest, TokenId, Tokenizer};

use super::{Boundary, BoundaryKind};

/// What begins a call in the family's chat protocol.
const TOOL_CALL: &str = "<tool_call>";

/// The boundaries of a rendered conversation, by the tokens that end turns in it. Templates write a
/// line end behind each, which belongs to the turn. System message and tools make one turn, and so
/// do the answers of tools that follow each other.
pub fn boundaries_of_chat(
    tokens: &[TokenId],
    tokenizer: &Tokenizer,
    chat: &ChatRequest,
) -> Vec<Boundary> {
    let is_line_end = |token: &TokenId| tokenizer.token_bytes(*token).ok() == Some(b"\n");
    let ends = tokens.iter().enumerate().filter_map(|(at, &token)| {
        let next = tokens.get(at + 1).is_some_and(&is_line_end);
        tokenizer
            .is_stop(token)
            .then_some(at + 1 + usize::from(next))
    });
    let mut kinds = kinds_of_turns(chat).into_iter();
    let mut last = BoundaryKind::EndOfSystem;
    let mut boundaries: Vec<Boundary> = ends
        .map(|offset| {
            last = kinds.next().unwrap_or(last);
            Boundary { offset, kind: last }
        })
        .collect();
    // The system message shows how calls look; that is none.
    let system = boundaries.first().map_or(0, |first| first.offset);
    if let Some(call) = tokenizer.id_of(TOOL_CALL) {
        let calls = tokens.iter().enumerate().skip(system);
        boundaries.extend(
            calls
                .filter(|&(_, &token)| token == call)
                .map(|(offset, _)| Boundary {
                    offset,
                    kind: BoundaryKind::StartOfToolCall,
                }),
        );
    }
    boundaries.sort_by_key(|boundary| boundary.offset);
    boundaries
}

/// The token before which a state is worth keeping when the model chooses it, if the model has it.
pub fn start_of_tool_call(tokenizer: &Tokenizer) -> Option<TokenId> {
    tokenizer.id_of(TOOL_CALL)
}

fn kinds_of_turns(chat: &ChatRequest) -> Vec<BoundaryKind> {
    let begins_with_system = chat.messages.first().is_some_and(|m| m.role == "system");
    let mut kinds = Vec::new();
    if begins_with_system || !chat.tools.is_empty() {
        kinds.push(BoundaryKind::EndOfSystem);
    }
    let first = usize::from(begins_with_system);
    for (index, message) in chat.messages.iter().enumerate().skip(first) {
        let next = chat.messages.get(index + 1);
        let goes_on = message.role == "tool" && next.is_some_and(|next| next.role == "tool");
        if !goes_on {
            kinds.push(match message.role.as_str() {
                "user" => BoundaryKind::EndOfQuestion(index),
                _ => BoundaryKind::EndOfMessage(index),
            });
        }
    }
    kinds
}
