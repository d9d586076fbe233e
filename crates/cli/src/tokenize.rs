//! `tidemill tokenize`: text to token ids with what each stands for, or ids back to text.

use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use formats::gguf::GgufFile;
use serde_json::json;
use text::{Decode, SpecialTokens, TokenId, Tokenizer, Vocabulary};

use crate::embedded;
use crate::exit::Failure;

/// What `tokenize` understands.
#[derive(Debug, Args)]
pub(crate) struct TokenizeArgs {
    /// The vocabulary: a GGUF file, a tokenizer.json, or the folder of one (default: that of the
    /// model inside the program).
    #[arg(
        short,
        long,
        visible_alias = "vocab",
        value_name = "PATH",
        env = "TIDEMILL_MODEL"
    )]
    model: Option<PathBuf>,
    /// The text (default: what comes in on stdin).
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["file", "decode"])]
    text: Option<String>,
    /// Take the text from a file.
    #[arg(long, value_name = "PATH", conflicts_with = "decode")]
    file: Option<PathBuf>,
    /// Turn these ids into text instead: numbers between commas or spaces.
    #[arg(long, value_name = "IDS")]
    decode: Option<String>,
    /// Take special tokens in the text for plain text; when decoding, leave control tokens out.
    #[arg(long)]
    no_special: bool,
    /// Encode the text as it is. The family composes characters first (NFC), as its reference
    /// tokenizer does and llama.cpp does not.
    #[arg(long)]
    no_normalize: bool,
    /// Print the ids alone, in one line.
    #[arg(long, conflicts_with_all = ["decode", "json"])]
    ids: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Prints the tokens of a text, or the text of tokens.
pub(crate) fn run(args: &TokenizeArgs) -> anyhow::Result<()> {
    let mut vocabulary = match &args.model {
        Some(path) => read_vocabulary(path)?,
        None => embedded::vocabulary()?,
    };
    vocabulary.normalize_nfc &= !args.no_normalize;
    let tokenizer = Tokenizer::new(&vocabulary).context("use the vocabulary")?;
    let mut out = BufWriter::new(io::stdout().lock());
    match &args.decode {
        Some(ids) => print_text(&tokenizer, &parse_ids(ids)?, args, &mut out)?,
        None => print_tokens(&tokenizer, &read_text(args)?, args, &mut out)?,
    }
    Ok(out.flush()?)
}

fn read_vocabulary(path: &Path) -> anyhow::Result<Vocabulary> {
    let context = || format!("read the vocabulary of {}", path.display());
    if path.is_dir() {
        return Vocabulary::from_hugging_face(path).with_context(context);
    }
    if path
        .extension()
        .is_some_and(|extension| extension == "json")
    {
        let json = std::fs::read_to_string(path).with_context(context)?;
        return Vocabulary::from_tokenizer_json(&json).with_context(context);
    }
    let gguf = GgufFile::open(path).with_context(context)?;
    Vocabulary::from_gguf(gguf.metadata()).with_context(context)
}

fn read_text(args: &TokenizeArgs) -> anyhow::Result<String> {
    if let Some(text) = &args.text {
        return Ok(text.clone());
    }
    match &args.file {
        Some(path) => std::fs::read_to_string(path)
            .with_context(|| format!("read the text in {}", path.display())),
        None => {
            let mut text = String::new();
            io::stdin()
                .lock()
                .read_to_string(&mut text)
                .context("read the text on stdin")?;
            Ok(text)
        }
    }
}

fn parse_ids(list: &str) -> Result<Vec<TokenId>, Failure> {
    list.trim_matches(['[', ']'])
        .split([',', ' ', '\n', '\t'])
        .filter(|id| !id.is_empty())
        .map(|id| {
            id.parse().map_err(|_| {
                Failure::BadInput(format!(
                    "`{id}` is not a token id; expected numbers such as 151644,872"
                ))
            })
        })
        .collect()
}

fn print_tokens(
    tokenizer: &Tokenizer,
    text: &str,
    args: &TokenizeArgs,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let special = match args.no_special {
        true => SpecialTokens::AsText,
        false => SpecialTokens::Parse,
    };
    let ids = tokenizer.encode(text, special)?;
    if args.json {
        let tokens = ids
            .iter()
            .map(|&id| Ok(json!({"id": id, "text": text_of(tokenizer, id)?})))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let report = json!({"count": ids.len(), "ids": ids, "tokens": tokens});
        serde_json::to_writer_pretty(&mut *out, &report)?;
        writeln!(out)?;
    } else if args.ids {
        let ids: Vec<_> = ids.iter().map(TokenId::to_string).collect();
        writeln!(out, "{}", ids.join(" "))?;
    } else {
        for &id in &ids {
            writeln!(out, "{id:>7}  {}", shown(tokenizer, id)?)?;
        }
    }
    Ok(())
}

fn print_text(
    tokenizer: &Tokenizer,
    ids: &[TokenId],
    args: &TokenizeArgs,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let what = match args.no_special {
        true => Decode::SkipControl,
        false => Decode::Everything,
    };
    let text = tokenizer.decode(ids, what)?;
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &json!({"ids": ids, "text": text}))?;
        writeln!(out)?;
    } else {
        writeln!(out, "{text}")?;
    }
    Ok(())
}

fn text_of(tokenizer: &Tokenizer, id: TokenId) -> anyhow::Result<String> {
    Ok(tokenizer.decode(&[id], Decode::Everything)?)
}

/// A token in quotes; one that is part of a character, by its bytes.
fn shown(tokenizer: &Tokenizer, id: TokenId) -> anyhow::Result<String> {
    let bytes = tokenizer.token_bytes(id)?;
    Ok(match std::str::from_utf8(bytes) {
        Ok(text) => format!("{text:?}"),
        Err(_) => format!("b\"{}\"", bytes.escape_ascii()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_in_several_forms() {
        for list in ["1,2,30", "1 2 30", "[1, 2, 30]", "1, 2,\n30"] {
            assert_eq!(parse_ids(list).unwrap(), [1, 2, 30]);
        }
        assert!(parse_ids("1,-2").is_err());
        assert!(parse_ids("x").unwrap_err().to_string().contains("`x`"));
    }
}
