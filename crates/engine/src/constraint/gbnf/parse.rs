//! GBNF text to rules.

use std::collections::HashMap;

use super::GbnfError;

/// A grammar. Names are numbers.
#[derive(Debug)]
pub(super) struct Rules {
    /// The bodies.
    pub(super) bodies: Vec<Node>,
    /// The rule to start with.
    pub(super) root: usize,
}

/// A part of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    /// One after the other.
    Sequence(Vec<Node>),
    /// One of these.
    Choice(Vec<Node>),
    /// So many times; no upper bound is `None`.
    Repeat(Box<Node>, u32, Option<u32>),
    /// These characters.
    Literal(String),
    /// One of these characters (or, if the flag is set, one of all others).
    Class(Vec<(char, char)>, bool),
    /// Any character.
    Any,
    /// Another rule.
    Rule(usize),
}

/// Reads all rules. Recursion is bounded by the nesting of brackets, which callers bound.
pub(super) fn rules(text: &str) -> Result<Rules, GbnfError> {
    let mut parser = Parser {
        text,
        at: 0,
        names: HashMap::new(),
        bodies: Vec::new(),
    };
    parser.skip(true);
    while !parser.rest().is_empty() {
        parser.rule()?;
        parser.skip(true);
    }
    let mut bodies = Vec::with_capacity(parser.bodies.len());
    let names: HashMap<usize, &str> = parser.names.iter().map(|(name, id)| (*id, *name)).collect();
    for (id, body) in parser.bodies.into_iter().enumerate() {
        bodies.push(body.ok_or_else(|| GbnfError::UnknownRule {
            name: names.get(&id).copied().unwrap_or_default().to_owned(),
        })?);
    }
    let root = parser.names.get("root").copied();
    Ok(Rules {
        bodies,
        root: root.ok_or(GbnfError::NoRoot)?,
    })
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    names: HashMap<&'t str, usize>,
    /// `None` for rules that were used but not defined so far.
    bodies: Vec<Option<Node>>,
}

