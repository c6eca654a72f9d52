//! What a type refuses, in words: what is wrong, and from the schema what would be right.

use super::deserialize::{Fault, Refusal};
use super::diagnostic::Diagnostic;
use super::sample;
use super::schema::{Kind, Schema, Shape};
use super::suggest::{list, nearest, short};
use super::tree::{Entry, Node, Span, Step, Value};

/// The finding for a refusal. Not for missing keys, which are reported together: see
/// [`missing_keys`].
pub fn diagnostic(refusal: &Refusal, tree: &Node, schema: &Schema) -> Diagnostic {
    let path = refusal.path();
    let node = tree.at(&path).unwrap_or(tree);
    let shape = schema.root().at(&path);
    let key = key_of(&path);
    let span = node.span.clone();
    match &refusal.fault {
        Fault::UnknownKey => unknown_key(key, entry_span(tree, &path), &path, schema),
        Fault::TwiceKey(key) => Diagnostic::error(format!("`{key}` is given twice"))
            .at(span, "once under each of two names"),
        Fault::WrongKind { expected } => wrong_kind(key, node, shape, expected, &path),
        Fault::OutOfBounds { expected } => {
            let bounds = shape.and_then(Shape::bounds);
            let bounds = bounds.map(|(least, greatest)| format!("{least} to {greatest}"));
            let expected = bounds.as_ref().unwrap_or(expected);
            Diagnostic::error(format!("`{key}` is out of its bounds"))
                .at(span, format!("expected {expected}"))
        }
        Fault::UnknownValue { value } => unknown_value(key, value, shape, span),
        Fault::MissingKey(key) => Diagnostic::error(format!("`{key}` is missing")).at(span, ""),
        Fault::Other(message) => {
            // The types say what is wrong and, after a semicolon, what would be right.
            let (wrong, right) = message.rsplit_once("; ").unwrap_or((message, ""));
            Diagnostic::error(wrong).at(span, right)
        }
    }
}

/// The finding for a table that lacks keys.
pub fn missing_keys(keys: &[&str], table: &Node, path: &[Step], schema: &Schema) -> Diagnostic {
    let name = table_name(path);
    let message = format!("{name} has no {}", list(keys).replace(" and ", " and no "));
    let finding = Diagnostic::error(message).at(table.span.clone(), "expected here");
    let shape = schema.root().at(path);
    keys.iter().fold(finding, |finding, key| {
        let mut path = path.to_vec();
        path.push(Step::Key((*key).to_owned()));
        let sentence = shape.and_then(|shape| shape.property(key)).map_or("", Shape::description);
        match sample::text(&path) {
            Some(sample) => finding.help(format!("add `{key} = {sample}`: {}", first(sentence))),
            None => finding.help(format!("add `{key}`: {}", first(sentence))),
        }
    })
}

fn unknown_key(key: &str, span: Span, path: &[Step], schema: &Schema) -> Diagnostic {
    let table = &path[..path.len().saturating_sub(1)];
    let name = table_name(table);
    let keys = || schema.root().at(table).into_iter().flat_map(Shape::keys);
    let finding = Diagnostic::error(format!("unknown key `{}`", short(key)));
    let known = format!("the keys of {name} are {}", list(keys()));
    if let Some(meant) = nearest(key, keys()) {
        return finding.at(span, format!("did you mean `{meant}`?")).help(known);
    }
    let finding = finding.at(span, format!("not a key of {name}"));
    match tables_with(key, schema).as_slice() {
        [] => finding.help(known),
        [root] if root.is_empty() => {
            let above = format!("`{key}` is a key of the whole file: write it above the first `[`");
            finding.help(above)
        }
        tables => {
            let names = tables.iter().map(|table| table_name(table)).collect::<Vec<_>>();
            finding.help(format!("`{key}` is a key of {}", names.join(" and of "))).help(known)
        }
    }
}

fn wrong_kind(
    key: &str,
    node: &Node,
    shape: Option<Shape<'_>>,
    expected: &str,
    path: &[Step],
) -> Diagnostic {
    let kind = shape.map_or(Kind::Other, Shape::kind);
    let span = node.span.clone();
    let is_top = path.len() == 1;
    match (kind, &node.value) {
        (Kind::Tables, Value::Table(_)) if is_top => {
            return Diagnostic::error(format!("`{key}` is a list: there may be several"))
                .at(span, format!("write `[[{key}]]`"));
        }
        (Kind::Table, Value::List(_)) if is_top => {
            return Diagnostic::error(format!("`{key}` is one table: there is only one"))
                .at(span, format!("write `[{key}]`"));
        }
        _ => {}
    }
    let expected = match kind {
        Kind::Other => expected.to_owned(),
        kind => phrase(kind).to_owned(),
    };
    let finding = Diagnostic::error(format!("`{key}` must be {expected}"))
        .at(span, format!("this is {}", kind_of(&node.value)));
    let sample = sample::text(path).map(|sample| format!("such as `{key} = {sample}`"));
    let help = match (kind, shape.map_or("", Shape::type_description)) {
        (Kind::Table | Kind::Tables | Kind::Map, _) | (_, "") => sample,
        (Kind::Choice, _) => Some(expected_one_of(&words(shape))),
        (_, sentence) => Some(format!("expected {}", first(sentence))),
    };
    help.into_iter().fold(finding, Diagnostic::help)
}

