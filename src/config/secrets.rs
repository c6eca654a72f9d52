//! Secrets that are written into a text are not shown in findings about it: those are pasted into
//! chats, and kept by whatever runs the check.

use super::tree::{Node, Span};

/// The keys whose values are secrets, joined.
const SECRETS: [&str; 2] = ["auth.jwt.secret", "auth.api_key.key"];

/// The text with stars in the place of its secrets, and everything else where it was. What is read
/// from the environment is not in the text.
pub fn masked(text: &str) -> String {
    let (tree, _) = Node::parse(text);
    let mut spans = Vec::new();
    collect(&tree, &mut Vec::new(), &mut spans);
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

fn collect<'t>(node: &'t Node, path: &mut Vec<&'t str>, spans: &mut Vec<Span>) {
    if SECRETS.contains(&&*path.join(".")) {
        let is_variable =
            node.as_str().is_some_and(|text| text.starts_with("${") && text.ends_with('}'));
        if !is_variable {
            spans.push(node.span.clone());
        }
        return;
    }
    node.elements().iter().for_each(|element| collect(element, path, spans));
    for entry in node.entries() {
        path.push(&entry.key);
        collect(&entry.node, path, spans);
        path.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_become_stars_and_nothing_moves() {
        let text = "[[auth]]\njwt = { secret = 'hünter2', key = 'x' }\n[[auth]]\n\
                    api_key.key = \"hunter2\"\n[auth.jwt]\nsecret = \"${NAME}\"\n";
        let masked = masked(text);
        assert_eq!(masked.len(), text.len());
        assert!(!masked.contains("nter2"), "{masked}");
        assert!(masked.contains("secret = '********', key = 'x'") && masked.contains("${NAME}"));
        assert_eq!(super::masked("jwt = "), "jwt = ");
    }
}