impl<'t> Parser<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn take(&mut self, wanted: &str) -> bool {
        let is_there = self.rest().starts_with(wanted);
        if is_there {
            self.at += wanted.len();
        }
        is_there
    }

    fn wrong<T>(&self, expected: &'static str) -> Result<T, GbnfError> {
        let found = match self.peek() {
            None => "the end".to_owned(),
            Some('\n') => "the end of the line".to_owned(),
            Some(_) => format!("{:?}", self.rest().chars().take(12).collect::<String>()),
        };
        Err(GbnfError::Syntax {
            line: 1 + self.text[..self.at].matches('\n').count(),
            expected,
            found,
        })
    }

    /// Skips spaces and comments; line ends only if they do not end a rule.
    fn skip(&mut self, with_lines: bool) {
        loop {
            match self.peek() {
                Some(' ' | '\t' | '\r') => self.at += 1,
                Some('\n') if with_lines => self.at += 1,
                Some('#') => self.at += self.rest().find('\n').unwrap_or(self.rest().len()),
                _ => return,
            }
        }
    }

    fn name(&mut self) -> Option<&'t str> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let rest = self.rest();
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        self.at += end;
        (end > 0).then(|| &rest[..end])
    }

    fn id_of(&mut self, name: &'t str) -> usize {
        let next = self.bodies.len();
        let id = *self.names.entry(name).or_insert(next);
        if id == next {
            self.bodies.push(None);
        }
        id
    }

    fn rule(&mut self) -> Result<(), GbnfError> {
        let Some(name) = self.name() else {
            return self.wrong("the name of a rule");
        };
        self.skip(false);
        if !self.take("::=") {
            return self.wrong("\"::=\"");
        }
        self.skip(true);
        let body = self.choice(false)?;
        if !matches!(self.peek(), None | Some('\n')) {
            return self.wrong("the end of the rule");
        }
        let id = self.id_of(name);
        if self.bodies[id].replace(body).is_some() {
            let name = name.to_owned();
            return Err(GbnfError::DefinedTwice { name });
        }
        Ok(())
    }

    fn choice(&mut self, in_group: bool) -> Result<Node, GbnfError> {
        let mut choices = vec![self.sequence(in_group)?];
        while self.take("|") {
            self.skip(true);
            choices.push(self.sequence(in_group)?);
        }
        Ok(match choices.len() {
            1 => choices.remove(0),
            _ => Node::Choice(choices),
        })
    }

    fn sequence(&mut self, in_group: bool) -> Result<Node, GbnfError> {
        let mut parts = Vec::new();
        loop {
            let part = match self.peek() {
                Some('"') => self.literal()?,
                Some('[') => self.class()?,
                Some('.') => {
                    self.at += 1;
                    Node::Any
                }
                Some('(') => {
                    self.at += 1;
                    self.skip(true);
                    let inner = self.choice(true)?;
                    if !self.take(")") {
                        return self.wrong("\")\"");
                    }
                    inner
                }
                _ => match self.name() {
                    Some(name) => Node::Rule(self.id_of(name)),
                    None => break,
                },
            };
            self.skip(in_group);
            parts.push(self.repeated(part, in_group)?);
        }
        Ok(match parts.len() {
            1 => parts.remove(0),
            _ => Node::Sequence(parts),
        })
    }

    fn repeated(&mut self, mut part: Node, in_group: bool) -> Result<Node, GbnfError> {
        loop {
            let (low, high) = match self.peek() {
                Some('*') => (0, None),
                Some('+') => (1, None),
                Some('?') => (0, Some(1)),
                Some('{') => {
                    self.at += 1;
                    self.skip(in_group);
                    let low = self.number()?;
                    self.skip(in_group);
                    let high = if self.take(",") {
                        self.skip(in_group);
                        self.number()?
                    } else {
                        low
                    };
                    self.skip(in_group);
                    let low = low.unwrap_or(0);
                    if self.peek() != Some('}') || high.is_some_and(|high| high < low) {
                        return self.wrong("a repetition such as {2,5}");
                    }
                    (low, high)
                }
                _ => return Ok(part),
            };
            self.at += 1;
            self.skip(in_group);
            part = Node::Repeat(Box::new(part), low, high);
        }
    }

    fn number(&mut self) -> Result<Option<u32>, GbnfError> {
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_ascii_digit());
        let digits = &rest[..end.unwrap_or(rest.len())];
        if digits.is_empty() {
            return Ok(None);
        }
        let Ok(number) = digits.parse() else {
            return self.wrong("a smaller number");
        };
        self.at += digits.len();
        Ok(Some(number))
    }

    fn literal(&mut self) -> Result<Node, GbnfError> {
        self.at += 1;
        let mut characters = String::new();
        loop {
            match self.peek() {
                Some('"') => {
                    self.at += 1;
                    return Ok(Node::Literal(characters));
                }
                None | Some('\n') => return self.wrong("the end of a string"),
                Some(_) => characters.push(self.character()?),
            }
        }
    }

    fn class(&mut self) -> Result<Node, GbnfError> {
        self.at += 1;
        let is_negated = self.take("^");
        let mut ranges = Vec::new();
        loop {
            match self.peek() {
                Some(']') => {
                    self.at += 1;
                    return Ok(Node::Class(ranges, is_negated));
                }
                None | Some('\n') => return self.wrong("the end of a character class"),
                Some(_) => {}
            }
            let low = self.character()?;
            let is_range = self.rest().starts_with('-') && !self.rest().starts_with("-]");
            let high = if is_range {
                self.at += 1;
                self.character()?
            } else {
                low
            };
            if high < low {
                return self.wrong("a range from low to high");
            }
            ranges.push((low, high));
        }
    }

    /// A character of a literal or class, perhaps escaped.
    fn character(&mut self) -> Result<char, GbnfError> {
        let Some(first) = self.peek() else {
            return self.wrong("a character");
        };
        self.at += first.len_utf8();
        if first != '\\' {
            return Ok(first);
        }
        let Some(escaped) = self.peek() else {
            return self.wrong("a character behind the backslash");
        };
        self.at += escaped.len_utf8();
        let digits = match escaped {
            'n' => return Ok('\n'),
            'r' => return Ok('\r'),
            't' => return Ok('\t'),
            '\\' | '"' | '[' | ']' | '-' | '^' => return Ok(escaped),
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => return self.wrong("an escape: n, r, t, x, u, U, or one of \\ \" [ ]"),
        };
        let code = self
            .rest()
            .get(..digits)
            .filter(|code| code.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|code| u32::from_str_radix(code, 16).ok())
            .and_then(char::from_u32);
        match code {
            Some(character) => {
                self.at += digits;
                Ok(character)
            }
            None => self.wrong("the hexadecimal number of a character"),
        }
    }
}
