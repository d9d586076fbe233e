//! Numbers of bytes on the command line.

/// Reads a number of MiB, or one with its unit: `2048`, `512M`, `20G`, `1.5TiB`.
///
/// # Errors
/// If it is neither, negative, or more than can be counted.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text[digits.len()..].to_ascii_lowercase();
    let shift = match unit
        .strip_suffix("ib")
        .or(unit.strip_suffix('b'))
        .unwrap_or(&unit)
    {
        "k" => 10,
        "" if unit.is_empty() => 20,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err("expected a number of MiB, or one with a unit such as 20G".to_owned()),
    };
    let bytes = digits
        .parse::<f64>()
        .ok()
        .map(|number| number * f64::from(1 << (shift - 10)) * 1024.0)
        .filter(|bytes| (0.0..u64::MAX as f64).contains(bytes));
    bytes
        .map(|bytes| bytes as u64)
        .ok_or_else(|| "expected a number of MiB, or one with a unit such as 20G".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_in_mebibytes_unless_they_say_otherwise() {
        let check = |text, expected| assert_eq!(bytes(text).ok(), expected, "{text:?}");
        check("0", Some(0));
        check("2048", Some(2 << 30));
        check("0.5", Some(512 << 10));
        check("512k", Some(512 << 10));
        check("512M", Some(512 << 20));
        check("20G", Some(20 << 30));
        check("20GB", Some(20 << 30));
        check("1.5TiB", Some(3 << 39));
        for wrong in [
            "", "G", "-1", "x", "1 G", "5ib", "5b", "1e400", "nan", "inf", "1X",
        ] {
            check(wrong, None);
        }
    }
}
