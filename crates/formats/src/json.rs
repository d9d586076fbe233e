//! Reads small json files with a limit on their size.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::sniff::sniff;

/// Why a json file cannot be used.
#[derive(Debug)]
pub(crate) enum JsonError {
    Io(io::Error),
    TooLarge { length: u64, limit: u64 },
    Syntax(String),
}

/// Reads a file of at most `limit` bytes.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path, limit: u64) -> Result<T, JsonError> {
    let mut text = Vec::new();
    let file = File::open(path).map_err(JsonError::Io)?;
    // One byte more than allowed shows that there is more.
    let length = file.take(limit + 1).read_to_end(&mut text);
    let length = length.map_err(JsonError::Io)? as u64;
    if length > limit {
        return Err(JsonError::TooLarge { length, limit });
    }
    parse_json(&text)
}

pub(crate) fn parse_json<T: DeserializeOwned>(text: &[u8]) -> Result<T, JsonError> {
    serde_json::from_slice(text).map_err(|error| {
        // What does not even begin like json has a better name than "expected value".
        let is_json = matches!(text.trim_ascii_start().first(), Some(b'{' | b'['));
        JsonError::Syntax(if is_json {
            error.to_string()
        } else {
            sniff(text).to_string()
        })
    })
}