/// The finding for a value that is none of those that may be here.
pub fn unknown_value(key: &str, value: &str, shape: Option<Shape<'_>>, span: Span) -> Diagnostic {
    let finding = Diagnostic::error(format!("`{key}` cannot be `{}`", short(value)));
    let words = words(shape);
    let expected = expected_one_of(&words);
    match nearest(value, words.iter().map(String::as_str)) {
        Some(meant) => finding.at(span, format!("did you mean `{meant}`?")).help(expected),
        None => finding.at(span, expected),
    }
}

/// The words that may be here.
fn words(shape: Option<Shape<'_>>) -> Vec<String> {
    shape.into_iter().flat_map(Shape::choices).map(|(word, _)| word).collect()
}

fn expected_one_of(words: &[String]) -> String {
    match words {
        [] => String::new(),
        words => format!("expected {}", list(words).replace(" and ", " or ")),
    }
}

/// The last key on the way.
pub fn key_of(path: &[Step]) -> &str {
    path.iter().rev().find_map(Step::key).unwrap_or("the file")
}

/// Of the key at the end of `path`.
fn entry_span(tree: &Node, path: &[Step]) -> Span {
    let entry = path.split_last().and_then(|(last, table)| match last {
        Step::Key(key) => tree.at(table)?.entry(key),
        Step::Index(_) => None,
    });
    entry.map_or(0..0, |entry: &Entry| entry.key_span.clone())
}

/// A table as its header is written: `` `[[backend.server]]` ``, or `the file`.
fn table_name(path: &[Step]) -> String {
    let keys: Vec<&str> = path.iter().filter_map(Step::key).collect();
    match path.last() {
        None => "the file".to_owned(),
        Some(Step::Index(_)) => format!("`[[{}]]`", keys.join(".")),
        Some(Step::Key(_)) => format!("`[{}]`", keys.join(".")),
    }
}

/// The ways to the tables that have this key.
fn tables_with(key: &str, schema: &Schema) -> Vec<Vec<Step>> {
    fn visit(shape: Shape<'_>, path: &[Step], key: &str, found: &mut Vec<Vec<Step>>) {
        if shape.keys().any(|known| known == key) {
            found.push(path.to_vec());
        }
        let inner = shape.properties().filter(|(_, inner)| !inner.is_again(shape));
        for (name, shape) in inner {
            let mut path = [path, &[Step::Key(name.to_owned())]].concat();
            match shape.kind() {
                Kind::Table => visit(shape, &path, key, found),
                Kind::Tables => {
                    path.push(Step::Index(0));
                    let element = shape.element().expect("a list of tables has elements");
                    visit(element, &path, key, found);
                }
                _ => {}
            }
        }
    }
    let mut found = Vec::new();
    visit(schema.root(), &[], key, &mut found);
    found
}

fn phrase(kind: Kind) -> &'static str {
    match kind {
        Kind::Table | Kind::Map => "a table",
        Kind::Tables => "a list of tables",
        Kind::List => "a list",
        Kind::OneOrMany => "a string or a list of strings",
        Kind::String | Kind::Choice => "a string",
        Kind::Integer => "an integer",
        Kind::Boolean => "`true` or `false`",
        Kind::Other => "another kind of value",
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a string",
        Value::Integer(_) | Value::Huge => "an integer",
        Value::Float(_) => "a number with a fraction",
        Value::Boolean(_) => "a boolean",
        Value::Datetime => "a date",
        Value::List(_) => "a list",
        Value::Table(_) => "a table",
    }
}

/// The first sentence, fit to go on in the middle of another.
fn first(sentences: &str) -> String {
    let sentence = sentences.split_once(". ").map_or(sentences, |(first, _)| first);
    let mut words = sentence.trim_end_matches('.').split_whitespace();
    let Some(word) = words.next() else { return String::new() };
    let is_plain = word.chars().skip(1).all(|c| !c.is_uppercase());
    let word = if is_plain { word.to_lowercase() } else { word.to_owned() };
    std::iter::once(word.as_str()).chain(words).collect::<Vec<_>>().join(" ")
}
