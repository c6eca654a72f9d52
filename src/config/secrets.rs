//! Secrets that are written into a text are not shown in findings about it: those are pasted into
//! chats, and kept by whatever runs the check.

use super::tree::{Node, Span};

/// The keys whose values are secrets: of which list of tables, in which of their tables.
const SECRETS: [(&str, &str, &str); 3] =
    [("auth", "jwt", "secret"), ("auth", "api_key", "key"), ("backend", "stick", "secret")];

/// Tables whose values are headers that servers get, such as `Authorization`: nobody but who has
/// written them knows which of them is a secret.
const HEADERS: [&[&str]; 5] = [
    &["rule", "then", "request_header", "set"],
    &["rule", "then", "request_header", "add"],
    &["route", "request_header", "set"],
    &["route", "request_header", "add"],
    &["backend", "check", "headers"],
];

/// The text with stars in the place of its secrets, and everything else where it was. What is read
/// from the environment is not in the text.
pub fn masked(text: &str, tree: &Node) -> String {
    let mut masked = text.to_owned();
    let mut mask = |node: &Node| {
        let span: Span = node.span.clone();
        let Some(secret) = text.get(span.clone()).filter(|_| is_written(node)) else { return };
        let star = |c: char| match c {
            '"' | '\'' | '\n' | '\r' => c.to_string(),
            c => "*".repeat(c.len_utf8()),
        };
        masked.replace_range(span, &secret.chars().map(star).collect::<String>());
    };
    for (list, table, key) in SECRETS {
        below(tree, &[list, table, key]).for_each(&mut mask);
    }
    for path in HEADERS {
        let headers = below(tree, path).flat_map(Node::entries);
        headers.for_each(|header| mask(&header.node));
    }
    masked
}

/// What is at this path in each table of a list.
fn below<'t>(tree: &'t Node, path: &'t [&str]) -> impl Iterator<Item = &'t Node> {
    let (list, path) = path.split_first().expect("a path begins with its list");
    let listed = tree.entry(list).map_or(&[][..], |entry| entry.node.elements());
    let find = |from, path: &[&str]| {
        path.iter().try_fold(from, |node: &Node, key| Some(&node.entry(key)?.node))
    };
    listed.iter().filter_map(move |one| find(one, path))
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

    #[test]
    fn headers_for_servers_become_stars_and_their_names_stay() {
        for text in [
            "[[route]]\nrequest_header.set.Authorization = \"hunter2\"",
            "[[route]]\n[route.request_header]\nadd = { X-Key = 'hunter2', \"X-B\" = \"hunter2\" }",
            "[[rule]]\nthen = { request_header = { set = { Cookie = \"a=hunter2\" } } }",
            "[[rule]]\n[[rule]]\n[rule.then.request_header.add]\nX-Key = \"\"\"\nhunter2\"\"\"",
            "[[backend]]\n[backend.check]\nheaders.Authorization = \"Bearer hunter2\"",
        ] {
            let masked = super::masked(text, &Node::parse(text).0);
            assert_eq!(masked.len(), text.len());
            assert!(!masked.contains("hunter2") && masked.contains("***"), "{masked}");
            let keys = |text: &str| text.split(['"', '\'']).next().map(str::to_owned);
            assert_eq!(keys(&masked), keys(text));
        }
        let response = "[[route]]\nresponse_header.set.X-Frame-Options = \"DENY\"";
        assert_eq!(super::masked(response, &Node::parse(response).0), response);
    }
}
