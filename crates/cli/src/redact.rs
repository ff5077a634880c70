//! Takes passwords out of text that quotes what the user typed.

/// The text with what stands between `://` and the last `@` of a word replaced.
pub fn redacted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after.find(|c: char| c.is_whitespace()).unwrap_or(after.len());
        let word = &after[..end];
        match word.rfind('@') {
            Some(at) => {
                out.push_str("***");
                out.push_str(&word[at..]);
            }
            None => out.push_str(word),
        }
        rest = &after[end..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_credentials_are_replaced() {
        assert_eq!(redacted("a 'redis://u:p@h/x' b@c"), "a 'redis://***@h/x' b@c");
        assert_eq!(redacted("redis://:p@q/r@h redis://h"), "redis://***@h redis://h");
        assert_eq!(redacted("nothing"), "nothing");
    }
}
