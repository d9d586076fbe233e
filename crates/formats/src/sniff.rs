//! Says what a file that is not what its name promises looks like.
//!
//! A failed download rarely leaves nothing: it leaves a git-lfs pointer, an error page or a
//! file of zeros. Naming that saves the user an hour.

/// Below this size no model file is whole.
const TINY_BYTES: usize = 4096;

/// What the start of a file looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Looks {
    /// No bytes at all.
    Empty,
    /// A git-lfs pointer: the text that stands for a large file in a git repository.
    LfsPointer {
        /// The size that the real file has, as the pointer says.
        size: Option<u64>,
    },
    /// An HTML page.
    Html,
    /// Text: an error message, perhaps. The first line is kept.
    Text(String),
    /// Nothing but zeros: space reserved by a download that never arrived.
    Zeros,
    /// Another format that models are stored in.
    OtherFormat(&'static str),
    /// A few bytes of something.
    Tiny(usize),
    /// Something else; the first four bytes are kept.
    Unknown([u8; 4]),
}

/// Looks at the start of a file.
pub(crate) fn sniff(bytes: &[u8]) -> Looks {
    let head = &bytes[..bytes.len().min(1024)];
    let magic = first_four(head);
    if head.is_empty() {
        return Looks::Empty;
    }
    if head.iter().all(|&byte| byte == 0) {
        return Looks::Zeros;
    }
    if head.starts_with(b"version https://git-lfs") {
        let text = String::from_utf8_lossy(head);
        let size = text.lines().find_map(|line| line.strip_prefix("size "));
        return Looks::LfsPointer {
            size: size.and_then(|size| size.trim().parse().ok()),
        };
    }
    if let Some(format) = other_format(head, &magic) {
        return Looks::OtherFormat(format);
    }
    if let Some(looks) = text(head) {
        return looks;
    }
    if bytes.len() < TINY_BYTES {
        return Looks::Tiny(bytes.len());
    }
    Looks::Unknown(magic)
}

fn first_four(head: &[u8]) -> [u8; 4] {
    let mut magic = [0; 4];
    let known = head.len().min(4);
    magic[..known].copy_from_slice(&head[..known]);
    magic
}

fn other_format(head: &[u8], magic: &[u8; 4]) -> Option<&'static str> {
    Some(match magic {
        b"GGUF" => "a GGUF file",
        b"PK\x03\x04" => "a zip archive or PyTorch checkpoint",
        b"lmgg" | b"tjgg" | b"fmgg" | b"algg" => "a ggml file from before GGUF",
        [0x1f, 0x8b, ..] => "a gzip archive, unpack it first",
        [0x28, 0xb5, 0x2f, 0xfd] => "a zstd archive, unpack it first",
        // A pickle of protocol 2 to 5, as old PyTorch files start.
        [0x80, 2..=5, ..] => "a Python pickle",
        // Safetensors: a length, then json.
        _ if head.get(8) == Some(&b'{') => "a safetensors file",
        _ => return None,
    })
}

fn text(head: &[u8]) -> Option<Looks> {
    let start = head.trim_ascii_start();
    let is_text = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | 0x20..=0x7e | 0x80..);
    if start.is_empty() || !start.iter().all(is_text) {
        return None;
    }
    let lower = start[..start.len().min(64)].to_ascii_lowercase();
    if lower.starts_with(b"<!doctype html") || lower.starts_with(b"<html") {
        return Some(Looks::Html);
    }
    let text = std::str::from_utf8(&start[..start.len().min(80)]).ok()?;
    Some(Looks::Text(text.lines().next().unwrap_or("").to_owned()))
}

impl std::fmt::Display for Looks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const FAILED: &str = "this is a failed download, fetch the file again";
        match self {
            Self::Empty => write!(f, "it is empty; {FAILED}"),
            Self::LfsPointer { size } => {
                f.write_str("it is a git-lfs pointer, not the file itself")?;
                if let Some(size) = size {
                    write!(f, " (which has {size} bytes)")?;
                }
                write!(f, "; {FAILED}, for example with `git lfs pull`")
            }
            Self::Html => write!(f, "it is an HTML page; {FAILED}"),
            Self::Text(line) => write!(f, "it is text that starts {line:?}; {FAILED}"),
            Self::Zeros => write!(f, "it starts with zeros only; {FAILED}"),
            Self::OtherFormat(name) => write!(f, "it looks like {name}"),
            Self::Tiny(size) => write!(f, "it has only {size} bytes; {FAILED}"),
            Self::Unknown(magic) => write!(f, "it starts with the bytes {magic:02x?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_downloads_are_recognised() {
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 1234\n";
        let cases: [(&[u8], Looks); 9] = [
            (b"", Looks::Empty),
            (pointer, Looks::LfsPointer { size: Some(1234) }),
            (b"\n <!DOCTYPE HTML><head>", Looks::Html),
            (b"Entry not found\n", Looks::Text("Entry not found".into())),
            (&[0; 5000], Looks::Zeros),
            (
                b"\x08\0\0\0\0\0\0\0{}      ",
                Looks::OtherFormat("a safetensors file"),
            ),
            (b"GGUF\x03\0\0\0", Looks::OtherFormat("a GGUF file")),
            (&[1, 2, 3], Looks::Tiny(3)),
            (&[1; 5000], Looks::Unknown([1; 4])),
        ];
        for (bytes, expected) in cases {
            assert_eq!(sniff(bytes), expected);
        }
    }
}
