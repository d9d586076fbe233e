//! Knows whether text stands in a fenced code block.

/// Follows text line by line. Fences are three or more backticks or tildes, as in Markdown;
/// indentation and quote marks before them do not count.
#[derive(Debug, Clone, Default)]
pub(super) struct Fences {
    open: Option<Fence>,
    line: Line,
}

/// The characters that began a block; at least as many of them end it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fence {
    mark: char,
    length: usize,
}

#[derive(Debug, Clone, Copy, Default)]
enum Line {
    /// Nothing yet but indentation.
    #[default]
    Start,
    /// A row of marks.
    Marks(Fence),
    /// A row of marks and what follows it.
    Labelled {
        fence: Fence,
        is_bare: bool,
    },
    Other,
}

impl Fences {
    /// Takes the next character.
    pub(super) fn push(&mut self, character: char) {
        self.line = match (self.line, character) {
            (line, '\n') => {
                self.end_line(line);
                Line::Start
            }
            (Line::Start, ' ' | '\t' | '>') => Line::Start,
            (Line::Start, mark @ ('`' | '~')) => Line::Marks(Fence { mark, length: 1 }),
            (Line::Marks(fence), mark) if mark == fence.mark => Line::Marks(Fence {
                length: fence.length + 1,
                ..fence
            }),
            (Line::Marks(fence), other) if fence.length >= 3 => Line::Labelled {
                fence,
                is_bare: other.is_whitespace(),
            },
            // Code in a line, such as ```x```.
            (Line::Labelled { fence, .. }, '`') if fence.mark == '`' => Line::Other,
            (Line::Labelled { fence, is_bare }, other) => Line::Labelled {
                fence,
                is_bare: is_bare && other.is_whitespace(),
            },
            _ => Line::Other,
        };
    }

    /// Whether what comes next is in a block, or in the line that begins or ends one.
    pub(super) fn is_inside(&self) -> bool {
        let begins = match self.line {
            Line::Marks(fence) => fence.length >= 3,
            Line::Labelled { .. } => true,
            Line::Start | Line::Other => false,
        };
        self.open.is_some() || begins
    }

    fn end_line(&mut self, line: Line) {
        let (fence, is_bare) = match line {
            Line::Marks(fence) if fence.length >= 3 => (fence, true),
            Line::Labelled { fence, is_bare } => (fence, is_bare),
            _ => return,
        };
        match self.open {
            None => self.open = Some(fence),
            Some(open) if is_bare && fence.mark == open.mark && fence.length >= open.length => {
                self.open = None;
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_begin_and_end_with_their_marks() {
        let check = |text: &str, want: bool| {
            let mut fences = Fences::default();
            text.chars().for_each(|character| fences.push(character));
            assert_eq!(fences.is_inside(), want, "{text:?}");
        };
        check("", false);
        check("text ``` text\n", false);
        check("```rust", true);
        check("```rust\nfn", true);
        check("  > ~~~\n", true);
        check("```\na\n```\n", false);
        check("```\na\n```  \n", false);
        check("````\n```\n", true);
        check("````\n```\n`````\n", false);
        check("```\n~~~\n", true);
        check("```\n```rust\n", true);
        check("```a``` b\n", false);
        check("``\n", false);
    }
}
