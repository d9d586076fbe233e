//! Which model a name means.

use super::Offer;
use crate::error::{ApiError, ErrorKind};

/// A profile of a model, by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) model: usize,
    pub(crate) profile: usize,
}

/// The first profile of the first model: what answers to names of models that nobody has here.
pub(crate) const DEFAULT: Place = Place {
    model: 0,
    profile: 0,
};

/// Beginnings of names that clients are set up with and that mean "the model".
const ANYWHERE: [&str; 10] = [
    "claude-", "gpt-", "chatgpt-", "codex-", "o1", "o3", "o4", "default", "auto", "tidemill",
];

/// The model that a request means. Where there is but one, it answers to any name; among several,
/// names that none has are refused, unless they are those of clouds that clients insist on.
///
/// # Errors
/// When no model has the name.
pub(super) fn find(offers: &[Offer], asked: Option<&str>) -> Result<Place, ApiError> {
    let asked = asked.map(str::trim).unwrap_or_default();
    let profiles = || {
        offers.iter().enumerate().flat_map(|(model, offer)| {
            let profiles = offer.profiles.iter().enumerate();
            profiles.map(move |(profile, named)| (Place { model, profile }, named))
        })
    };
    if asked.is_empty() || profiles().nth(1).is_none() {
        return Ok(DEFAULT);
    }
    let named = |wanted: &str, is_same: fn(&str, &str) -> bool| {
        let mut found = profiles().filter(|(_, profile)| {
            let mut names = profile.names();
            names.any(|name| is_same(name, wanted))
        });
        found.next().map(|(place, _)| place)
    };
    let exact = |name: &str, wanted: &str| name == wanted;
    let loose = |name: &str, wanted: &str| bare(name).eq_ignore_ascii_case(bare(wanted));
    // Routers put a provider's name and a slash in front.
    let behind_slash = asked.rsplit('/').next().unwrap_or(asked);
    let found = named(asked, exact)
        .or_else(|| named(asked, loose))
        .or_else(|| named(behind_slash, loose));
    if let Some(place) = found {
        return Ok(place);
    }
    let lower = behind_slash.to_ascii_lowercase();
    if ANYWHERE.iter().any(|start| lower.starts_with(start)) {
        return Ok(DEFAULT);
    }
    let names: Vec<&str> = profiles()
        .map(|(_, profile)| profile.name.as_str())
        .collect();
    let why = format!(
        "no model is called {asked:?}; there are {}",
        names.join(", ")
    );
    Err(ApiError {
        param: Some("model"),
        ..ApiError::new(ErrorKind::ModelNotFound, why)
    })
}

/// A name without what some clients put behind it.
fn bare(name: &str) -> &str {
    let name = name.strip_suffix(":latest").unwrap_or(name);
    name.strip_suffix(".gguf").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::super::{ModelFacts, Profile};
    use super::*;

    fn offer(names: &[&[&str]]) -> Offer {
        let profile = |names: &&[&str]| Profile {
            name: names[0].to_owned(),
            aliases: names[1..].iter().map(|&name| name.to_owned()).collect(),
        };
        Offer {
            profiles: names.iter().map(profile).collect(),
            facts: ModelFacts::default(),
            fault: None,
        }
    }

    #[test]
    fn names_lead_to_profiles() {
        let offers = [
            offer(&[&["Qwen-35B"], &["coder", "code"]]),
            offer(&[&["small"]]),
        ];
        let check = |asked: Option<&str>, want: Option<(usize, usize)>| {
            let found = find(&offers, asked).ok();
            let want = want.map(|(model, profile)| Place { model, profile });
            assert_eq!(found, want, "{asked:?}");
        };
        check(None, Some((0, 0)));
        check(Some(" "), Some((0, 0)));
        check(Some("Qwen-35B"), Some((0, 0)));
        check(Some("qwen-35b.gguf"), Some((0, 0)));
        check(Some("code"), Some((0, 1)));
        check(Some("small:latest"), Some((1, 0)));
        check(Some("openai/small"), Some((1, 0)));
        check(Some("claude-haiku-4-5"), Some((0, 0)));
        check(Some("gpt-5.2"), Some((0, 0)));
        check(Some("anthropic/claude-opus-4"), Some((0, 0)));
        check(Some("smal"), None);
        assert_eq!(find(&offers[1..], Some("whatever")).ok(), Some(DEFAULT));
    }
}
