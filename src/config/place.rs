//! A cursor over the tree that mirrors the way through `Config`: `place.key("route").index(2)`.
//!
//! It never fails: where the text says nothing, it stays on the table in which it would.

use super::tree::{Entry, Node, Span, State, Value};

/// Where a piece of the `Config` is in the text.
#[derive(Clone, Copy, Debug)]
pub struct Place<'t> {
    /// The nearest node that the text has.
    nearest: &'t Node,
    key_span: Option<&'t Span>,
    presence: Presence,
}

/// Whether the text has what the `Config` has here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    There,
    /// The `Config` has the default.
    Absent,
    /// The `Config` has the default, but the text has something that is wrong.
    Refused,
}

impl<'t> Place<'t> {
    /// The whole text.
    pub fn root(tree: &'t Node) -> Self {
        Self { nearest: tree, key_span: None, presence: Presence::There }
    }

    pub fn key(self, key: &str) -> Self {
        if self.presence != Presence::There {
            return self;
        }
        match self.nearest.entry(key) {
            None => Self { presence: Presence::Absent, ..self },
            Some(entry) if entry.node.state == State::Refused => {
                Self { presence: Presence::Refused, ..self }
            }
            Some(Entry { node, key_span, .. }) => {
                Self { nearest: node, key_span: Some(key_span), ..self }
            }
        }
    }

    /// The element of that index in the `Config`: refused ones do not count. A value that stands
    /// for a list of one is its only element.
    pub fn index(self, index: usize) -> Self {
        let Value::List(elements) = &self.nearest.value else { return self };
        let mut left = elements.iter().filter(|element| element.state != State::Refused);
        match left.nth(index).filter(|_| self.presence == Presence::There) {
            Some(element) => Self { nearest: element, key_span: None, ..self },
            None => self,
        }
    }

    /// Of the value, or of the table in which it would be.
    pub fn span(self) -> Span {
        self.nearest.span.clone()
    }

    /// Of the key, or of the value if it has none.
    pub fn key_span(self) -> Span {
        let key_span = self.key_span.filter(|_| self.presence == Presence::There);
        key_span.unwrap_or(&self.nearest.span).clone()
    }

    /// Whether the text gives this, and it has not been reported already.
    pub fn is_given(self) -> bool {
        self.presence == Presence::There && self.nearest.state == State::Given
    }

    /// Whether nothing in here, or that should be here, has been reported already.
    pub fn is_whole(self) -> bool {
        match self.presence {
            Presence::There => self.nearest.is_whole(),
            Presence::Absent => true,
            Presence::Refused => false,
        }
    }

    /// Whether the value here is made of the environment.
    pub fn is_from_environment(self) -> bool {
        self.nearest.written.is_some()
    }

    /// Whether a value in the table here is made of the environment.
    pub fn has_environment(self) -> bool {
        self.nearest.entries().iter().any(|entry| entry.node.written.is_some())
    }

    /// The string here as it may be shown: with its `${NAME}` unread.
    pub fn shown(self) -> String {
        let text = self.nearest.written.as_deref().or(self.nearest.as_str());
        text.unwrap_or_default().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tree::Step;

    #[test]
    fn an_index_counts_what_the_config_has() {
        let text = "a = [1, 2, 3]\nb = 'x'\n[t]\n";
        let (mut tree, _) = Node::parse(text);
        let refused = [Step::Key("a".into()), Step::Index(0)];
        tree.at_mut(&refused).unwrap().state = State::Refused;
        let root = Place::root(&tree);
        let check = |place: Place<'_>, expected| assert_eq!(&text[place.span()], expected);
        check(root.key("a").index(0), "2");
        check(root.key("a").index(1), "3");
        check(root.key("b").index(0), "'x'");
        check(root.key("t").key("absent").key("more"), "[t]");
    }

    #[test]
    fn what_is_refused_is_neither_given_nor_whole() {
        let (mut tree, _) = Node::parse("[t]\na = 1\n");
        tree.at_mut(&[Step::Key("t".into()), Step::Key("a".into())]).unwrap().state =
            State::Refused;
        let table = Place::root(&tree).key("t");
        assert!(table.is_given() && !table.is_whole());
        assert!(!table.key("a").is_given() && !table.key("a").is_whole());
        assert!(!table.key("b").is_given() && table.key("b").is_whole());
    }
}
