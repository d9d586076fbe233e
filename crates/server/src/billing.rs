//! A line that one client puts into its system prompt, and that changes with every request.

/// What the line begins with.
const HEADER: &str = "x-anthropic-billing-header:";

/// The text without such lines. They say nothing to the model, and as they change, no prompt that
/// holds one could be found in the cache.
pub(crate) fn without_header(text: &str) -> String {
    if !text.contains(HEADER) {
        return text.to_owned();
    }
    let is_header = |line: &&str| line.trim_start().starts_with(HEADER);
    let rest: String = text
        .split_inclusive('\n')
        .filter(|line| !is_header(line))
        .collect();
    let starts_with_header = text.trim_start().starts_with(HEADER);
    if starts_with_header {
        rest.trim_start_matches('\n').to_owned()
    } else {
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_header_goes() {
        let check = |text: &str, want: &str| assert_eq!(without_header(text), want);
        check("x-anthropic-billing-header: cc=1; cch=ab12;", "");
        check("x-anthropic-billing-header: a;\n\nYou are.\n", "You are.\n");
        check(
            "You are.\nx-anthropic-billing-header: a;\nGo.",
            "You are.\nGo.",
        );
        check(
            "The x-anthropic-billing-header: is text.",
            "The x-anthropic-billing-header: is text.",
        );
        check("\n plain", "\n plain");
    }
}
