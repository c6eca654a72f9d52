//! Files of the examples, with other ports and paths in them.

use std::cmp::Reverse;

/// `text`, which is the file `name`, with each text of `replacements` replaced by its other one:
/// all at once, as a port that was put in may begin like one that is to be replaced.
///
/// # Panics
/// When a text to be replaced is not in it.
#[track_caller]
pub fn filled(name: &str, text: &str, replacements: &[(&str, &str)]) -> String {
    for (from, _) in replacements {
        assert!(text.contains(from), "no {from} in {name}");
    }
    let (mut filled, mut rest) = (String::new(), text);
    loop {
        let found =
            replacements.iter().filter_map(|&(from, to)| Some((rest.find(from)?, from, to)));
        let next = found.min_by_key(|&(at, from, _)| (at, Reverse(from.len())));
        let Some((at, from, to)) = next else { return filled + rest };
        filled += &rest[..at];
        filled += to;
        rest = &rest[at + from.len()..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_is_not_replaced() {
        let replacements = [("a:3001", "a:30021"), ("a:3002", "a:30011"), ("b", "c")];
        let filled = filled("file", "a:3001 a:3002 a:3001 b", &replacements);
        assert_eq!(filled, "a:30021 a:30011 a:30021 c");
    }
}
