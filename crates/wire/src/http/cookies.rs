//! The `Cookie` header (RFC 6265, sections 4.2.1 and 5.4).

use super::tokens::trim;

/// The pairs of a line, in its order. What has no `=` is a value without a name, as browsers take
/// it.
pub fn pairs(line: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    line.split(|byte| *byte == b';').map(trim).filter(|pair| !pair.is_empty()).map(split)
}

/// The line without the pairs of this name; `None` when nothing is left.
pub fn without(line: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    let mut left = Vec::with_capacity(line.len());
    let pieces = line.split(|byte| *byte == b';').map(trim).filter(|pair| !pair.is_empty());
    for pair in pieces.filter(|pair| split(pair).0 != name) {
        if !left.is_empty() {
            left.extend_from_slice(b"; ");
        }
        left.extend_from_slice(pair);
    }
    (!left.is_empty()).then_some(left)
}

fn split(pair: &[u8]) -> (&[u8], &[u8]) {
    match pair.iter().position(|byte| *byte == b'=') {
        Some(at) => (trim(&pair[..at]), trim(&pair[at + 1..])),
        None => (b"", pair),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: &[(&str, &str)]) {
        let text = |bytes| std::str::from_utf8(bytes).unwrap();
        let found: Vec<_> = pairs(line.as_bytes()).map(|(n, v)| (text(n), text(v))).collect();
        assert_eq!(found, expected, "{line:?}");
    }

    #[test]
    fn pairs_are_found_as_browsers_write_them_and_otherwise() {
        check("a=1; b=2", &[("a", "1"), ("b", "2")]);
        check("a=1;b=2;; ;", &[("a", "1"), ("b", "2")]);
        check(" a = 1 ", &[("a", "1")]);
        check("a=b=c", &[("a", "b=c")]);
        check("a=\"1\"", &[("a", "\"1\"")]);
        check("a=; =b; c", &[("a", ""), ("", "b"), ("", "c")]);
        check("A=1; a=2", &[("A", "1"), ("a", "2")]);
        check("", &[]);
    }

    #[test]
    fn a_cookie_is_taken_out_wherever_it_is() {
        let check = |line: &str, expected: Option<&str>| {
            let left = without(line.as_bytes(), b"t");
            assert_eq!(left.as_deref(), expected.map(str::as_bytes), "{line:?}");
        };
        check("t=1", None);
        check("t=1; t=2 ;t = 3", None);
        check("a=1; t=1; b=2", Some("a=1; b=2"));
        check("tt=1;T=2", Some("tt=1; T=2"));
        check("", None);
    }
}
