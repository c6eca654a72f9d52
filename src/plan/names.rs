//! Names: what they may look like, that each is there once, and which one was meant.

use std::collections::HashMap;

use tidewire_edge::server::{NAME_BYTES_MAX, is_name};

use super::Checks;
use crate::config::diagnostic::Diagnostic;
use crate::config::place::Place;
use crate::config::suggest::{list, nearest};
use crate::config::tree::Node;

impl<'c> Checks<'c> {
    /// Checks that each of the `names` can be one and that none is there twice. `noun` says what
    /// they name, such as "server".
    pub(super) fn names<'n>(
        &mut self,
        noun: &str,
        names: impl IntoIterator<Item = (&'n str, Place<'c>)>,
    ) {
        let mut known: HashMap<&str, Place<'c>> = HashMap::new();
        for (name, place) in names {
            if !place.is_given() {
                continue;
            }
            self.name(noun, name, place);
            if let Some(first) = known.get(name) {
                let message = format!("two {noun}s have the name `{}`", place.shown());
                let finding = Diagnostic::error(message).at(place.span(), "this name is taken");
                self.report(finding.also(first.span(), "the first one"));
            } else {
                known.insert(name, place);
            }
        }
    }

    /// Names stand in logs and as labels of metrics: no spaces, no quotes, not too long.
    fn name(&mut self, noun: &str, name: &str, place: Place<'_>) {
        let finding = if name.is_empty() {
            Diagnostic::error(format!("the name of a {noun} is empty"))
        } else if !is_name(name) {
            Diagnostic::error(format!("`{}` is not a name for a {noun}", place.shown()))
        } else {
            return;
        };
        let expected = format!("expected up to {NAME_BYTES_MAX} letters, digits and - _ . : /");
        self.report(finding.at(place.span(), expected));
    }

    /// The index of `name` among `names`; reports a name that there is not. `table` is the key of
    /// the tables that have the names.
    pub(super) fn find<'n>(
        &mut self,
        table: &str,
        name: &str,
        names: impl Iterator<Item = &'n str>,
        place: Place<'_>,
    ) -> Option<usize> {
        let index = names.into_iter().position(|known| known == name);
        if index.is_some() || !place.is_given() {
            return index;
        }
        // One that has been refused as a whole is known, too: its own faults are reported.
        let declared = declared(self.tree, table);
        if declared.iter().any(|node| node.as_str() == Some(name)) {
            return None;
        }
        let shown: Vec<String> = declared.iter().map(|node| Place::root(node).shown()).collect();
        let noun = if table == "listen" { "listener" } else { table };
        let finding = Diagnostic::error(format!("there is no {noun} `{}`", place.shown()));
        let meant = nearest(&place.shown(), shown.iter().map(String::as_str));
        let label = meant.map_or_else(
            || format!("no `[[{table}]]` has this name"),
            |meant| format!("did you mean `{meant}`?"),
        );
        let help = match shown.as_slice() {
            [] => format!("there is no `[[{table}]]` at all"),
            [only] => format!("the only {noun} is `{only}`"),
            _ => format!("the {noun}s are {}", list(&shown)),
        };
        self.report(finding.at(place.span(), label).help(help));
        None
    }
}

/// The names that the text gives to tables of a kind, whatever else is wrong with them.
fn declared<'t>(tree: &'t Node, table: &str) -> Vec<&'t Node> {
    let tables = tree.entry(table).map_or(&[][..], |entry| entry.node.elements());
    let names = tables.iter().filter_map(|table| Some(&table.entry("name")?.node));
    names.filter(|name| name.as_str().is_some() && Place::root(name).is_given()).collect()
}
