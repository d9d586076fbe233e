//! The byte-level alphabet: a printable character for each of the 256 bytes.
//!
//! Byte-level vocabularies spell their tokens in it, so that a token is always valid text: bytes
//! that print as themselves in Latin-1 keep their character, the others follow from U+0100 on.
//! A space is `Ġ`, a newline `Ċ`.

/// The first character that stands for a byte without a printable Latin-1 character.
const FIRST_SUBSTITUTE: u32 = 0x100;

/// Whether the byte's own Latin-1 character stands for it.
const fn is_itself(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

/// The bytes that have a substitute, in order: the one at index `n` is U+0100 + n.
const SUBSTITUTED: [u8; 68] = {
    let mut bytes = [0; 68];
    let mut filled = 0;
    let mut byte = 0_usize;
    while byte < 256 {
        if !is_itself(byte as u8) {
            bytes[filled] = byte as u8;
            filled += 1;
        }
        byte += 1;
    }
    bytes
};

/// The byte that `character` stands for; `None` if it is not in the alphabet.
pub(crate) fn byte_of(character: char) -> Option<u8> {
    match u8::try_from(u32::from(character)) {
        Ok(byte) => is_itself(byte).then_some(byte),
        Err(_) => {
            let index = u32::from(character) - FIRST_SUBSTITUTE;
            SUBSTITUTED.get(usize::try_from(index).ok()?).copied()
        }
    }
}

/// Appends the bytes that `text` spells. Text with a character outside the alphabet, which only a
/// hand-made vocabulary has, stands for itself.
pub(crate) fn push_bytes_of(text: &str, bytes: &mut Vec<u8>) {
    let start = bytes.len();
    for character in text.chars() {
        let Some(byte) = byte_of(character) else {
            bytes.truncate(start);
            bytes.extend_from_slice(text.as_bytes());
            return;
        };
        bytes.push(byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_exactly_one_character() {
        let mut seen = [0; 256];
        for character in (0..=0x200).filter_map(char::from_u32) {
            if let Some(byte) = byte_of(character) {
                seen[usize::from(byte)] += 1;
            }
        }
        assert_eq!(seen, [1; 256]);
    }

    #[test]
    fn spells_the_known_substitutes() {
        let spelled = |text: &str| {
            let mut bytes = Vec::new();
            push_bytes_of(text, &mut bytes);
            bytes
        };
        assert_eq!(spelled("ĠHelloĊ"), b" Hello\n");
        assert_eq!(spelled("Ã©"), "é".as_bytes());
        assert_eq!(spelled("日本"), "日本".as_bytes());
    }
}
