//! `${NAME}` in a string is the environment's value of it, `$$` is `$`.
//!
//! What comes from the environment may be a secret: nothing that is printed is made from it. See
//! `Node::written`.

use super::diagnostic::Diagnostic;
use super::suggest;
use super::tree::{Node, Span, State, Value};

/// How a variable is looked up; `std::env` outside of tests.
pub type Lookup<'l> = &'l dyn Fn(&str) -> Option<String>;

/// Looks it up in the environment of the process.
pub fn of_process(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Puts the environment's values in place of their names, in every string of the tree.
pub fn expand(tree: &mut Node, text: &str, lookup: Lookup<'_>) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    tree.for_each_scalar(&mut |node| {
        let Some(written) = node.as_str().filter(|text| text.contains('$')) else { return };
        let written = written.to_owned();
        let (value, uses_environment, faults) = expand_one(&written, lookup);
        if !faults.is_empty() {
            node.state = State::Refused;
        }
        let raw = text.get(node.span.clone()).unwrap_or_default();
        findings.extend(faults.iter().map(|fault| fault.diagnostic(raw, &node.span)));
        node.value = Value::String(value);
        node.written = uses_environment.then_some(written);
    });
    findings
}

/// What is wrong with a `${`, and the piece of the string that shows it.
enum Fault<'s> {
    Unset { piece: &'s str, name: &'s str },
    Nameless { piece: &'s str },
    Unclosed { piece: &'s str },
}

/// The string expanded, whether the environment had a part in it, and what is wrong with it.
fn expand_one<'s>(text: &'s str, lookup: Lookup<'_>) -> (String, bool, Vec<Fault<'s>>) {
    let mut value = String::with_capacity(text.len());
    let mut uses_environment = false;
    let mut faults = Vec::new();
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        value.push_str(&rest[..dollar]);
        rest = &rest[dollar..];
        if let Some(after) = rest.strip_prefix("$$") {
            value.push('$');
            rest = after;
            continue;
        }
        if !rest.starts_with("${") {
            value.push('$');
            rest = &rest[1..];
            continue;
        }
        uses_environment = true;
        let Some(close) = rest.find('}') else {
            faults.push(Fault::Unclosed { piece: rest });
            return (value, uses_environment, faults);
        };
        let (piece, name) = (&rest[..=close], &rest[2..close]);
        match is_name(name).then(|| lookup(name)) {
            Some(Some(found)) => value.push_str(&found),
            Some(None) => faults.push(Fault::Unset { piece, name }),
            None => faults.push(Fault::Nameless { piece }),
        }
        rest = &rest[close + 1..];
    }
    value.push_str(rest);
    (value, uses_environment, faults)
}

fn is_name(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.chars().all(is_part) && text.starts_with(|c: char| !c.is_ascii_digit())
}

impl Fault<'_> {
    fn diagnostic(&self, raw: &str, span: &Span) -> Diagnostic {
        let (Self::Unset { piece, .. } | Self::Nameless { piece } | Self::Unclosed { piece }) =
            self;
        // A piece that is written with escapes is not found: then the whole string is shown.
        let at = match raw.find(piece) {
            Some(offset) => span.start + offset..span.start + offset + piece.len(),
            None => span.clone(),
        };
        match self {
            Self::Unset { name, .. } => {
                Diagnostic::error(format!("environment variable `{name}` is not set"))
                    .at(at, "read from the environment")
                    .help(format!("set it, or write `$${{{name}}}` for the text `${{{name}}}`"))
            }
            Self::Nameless { piece } => {
                Diagnostic::error(format!("`{}` does not name a variable", suggest::short(piece)))
                    .at(at, "expected letters, digits and `_`, such as `${BROKER_URL}`")
                    .help("write `$$` for a `$` that is meant as one")
            }
            Self::Unclosed { .. } => Diagnostic::error("a `${` has no `}`")
                .at(at, "expected a name and `}`, such as `${BROKER_URL}`")
                .help("write `$$` for a `$` that is meant as one"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let lookup = |name: &str| (name == "A" || name == "_b1").then(|| format!("<{name}>"));
        let (value, _, faults) = expand_one(text, &lookup);
        let faults = faults.len();
        let value = if faults > 0 { format!("{faults} faults") } else { value };
        assert_eq!(value, expected, "{text}");
    }

    #[test]
    fn names_in_braces_are_read_and_two_dollars_are_one() {
        check("${A}", "<A>");
        check("x${A}y${_b1}z", "x<A>y<_b1>z");
        check("$${A}", "${A}");
        check("$$$${A}", "$${A}");
        check("$$${A}", "$<A>");
        check("$A costs 5$", "$A costs 5$");
        check("é${A}é", "é<A>é");
    }

    #[test]
    fn what_cannot_be_read_is_reported_each_time() {
        check("${NOT}${A}${NOT}", "2 faults");
        check("${}", "1 faults");
        check("${1A}", "1 faults");
        check("${A B}", "1 faults");
        check("${A:-x}", "1 faults");
        check("${A", "1 faults");
    }

    #[test]
    fn what_the_environment_says_is_not_expanded_again() {
        let (value, ..) = expand_one("${A}", &|_| Some("${A}$$".into()));
        assert_eq!(value, "${A}$$");
    }
}
