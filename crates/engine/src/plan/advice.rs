//! What would fit where a wish does not.

use formats::DType;

use super::anatomy::Anatomy;
use super::error::gib;
use super::wish::Wish;
use crate::settings::KvTypes;

/// Contexts are proposed in multiples of this.
const STEP: usize = 1024;

/// Another quantisation of the same model.
#[derive(Debug, Clone, Copy)]
pub struct Alternative<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its tensors.
    pub anatomy: &'a Anatomy,
}

/// Wishes that can be fulfilled instead, the nearest first; in words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Advice {
    /// Each begins as `a context of ...`.
    pub instead: Vec<String>,
}

impl std::fmt::Display for Advice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.instead.as_slice() {
            [] => f.write_str("nothing smaller that was tried fits either"),
            instead => write!(f, "what would fit: {}", instead.join("; ")),
        }
    }
}

/// What would fit where `wish` does not: fewer tokens of context, keys and values in 8 bits, or another of
/// the quantisations, as far as `fits` says so.
pub fn advise(
    anatomy: &Anatomy,
    wish: &Wish,
    others: &[Alternative<'_>],
    fits: impl Fn(&Anatomy, &Wish) -> bool,
) -> Advice {
    let mut instead = Vec::new();
    let small = Wish {
        kv: KvTypes::both(DType::Q8_0),
        ..wish.clone()
    };
    if wish.kv != small.kv && fits(anatomy, &small) {
        instead.push("keys and values in q8_0 (-ctk q8_0 -ctv q8_0)".to_owned());
    }
    let context = largest(wish.context, |context| {
        let wish = Wish {
            context,
            ..wish.clone()
        };
        fits(anatomy, &wish)
    });
    if let Some(context) = context {
        instead.push(format!("a context of {context} tokens (-c {context})"));
    }
    let sequences = Wish {
        sequences: 1,
        ..wish.clone()
    };
    if wish.sequences > 1 && fits(anatomy, &sequences) {
        instead.push("one answer at a time (-np 1)".to_owned());
    }
    let mut fitting: Vec<&Alternative<'_>> = others
        .iter()
        .filter(|other| fits(other.anatomy, wish))
        .collect();
    fitting.sort_by_key(|other| std::cmp::Reverse(other.anatomy.stored_bytes()));
    for other in fitting.iter().take(2) {
        let size = gib(other.anatomy.stored_bytes());
        instead.push(format!("{} with {size}", other.name));
    }
    Advice { instead }
}

/// The largest multiple of [`STEP`] below `limit` that satisfies a condition, which all smaller ones do
/// then.
fn largest(limit: usize, fits: impl Fn(usize) -> bool) -> Option<usize> {
    let (mut low, mut high) = (0, limit.saturating_sub(1) / STEP);
    while low < high {
        let middle = high - (high - low) / 2;
        if fits(middle * STEP) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    (low > 0).then_some(low * STEP)
}
