//! Secrets that are written into a text are not shown in findings about it: those are pasted into
//! chats, and kept by whatever runs the check.

use super::tree::Node;

/// The keys whose values are secrets: of which list of tables, in which of their tables.
const SECRETS: [(&str, &str, &str); 3] =
    [("auth", "jwt", "secret"), ("auth", "api_key", "key"), ("backend", "stick", "secret")];

/// The text with stars in the place of its secrets, and everything else where it was. What is read
/// from the environment is not in the text.
pub fn masked(text: &str, tree: &Node) -> String {
    let mut spans = Vec::new();
    for (list, table, key) in SECRETS {
        let listed = tree.entry(list).map_or(&[][..], |entry| entry.node.elements());
        let tables = listed.iter().filter_map(|one| one.entry(table));
        let secrets = tables.filter_map(|table| table.node.entry(key));
        spans.extend(
            secrets.filter(|secret| is_written(&secret.node)).map(|it| it.node.span.clone()),
        );
    }
    let mut masked = text.to_owned();
    for span in spans {
        let Some(secret) = text.get(span.clone()) else { continue };
        let star = |c: char| match c {
            '"' | '\'' | '\n' | '\r' => c.to_string(),
            c => "*".repeat(c.len_utf8()),
        };
        masked.replace_range(span, &secret.chars().map(star).collect::<String>());
    }
    masked
}

/// Whether it is there for all to read, not only its name.
fn is_written(secret: &Node) -> bool {
    let is_variable = |text: &str| text.starts_with("${") && text.ends_with('}');
    !secret.as_str().is_some_and(is_variable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_become_stars_and_nothing_moves() {
        let text = "[[auth]]\njwt = { secret = 'hünter2', key = 'x' }\n[[auth]]\n\
                    api_key.key = \"hunter2\"\n[auth.jwt]\nsecret = \"${NAME}\"\n";
        let masked = |text: &str| super::masked(text, &Node::parse(text).0);
        let (before, masked) = (masked("jwt = "), masked(text));
        assert_eq!(masked.len(), text.len());
        assert!(!masked.contains("nter2"), "{masked}");
        assert!(masked.contains("secret = '********', key = 'x'") && masked.contains("${NAME}"));
        assert_eq!(before, "jwt = ");
    }
}
