//! The bounds of integers whose types would take more. They are part of the schema, so that
//! editors, messages and the reference page know them; whoever reads a `Config` can rely on them.

use serde_json::Value;

use super::diagnostic::Diagnostic;
use super::schema::Shape;
use super::tree::{self, Node, State, Step};

/// By the keys on the way, joined: the least and the greatest.
const BOUNDS: &[(&str, u32, u32)] = &[
    // More threads than any machine has cores.
    ("workers", 1, 1024),
    ("listen.https_redirect", 1, 65535),
    ("listen.http.max_headers", 1, 1000),
    ("listen.limits.max_known", 1, 10_000_000),
    ("listen.limits.total.burst", 1, 10_000_000),
    ("limits.max_known", 1, 10_000_000),
    ("limits.total.burst", 1, 10_000_000),
    ("rule.then.deny", 400, 599),
    ("route.respond.status", 200, 599),
    ("backend.hash_balance_factor", 101, 1000),
    ("backend.retries", 0, 100),
    ("backend.stick.session.max_sessions", 100, 10_000_000),
    // HAProxy's.
    ("backend.server.weight", 0, 256),
    ("backend.discovery.weight", 0, 256),
    ("backend.check.port", 1, 65535),
    ("backend.check.rise", 1, 1000),
    ("backend.check.fall", 1, 1000),
];

/// Writes the bounds into the schema of a whole configuration.
pub fn write(document: &mut Value) {
    for (path, least, greatest) in BOUNDS {
        let mut way = String::new();
        for key in path.split('.') {
            way = property(document, &way, key);
        }
        let is_list = document.pointer(&way).is_some_and(|node| node.get("items").is_some());
        let way = if is_list { way + "/items" } else { way };
        let node = document.pointer_mut(&way).expect("a bound is for a key that there is");
        node["minimum"] = (*least).into();
        node["maximum"] = (*greatest).into();
    }
}

/// The pointer to the property `key` of what `pointer` leads to, through lists and references.
fn property(document: &Value, pointer: &str, key: &str) -> String {
    let mut pointer = pointer.to_owned();
    loop {
        let node = document.pointer(&pointer).expect("a bound is for a key that there is");
        match node.get("$ref").and_then(Value::as_str) {
            Some(target) => target.trim_start_matches('#').clone_into(&mut pointer),
            None if node.get("items").is_some() => pointer.push_str("/items"),
            None => return format!("{pointer}/properties/{key}"),
        }
    }
}

/// The ways to all integers in the tree that are out of their bounds, with what is said about each.
pub fn findings(tree: &Node, shape: Shape<'_>) -> Vec<(Vec<Step>, Diagnostic)> {
    let mut found = Vec::new();
    visit(tree, shape, &mut Vec::new(), &mut found);
    found
}

fn visit(
    node: &Node,
    shape: Shape<'_>,
    path: &mut Vec<Step>,
    found: &mut Vec<(Vec<Step>, Diagnostic)>,
) {
    if node.state == State::Given
        && let (tree::Value::Integer(integer), Some((least, greatest))) =
            (&node.value, shape.bounds())
        && !(least..=greatest).contains(integer)
    {
        let key = path.iter().rev().find_map(Step::key).unwrap_or_default();
        let finding = Diagnostic::error(format!("`{key}` is out of its bounds"))
            .at(node.span.clone(), format!("expected {least} to {greatest}"));
        found.push((path.clone(), finding));
    }
    let entries = node.entries().iter().map(|it| (Step::Key(it.key.clone()), &it.node));
    let elements = node.elements().iter().enumerate().map(|(i, it)| (Step::Index(i), it));
    for (step, child) in entries.chain(elements) {
        if let Some(shape) = shape.at(std::slice::from_ref(&step)) {
            path.push(step);
            visit(child, shape, path, found);
            path.pop();
        }
    }
}
