//! The parsed text: every value with its place in it.
//!
//! The tree outlives deserialization, so that whatever is found wrong later, be it by a type or by
//! a check between two tables, can point at the text. What is wrong is not cut out but marked: it
//! is passed over by deserialization, and later checks know that something was there.

use std::ops::Range;

use toml::de::{DeTable, DeValue, Error};

/// Where something is in the text, in bytes.
pub type Span = Range<usize>;

/// The last place up to `byte` that is not inside of a character.
pub fn boundary(text: &str, byte: usize) -> usize {
    let mut byte = byte.min(text.len());
    while !text.is_char_boundary(byte) {
        byte -= 1;
    }
    byte
}

/// A value of the text.
#[derive(Clone, Debug)]
pub struct Node {
    pub span: Span,
    pub value: Value,
    pub state: State,
    /// Set when the environment has a part in the value: the string with its `${NAME}` unread,
    /// which is all of it that may be shown.
    pub written: Option<String>,
}

/// Whether a value is as the text gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Given,
    /// Reported; as if it were not there.
    Refused,
    /// Reported; another value that is right stands in, because one is required here.
    Replaced,
}

#[derive(Clone, Debug)]
pub enum Value {
    String(String),
    Integer(i128),
    /// An integer of more than 64 bits.
    Huge,
    Float(f64),
    Boolean(bool),
    Datetime,
    List(Vec<Node>),
    Table(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub key: String,
    pub key_span: Span,
    pub node: Node,
}

/// A way into the tree. An index counts the refused elements, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Key(String),
    Index(usize),
}

impl Step {
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Key(key) => Some(key),
            Self::Index(_) => None,
        }
    }
}

impl Node {
    /// The tree of `text` as far as it can be made out, and the errors of its syntax.
    pub fn parse(text: &str) -> (Self, Vec<Error>) {
        let (table, errors) = DeTable::parse_recoverable(text);
        (from_table(table.span(), table.get_ref()), errors)
    }

    pub fn new(span: Span, value: Value) -> Self {
        Self { span, value, state: State::Given, written: None }
    }

    pub fn string(span: Span, value: &str) -> Self {
        Self::new(span, Value::String(value.to_owned()))
    }

    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The entry under `key`, whatever its state.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// The entries of a table; none of anything else.
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Table(entries) => entries,
            _ => &[],
        }
    }

    /// The elements of a list; none of anything else.
    pub fn elements(&self) -> &[Self] {
        match &self.value {
            Value::List(elements) => elements,
            _ => &[],
        }
    }

    /// The node at the end of `path`.
    pub fn at(&self, path: &[Step]) -> Option<&Self> {
        path.iter().try_fold(self, |node, step| match step {
            Step::Key(key) => node.entry(key).map(|entry| &entry.node),
            Step::Index(index) => node.elements().get(*index),
        })
    }

    /// The node at the end of `path`, to change it.
    pub fn at_mut(&mut self, path: &[Step]) -> Option<&mut Self> {
        path.iter().try_fold(self, |node, step| match (&mut node.value, step) {
            (Value::List(elements), Step::Index(index)) => elements.get_mut(*index),
            (Value::Table(entries), Step::Key(key)) => {
                entries.iter_mut().find(|entry| entry.key == *key).map(|entry| &mut entry.node)
            }
            _ => None,
        })
    }

    /// The entry under `key`, to change it.
    pub fn entry_mut(&mut self, key: &str) -> Option<&mut Entry> {
        match &mut self.value {
            Value::Table(entries) => entries.iter_mut().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// Whether everything in it is as the text gives it.
    pub fn is_whole(&self) -> bool {
        self.state == State::Given
            && self.entries().iter().all(|entry| entry.node.is_whole())
            && self.elements().iter().all(Self::is_whole)
    }

    /// Calls `visit` for each value in it that has no parts.
    pub fn for_each_scalar(&mut self, visit: &mut dyn FnMut(&mut Self)) {
        match &mut self.value {
            Value::List(elements) => elements.iter_mut().for_each(|it| it.for_each_scalar(visit)),
            Value::Table(entries) => {
                entries.iter_mut().for_each(|entry| entry.node.for_each_scalar(visit));
            }
            _ => visit(self),
        }
    }
}

fn from_table(span: Span, table: &DeTable<'_>) -> Node {
    let entry = |(key, value): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| {
        let name: &std::borrow::Cow<'_, str> = key.get_ref();
        let node = from_value(value.span(), value.get_ref());
        Entry { key: name.clone().into_owned(), key_span: key.span(), node }
    };
    let mut entries: Vec<Entry> = table.iter().map(entry).collect();
    // The parser sorts by name; findings and defaults go by the order of the text.
    entries.sort_by_key(|entry| entry.key_span.start);
    Node::new(span, Value::Table(entries))
}

fn from_value(span: Span, value: &DeValue<'_>) -> Node {
    let value = match value {
        DeValue::String(text) => return Node::string(span, text),
        DeValue::Integer(integer) => {
            let parsed = i128::from_str_radix(integer.as_str(), integer.radix());
            let fits =
                parsed.ok().filter(|&it| i64::try_from(it).is_ok() || u64::try_from(it).is_ok());
            fits.map_or(Value::Huge, Value::Integer)
        }
        DeValue::Float(float) => Value::Float(float.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(boolean) => Value::Boolean(*boolean),
        DeValue::Datetime(_) => Value::Datetime,
        DeValue::Array(array) => {
            let element = |it: &toml::Spanned<DeValue<'_>>| from_value(it.span(), it.get_ref());
            Value::List(array.iter().map(element).collect())
        }
        DeValue::Table(table) => return from_table(span, table),
    };
    Node::new(span, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_in_the_order_of_the_text() {
        let (tree, errors) = Node::parse("b = 1\na = 'x'\n[[t]]\nc = [true, 0x10]\n");
        assert_eq!(errors, []);
        let keys: Vec<&str> = tree.entries().iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(keys, ["b", "a", "t"]);
        let path = [Step::Key("t".into()), Step::Index(0), Step::Key("c".into()), Step::Index(1)];
        let node = tree.at(&path).unwrap();
        assert!(matches!(node.value, Value::Integer(16)));
    }

    #[test]
    fn a_table_with_something_refused_in_it_is_not_whole() {
        let (mut tree, _) = Node::parse("[a]\nb = [1, 2]\n[c]\n");
        let path = [Step::Key("a".into()), Step::Key("b".into()), Step::Index(1)];
        tree.at_mut(&path).unwrap().state = State::Refused;
        assert!(!tree.entry("a").unwrap().node.is_whole());
        assert!(tree.entry("c").unwrap().node.is_whole());
    }
}
