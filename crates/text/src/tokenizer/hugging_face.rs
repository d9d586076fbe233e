//! Reads the vocabulary of a Hugging Face folder: `tokenizer.json` and the files beside it.
//!
//! Only what this family uses is taken. Whatever would change the tokens and is not supported is
//! an error, never skipped.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::split::PreTokenizer;
use super::vocabulary::{SpecialIds, TokenKind, Vocabulary};
use super::{TokenId, TokenizerError};

#[derive(Deserialize)]
struct TokenizerFile {
    model: Model,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    vocab: HashMap<String, TokenId>,
    merges: Vec<MergeEntry>,
    #[serde(default)]
    ignore_merges: bool,
}

/// Older files join the halves with a space, newer ones list them.
#[derive(Deserialize)]
#[serde(untagged)]
enum MergeEntry {
    Joined(String),
    Pair(String, String),
}

#[derive(Deserialize)]
struct AddedToken {
    id: TokenId,
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    special: bool,
}

/// `tokenizer_config.json`, as far as it matters here.
#[derive(Deserialize, Default)]
struct TokenizerConfig {
    #[serde(default)]
    bos_token: Option<TokenText>,
    #[serde(default)]
    eos_token: Option<TokenText>,
    #[serde(default)]
    pad_token: Option<TokenText>,
    #[serde(default)]
    add_bos_token: Option<bool>,
}

/// A token by its text, alone or with its properties.
#[derive(Deserialize)]
#[serde(untagged)]
enum TokenText {
    Plain(String),
    Described { content: String },
}

/// `generation_config.json`, as far as it matters here.
#[derive(Deserialize, Default)]
struct GenerationConfig {
    #[serde(default)]
    eos_token_id: Option<OneOrMany>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(TokenId),
    Many(Vec<TokenId>),
}

impl Vocabulary {
    /// Reads `tokenizer.json` in `folder`, and the tokens with a role from
    /// `tokenizer_config.json` and `generation_config.json` where these are present.
    ///
    /// # Errors
    /// When a file cannot be read, or describes a tokenizer of another kind.
    pub fn from_hugging_face(folder: &Path) -> Result<Self, TokenizerError> {
        let path = folder.join("tokenizer.json");
        let text = std::fs::read_to_string(&path)
            .map_err(|source| TokenizerError::Read { path, source })?;
        let mut vocabulary = Self::from_tokenizer_json(&text)?;

        let config: TokenizerConfig = read_optional(&folder.join("tokenizer_config.json"))?;
        let generation: GenerationConfig = read_optional(&folder.join("generation_config.json"))?;
        let id_of = |text: Option<TokenText>| {
            let (TokenText::Plain(text) | TokenText::Described { content: text }) = text?;
            let index = vocabulary.tokens.iter().position(|token| *token == text)?;
            TokenId::try_from(index).ok()
        };
        let mut stop = match generation.eos_token_id {
            Some(OneOrMany::One(id)) => vec![id],
            Some(OneOrMany::Many(ids)) => ids,
            None => Vec::new(),
        };
        stop.extend(id_of(config.eos_token));
        vocabulary.special = SpecialIds {
            bos: id_of(config.bos_token),
            stop,
            padding: id_of(config.pad_token),
            add_bos: config.add_bos_token.unwrap_or(false),
        };
        Ok(vocabulary)
    }

    /// Reads the text of a `tokenizer.json`. The file does not say which tokens have a role.
    ///
    /// # Errors
    /// When it is not JSON, or describes a tokenizer of another kind.
    pub fn from_tokenizer_json(json: &str) -> Result<Self, TokenizerError> {
        let file: TokenizerFile =
            serde_json::from_str(json).map_err(|source| TokenizerError::Json {
                what: "tokenizer.json".to_owned(),
                source,
            })?;
        check_model(&file.model)?;
        check_post_processor(&file.post_processor)?;
        let (tokens, kinds) = collect_tokens(file.model.vocab, file.added_tokens)?;
        Ok(Self {
            tokens,
            kinds,
            merges: file.model.merges.into_iter().map(joined).collect(),
            pre_tokenizer: pre_tokenizer(&file.pre_tokenizer)?,
            normalize_nfc: normalizes_to_nfc(&file.normalizer)?,
            special: SpecialIds::default(),
        })
    }
}

