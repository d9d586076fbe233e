//! A conversation on a terminal.

use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use text::Message;

use super::answer::Conversation;
use super::printer::Printer;
use crate::output;
use crate::sampling_args::SamplingArgs;

const HELP: &str = "\
/help             this list
/clear            forget the conversation (the system message stays)
/system TEXT      set the system message and start anew
/think on|off     let the model think before it answers, or not
/retry            answer the last question again
/n N              the most tokens of an answer; 0 for no limit
/bye              leave (also Ctrl-D)
Ctrl-C stops an answer. A line that ends with \\ goes on in the next.";

/// What a line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Question(&'a str),
    Help,
    Clear,
    System(&'a str),
    Think(bool),
    Retry,
    Limit(Option<usize>),
    Leave,
    Unknown(&'a str),
}

fn parse(line: &str) -> Line<'_> {
    let line = line.trim();
    let Some(command) = line.strip_prefix('/') else {
        return Line::Question(line);
    };
    let (name, rest) = command
        .split_once(char::is_whitespace)
        .unwrap_or((command, ""));
    match (name, rest.trim()) {
        ("help" | "?", _) => Line::Help,
        ("clear" | "new", _) => Line::Clear,
        ("system", text) => Line::System(text),
        ("think", "on") => Line::Think(true),
        ("think", "off") => Line::Think(false),
        ("retry" | "regen", _) => Line::Retry,
        ("n", count) if count.parse::<usize>().is_ok() => {
            Line::Limit(count.parse().ok().filter(|&count| count > 0))
        }
        ("bye" | "exit" | "quit", _) => Line::Leave,
        _ => Line::Unknown(line),
    }
}

/// Reads questions until the user leaves.
pub(super) fn hold(mut conversation: Conversation, sampling: &SamplingArgs) -> anyhow::Result<()> {
    let mut editor = DefaultEditor::new()?;
    output::note("Ask something, or /help. Ctrl-D leaves.");
    loop {
        let line = match read_lines(&mut editor) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        match parse(&line) {
            Line::Question("") => {}
            Line::Question(question) => {
                let mut printer = Printer::new();
                let answer = conversation.ask(question, sampling, &mut printer);
                printer.end()?;
                report(answer.map(|answer| answer.summary()));
            }
            Line::Retry => retry(&mut conversation, sampling)?,
            Line::Help => output::note(HELP),
            Line::Clear => conversation.clear(),
            Line::System(text) => {
                conversation.clear();
                conversation.request.messages.clear();
                if !text.is_empty() {
                    conversation
                        .request
                        .messages
                        .push(Message::new("system", text));
                }
            }
            Line::Think(on) => conversation.request.enable_thinking = Some(on),
            Line::Limit(limit) => conversation.max_tokens = limit,
            Line::Leave => return Ok(()),
            Line::Unknown(line) => {
                output::note(&format!("{line:?} is no command; /help lists them"));
            }
        }
    }
}

/// A question that fails (too long a prompt, say) does not end the conversation.
fn report(summary: anyhow::Result<String>) {
    match summary {
        Ok(summary) => output::note(&summary),
        Err(error) => output::note(&format!("error: {error:#}")),
    }
}

fn retry(conversation: &mut Conversation, sampling: &SamplingArgs) -> anyhow::Result<()> {
    let messages = &mut conversation.request.messages;
    let Some(at) = messages.iter().rposition(|message| message.role == "user") else {
        output::note("there is no question to answer again");
        return Ok(());
    };
    let question = messages[at].clone();
    messages.truncate(at);
    let mut printer = Printer::new();
    let answer = conversation.ask_again(question, sampling, &mut printer);
    printer.end()?;
    report(answer.map(|answer| answer.summary()));
    Ok(())
}

fn read_lines(editor: &mut DefaultEditor) -> Result<String, ReadlineError> {
    let mut text = String::new();
    loop {
        let line = editor.readline(if text.is_empty() { "> " } else { "… " })?;
        match line.strip_suffix('\\') {
            Some(part) => {
                text.push_str(part);
                text.push('\n');
            }
            None => {
                text.push_str(&line);
                editor.add_history_entry(&text)?;
                return Ok(text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_questions_or_commands() {
        let check = |line, want| assert_eq!(parse(line), want, "{line:?}");
        check(" What is 1 + 1? ", Line::Question("What is 1 + 1?"));
        check("", Line::Question(""));
        check("/think off", Line::Think(false));
        check("/think", Line::Unknown("/think"));
        check("/system Be  brief.", Line::System("Be  brief."));
        check("/n 20", Line::Limit(Some(20)));
        check("/n 0", Line::Limit(None));
        check("/n many", Line::Unknown("/n many"));
        check("/bye", Line::Leave);
        check("/etc/passwd", Line::Unknown("/etc/passwd"));
    }
}
