//! Comma lists of tokens, over all lines of a header (RFC 9110, section 5.6.1).
//!
//! Not for lists whose elements may hold a quoted comma.

use http::HeaderMap;
use http::header::HeaderName;

/// The elements of a list, without the white space around them; empty ones do not count.
pub fn tokens<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h [u8]> {
    headers
        .get_all(name)
        .into_iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(trim)
        .filter(|element| !element.is_empty())
}

/// Whether a list has `token`, whatever the case of its letters.
pub fn contains_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
}

/// Without optional white space: spaces and tabs (RFC 9110, section 5.6.3).
pub(crate) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use http::header::{CONNECTION, HeaderValue};

    use super::*;

    fn check(lines: &[&'static str], expected: &[&str]) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CONNECTION, HeaderValue::from_static(line));
        }
        let found: Vec<_> = tokens(&headers, &CONNECTION).collect();
        let expected: Vec<_> = expected.iter().map(|token| token.as_bytes()).collect();
        assert_eq!(found, expected, "{lines:?}");
    }

    #[test]
    fn elements_of_all_lines_come_trimmed_and_not_empty() {
        check(&[], &[]);
        check(&["", ",", " , \t,"], &[]);
        check(&["close"], &["close"]);
        check(&["a,b", " c\t,\t d e ,", "f"], &["a", "b", "c", "d e", "f"]);
    }

    #[test]
    fn a_token_is_found_whole_in_any_case() {
        let mut headers = HeaderMap::new();
        headers.append(CONNECTION, HeaderValue::from_static("keep-alive"));
        headers.append(CONNECTION, HeaderValue::from_static("x, UpGrade"));
        assert!(contains_token(&headers, &CONNECTION, "upgrade"));
        assert!(!contains_token(&headers, &CONNECTION, "grade"));
        assert!(!contains_token(&headers, &CONNECTION, "keep"));
    }
}