fn joined(merge: MergeEntry) -> String {
    match merge {
        MergeEntry::Joined(joined) => joined,
        MergeEntry::Pair(left, right) => [left, right].join(" "),
    }
}

fn check_model(model: &Model) -> Result<(), TokenizerError> {
    if let Some(kind) = model.kind.as_deref()
        && kind != "BPE"
    {
        return Err(TokenizerError::UnsupportedModel {
            found: kind.to_owned(),
            expected: "BPE (byte-level)",
        });
    }
    if model.ignore_merges {
        return Err(unsupported("model.ignore_merges", &Value::Bool(true)));
    }
    Ok(())
}

/// Byte-level post-processing only moves offsets, which we do not have.
fn check_post_processor(processor: &Value) -> Result<(), TokenizerError> {
    match kind(processor) {
        None | Some("ByteLevel") => Ok(()),
        Some(_) => Err(unsupported("post_processor", processor)),
    }
}

fn normalizes_to_nfc(normalizer: &Value) -> Result<bool, TokenizerError> {
    match kind(normalizer) {
        None if normalizer.is_null() => Ok(false),
        Some("NFC") => Ok(true),
        _ => Err(unsupported("normalizer", normalizer)),
    }
}

/// The family's form: cut by a regular expression, then spell bytes.
fn pre_tokenizer(value: &Value) -> Result<PreTokenizer, TokenizerError> {
    let error = || unsupported("pre_tokenizer", value);
    let steps = value["pretokenizers"].as_array().ok_or_else(error)?;
    let [split, bytes] = steps.as_slice() else {
        return Err(error());
    };
    let splits =
        kind(split) == Some("Split") && split["behavior"] == "Isolated" && split["invert"] != true;
    let spells_bytes = kind(bytes) == Some("ByteLevel")
        && bytes["add_prefix_space"] != true
        && bytes["use_regex"] == false;
    let pattern = split["pattern"]["Regex"].as_str();
    match pattern {
        Some(pattern) if splits && spells_bytes => PreTokenizer::from_pattern(pattern),
        _ => Err(error()),
    }
}

/// Puts tokens at their ids. Gaps, which padding can leave, are unused rows.
fn collect_tokens(
    vocab: HashMap<String, TokenId>,
    added: Vec<AddedToken>,
) -> Result<(Vec<String>, Vec<TokenKind>), TokenizerError> {
    let count = vocab.len() + added.len();
    let ids = vocab.values().copied().chain(added.iter().map(|t| t.id));
    let size = ids.max().map_or(0, |last| last as usize + 1);
    // An id may lie far beyond the others only if the file is damaged; believing it would
    // allocate gigabytes.
    const MOST_GAPS: usize = 1 << 16;
    if size > count + MOST_GAPS {
        return Err(TokenizerError::BadKey {
            key: "model.vocab".to_owned(),
            problem: format!("has the id {} but only {count} tokens", size - 1),
        });
    }
    let mut tokens = vec![String::new(); size];
    let mut kinds = vec![TokenKind::Unused; size];
    for (text, id) in vocab {
        tokens[id as usize] = text;
        kinds[id as usize] = TokenKind::Normal;
    }
    for token in added {
        if token.single_word || token.lstrip || token.rstrip {
            let found = format!("`{}` with single_word, lstrip or rstrip", token.content);
            return Err(TokenizerError::UnsupportedPart {
                what: "an added token",
                found,
            });
        }
        let index = token.id as usize;
        kinds[index] = if token.special {
            TokenKind::Control
        } else {
            TokenKind::UserDefined
        };
        tokens[index] = token.content;
    }
    Ok((tokens, kinds))
}

fn kind(value: &Value) -> Option<&str> {
    value["type"].as_str()
}

fn unsupported(what: &'static str, found: &Value) -> TokenizerError {
    TokenizerError::UnsupportedPart {
        what,
        found: found.to_string(),
    }
}

fn read_optional<T: Default + for<'de> Deserialize<'de>>(path: &Path) -> Result<T, TokenizerError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(T::default()),
        Err(source) => {
            return Err(TokenizerError::Read {
                path: path.to_owned(),
                source,
            });
        }
    };
    serde_json::from_str(&text).map_err(|source| TokenizerError::Json {
        what: path.display().to_string(),
        source,
    })
}
