//! What was probably meant: the nearest of the names that there are.

/// The name nearest to `wrong`, if one is near enough to be meant.
pub fn nearest<'n>(wrong: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let wrong = wrong.to_lowercase().replace('-', "_");
    // A third of the letters may differ: more is another word.
    let most = (wrong.chars().count() / 3).max(1);
    names
        .into_iter()
        .map(|name| (distance(&wrong, &name.to_lowercase().replace('-', "_")), name))
        .filter(|&(distance, _)| distance <= most)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, name)| name)
}

/// `` `a`, `b` and `c` ``.
pub fn list(names: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let quoted = names.into_iter().map(|name| format!("`{}`", name.as_ref()));
    let quoted: Vec<String> = quoted.collect();
    match quoted.split_last() {
        None => "none".to_owned(),
        Some((only, [])) => only.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

/// The text, cut when it is too long to be read in a message.
pub fn short(text: &str) -> String {
    match text.char_indices().nth(LENGTH_MAX) {
        None => text.to_owned(),
        Some((cut, _)) => format!("{}...", &text[..cut]),
    }
}

const LENGTH_MAX: usize = 60;

/// Insertions, deletions, replacements and swaps of neighbours that make `b` of `a` (optimal string
/// alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > LENGTH_MAX || a.len() > LENGTH_MAX {
        return usize::MAX;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, &from) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &to) in b.iter().enumerate() {
            let replaced = last[j] + usize::from(from != to);
            let mut least = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && from == b[j - 1] && a[i - 1] == to {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits_and_swaps() {
        for (a, b, expected) in [
            ("", "", 0),
            ("a", "", 1),
            ("bind", "bidn", 1),
            ("bind", "bnid", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn the_nearest_name_is_suggested_and_no_other_word() {
        let names = ["name", "bind", "http_request", "http_keep_alive"];
        let check = |wrong, expected| assert_eq!(nearest(wrong, names), expected, "{wrong}");
        check("binds", Some("bind"));
        check("Name", Some("name"));
        check("http-request", Some("http_request"));
        check("http_keepalive", Some("http_keep_alive"));
        check("port", None);
        check("", None);
    }
}
