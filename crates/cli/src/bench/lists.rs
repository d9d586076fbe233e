//! Lists of numbers as people write them for benchmarks: `512`, `1,2,4`, `1-8`, `512-4096*2`.

use std::str::FromStr;

/// More values than this are a slip, not a benchmark.
const MOST: usize = 1024;

/// Numbers in the order they were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Counts(Vec<usize>);

/// Why a list cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no list of numbers; write 512, or 1,2,4, or a range: 1-8, 0-4096+1024, 512-4096*2"
)]
pub(crate) struct BadList(String);

impl std::ops::Deref for Counts {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        &self.0
    }
}

impl FromStr for Counts {
    type Err = BadList;

    fn from_str(text: &str) -> Result<Self, BadList> {
        let mut values = Vec::new();
        for part in text.split(',') {
            let found = range(part.trim()).filter(|found| values.len() + found.len() <= MOST);
            values.extend(found.ok_or_else(|| BadList(text.to_owned()))?);
        }
        Ok(Self(values))
    }
}

/// One number, or `first-last`, with `+step` or `*factor` behind it.
fn range(part: &str) -> Option<Vec<usize>> {
    let Some((first, rest)) = part.split_once('-') else {
        return Some(vec![part.parse().ok()?]);
    };
    let first: usize = first.parse().ok()?;
    // The next value is this one times the factor, plus the step.
    let (last, factor, step) = match (rest.split_once('+'), rest.split_once('*')) {
        (Some((last, step)), _) => (last, 1, step.parse().ok().filter(|&step| step > 0)?),
        (_, Some((last, factor))) => (last, factor.parse().ok().filter(|&n| n > 1)?, 0),
        (None, None) => (rest, 1, 1),
    };
    let last: usize = last.parse().ok().filter(|&last| last >= first)?;
    let mut values = Vec::new();
    let mut at = Some(first);
    while let Some(value) = at.filter(|&value| value <= last) {
        values.push(value);
        // A range from 0 by a factor would never end; the cap ends the others.
        at = value
            .checked_mul(factor)
            .and_then(|next: usize| next.checked_add(step))
            .filter(|&next| next > value && values.len() <= MOST);
    }
    Some(values)
}

/// A prompt and an answer: `512,128`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) prompt: usize,
    pub(crate) generated: usize,
}

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let (prompt, generated) = text.split_once(',')?;
            Some(Self {
                prompt: prompt.trim().parse().ok().filter(|&count| count > 0)?,
                generated: generated.trim().parse().ok().filter(|&count| count > 0)?,
            })
        };
        read().ok_or_else(|| {
            format!("{text:?} is no pair; write prompt and answer tokens, such as 512,128")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges_are_read() {
        let check = |text: &str, expected: &[usize]| {
            assert_eq!(text.parse::<Counts>().as_deref(), Ok(expected), "{text}");
        };
        check("512", &[512]);
        check("0,4096,16384", &[0, 4096, 16384]);
        check("1-4", &[1, 2, 3, 4]);
        check("0-4096+2048,7", &[0, 2048, 4096, 7]);
        check("512-4096*2", &[512, 1024, 2048, 4096]);
        check("0-8*2", &[0]);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "a",
            "1,,2",
            "-1",
            "4-1",
            "1-9+0",
            "1-9*1",
            "0-99999999",
            "1.5",
        ] {
            assert!(text.parse::<Counts>().is_err(), "{text}");
        }
        for text in ["512", "512,", "0,1", "1,2,3"] {
            assert!(text.parse::<Pair>().is_err(), "{text}");
        }
        let pair = Pair {
            prompt: 512,
            generated: 128,
        };
        assert_eq!("512,128".parse(), Ok(pair));
    }
}
