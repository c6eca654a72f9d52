//! From the tree to a [`Config`]: each value that a type refuses is reported, put out of the way,
//! and the tree is read again, until nothing is refused.

use super::deserialize::{Fault, Refusal, deserialize};
use super::diagnostic::Diagnostic;
use super::fault;
use super::sample;
use super::schema::{Kind, Schema, Shape};
use super::suggest::nearest;
use super::tree::{Entry, Node, State, Step, Value};
use super::{Config, bounds};

/// Reads a tree, and changes it where it is wrong.
pub struct Reader<'r> {
    pub tree: &'r mut Node,
    pub schema: &'r Schema,
    pub findings: &'r mut Vec<Diagnostic>,
    pub completeness: Completeness,
}

/// Whether the tree has all that the text says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completeness {
    Whole,
    /// The syntax is wrong somewhere: what is missing may be there.
    Doubtful,
}

impl Reader<'_> {
    /// A `Config` with what is right, and samples in place of what must be there and is wrong.
    ///
    /// `None` when there is more wrong than [`REFUSALS_MAX`], or nothing left to read: then an
    /// error has been reported.
    pub fn read(mut self) -> Option<Config> {
        for _ in 0..REFUSALS_MAX {
            match deserialize(self.tree) {
                Ok(config) if self.keeps_bounds()? => return Some(config),
                Ok(_) => {}
                Err(refusal) => self.settle(&refusal)?,
            }
        }
        let message = format!("more than {REFUSALS_MAX} values are wrong; the rest is not checked");
        self.findings.push(Diagnostic::error(message));
        None
    }

    /// Whether all integers are within their bounds; reports and replaces those that are not.
    fn keeps_bounds(&mut self) -> Option<bool> {
        let found = bounds::findings(self.tree, self.schema.root());
        let is_kept = found.is_empty();
        for (path, finding) in found {
            self.findings.push(finding);
            self.replace(&path)?;
        }
        Some(is_kept)
    }

    /// Reports what is refused, unless it follows from what has been reported, and changes the tree
    /// so that it is not refused again. `None` when that cannot be.
    fn settle(&mut self, refusal: &Refusal) -> Option<()> {
        let path = refusal.path();
        if let Fault::MissingKey(key) = refusal.fault {
            return self.settle_missing(key, &path);
        }
        let node = self.tree.at(&path)?;
        if node.state != State::Given {
            // The sample does not fit: no reading of this table is right.
            return self.refuse(&path[..path.len().checked_sub(1)?]);
        }
        if node.written.is_some() && refusal.fault != Fault::UnknownKey {
            return self.settle_environment(refusal, &path);
        }
        self.findings.push(fault::diagnostic(refusal, self.tree, self.schema));
        if refusal.fault == Fault::UnknownKey {
            return self.rename_or_refuse(&path);
        }
        if is_table_for_list(node, self.schema.root().at(&path)) {
            let node = self.tree.at_mut(&path)?;
            node.value = Value::List(vec![node.clone()]);
            return Some(());
        }
        self.replace(&path)
    }

    /// A misspelt key is read as what was meant, so that its value is checked, too, and is not
    /// missed.
    fn rename_or_refuse(&mut self, path: &[Step]) -> Option<()> {
        let Some((Step::Key(key), table)) = path.split_last() else { return self.refuse(path) };
        let known = self.schema.root().at(table).into_iter().flat_map(Shape::keys);
        let node = self.tree.at_mut(table)?;
        match nearest(key, known).filter(|meant| node.entry(meant).is_none()) {
            Some(meant) => node.entry_mut(key)?.key = meant.to_owned(),
            None => return self.refuse(path),
        }
        Some(())
    }

    /// Reports all keys that the table lacks at once, and puts samples in their places.
    fn settle_missing(&mut self, key: &'static str, path: &[Step]) -> Option<()> {
        let table = self.tree.at(path)?;
        let mut lacking: Vec<&str> =
            self.schema.root().at(path).into_iter().flat_map(Shape::required).collect();
        if !lacking.contains(&key) {
            lacking.push(key);
        }
        let is_good = |entry: &Entry| entry.node.state != State::Refused;
        lacking.retain(|key| !table.entry(key).is_some_and(is_good));
        let missing: Vec<&str> =
            lacking.iter().copied().filter(|key| table.entry(key).is_none()).collect();
        if !missing.is_empty() && self.completeness == Completeness::Whole {
            self.findings.push(fault::missing_keys(&missing, table, path, self.schema));
        }
        let span = table.span.clone();
        for key in lacking {
            let way = [path, &[Step::Key(key.to_owned())]].concat();
            let Some(node) = sample::node(&way, span.clone()) else { return self.refuse(path) };
            let Value::Table(entries) = &mut self.tree.at_mut(path)?.value else { return None };
            entries.retain(|entry| entry.key != key);
            entries.push(Entry { key: key.to_owned(), key_span: span.clone(), node });
        }
        Some(())
    }

    /// A refused value that the environment has a part in. A number or a truth value is taken for
    /// one; otherwise the message is what the type says about the text as it is written, so that it
    /// cannot hold the value.
    fn settle_environment(&mut self, refusal: &Refusal, path: &[Step]) -> Option<()> {
        let is_kind = matches!(refusal.fault, Fault::WrongKind { .. });
        let shape = self.schema.root().at(path);
        let node = self.tree.at_mut(path)?;
        let written = node.written.clone()?;
        let scalar = node.as_str().and_then(scalar).filter(|_| is_kind && is_one_name(&written));
        if let Some(scalar) = scalar {
            node.value = scalar;
            return Some(());
        }
        let is_text = node.as_str().is_some();
        let span = node.span.clone();
        node.value = Value::String(written.clone());
        let masked = deserialize::<Config>(self.tree).err();
        let finding = match masked.filter(|masked| is_text && masked.path() == path) {
            Some(masked) => fault::diagnostic(&masked, self.tree, self.schema),
            None => fault::unknown_value(fault::key_of(path), &written, shape, span),
        };
        let help = "its value comes from the environment and is not shown";
        self.findings.push(finding.help(help));
        self.replace(path)
    }

    /// Puts the value at `path` out of the way: a sample stands in when its table must have one.
    fn replace(&mut self, path: &[Step]) -> Option<()> {
        let Some((Step::Key(key), table)) = path.split_last() else { return self.refuse(path) };
        let table = self.schema.root().at(table)?;
        let is_required = table.required().any(|required| required == key);
        let span = self.tree.at(path)?.span.clone();
        match sample::node(path, span).filter(|_| is_required) {
            Some(node) => *self.tree.at_mut(path)? = node,
            None => return self.refuse(path),
        }
        Some(())
    }

    fn refuse(&mut self, path: &[Step]) -> Option<()> {
        if path.is_empty() {
            return None;
        }
        self.tree.at_mut(path)?.state = State::Refused;
        Some(())
    }
}

/// `[listen]` for `[[listen]]`: one message, and what is in it is checked as well.
fn is_table_for_list(node: &Node, shape: Option<Shape<'_>>) -> bool {
    matches!(node.value, Value::Table(_)) && shape.is_some_and(|it| it.kind() == Kind::Tables)
}

/// Whether the text is one `${NAME}` and nothing else.
fn is_one_name(written: &str) -> bool {
    written.starts_with("${") && written.find('}') == Some(written.len() - 1)
}

fn scalar(text: &str) -> Option<Value> {
    match text {
        "true" => Some(Value::Boolean(true)),
        "false" => Some(Value::Boolean(false)),
        text => text.parse::<i64>().ok().map(|integer| Value::Integer(integer.into())),
    }
}

/// Each takes one more reading of the tree, and nobody reads so many messages.
const REFUSALS_MAX: usize = 200;
