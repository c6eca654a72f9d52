//! What the types say about themselves, as a JSON schema (draft 2020-12): for editors, for the
//! reference page and the starting file, and for messages that name what would be right.

use std::sync::LazyLock;

use serde_json::Value;

use super::tree::Step;
use super::{Config, bounds};

/// The schema of a whole configuration.
#[derive(Debug)]
pub struct Schema(Value);

/// Made once: it is the same for every text.
static OF_CONFIG: LazyLock<Schema> = LazyLock::new(Schema::new);

/// What the schema says about the value at one place.
#[derive(Clone, Copy, Debug)]
pub struct Shape<'s> {
    root: &'s Value,
    node: &'s Value,
}

/// What kind of value belongs somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A table with known keys.
    Table,
    /// A list of tables with known keys.
    Tables,
    /// A table whose keys are free.
    Map,
    List,
    /// A string, or a list of strings.
    OneOrMany,
    String,
    Integer,
    Boolean,
    /// One of some words.
    Choice,
    /// Something that this view has no word for.
    Other,
}

impl Schema {
    pub fn of_config() -> &'static Self {
        &OF_CONFIG
    }

    fn new() -> Self {
        let mut document = schemars::schema_for!(Config).to_value();
        without_null(&mut document);
        bounds::write(&mut document);
        document["title"] = "Tidewire configuration".into();
        Self(document)
    }

    pub fn root(&self) -> Shape<'_> {
        Shape { root: &self.0, node: &self.0 }
    }

    /// As JSON, for editors.
    pub fn document(&self) -> &Value {
        &self.0
    }
}

impl<'s> Shape<'s> {
    /// At the end of `path`.
    pub fn at(self, path: &[Step]) -> Option<Self> {
        path.iter().try_fold(self, |shape, step| match step {
            Step::Key(key) => shape.property(key),
            Step::Index(_) => shape.element(),
        })
    }

    pub fn property(self, key: &str) -> Option<Self> {
        let node = self.resolved();
        let known = node.get("properties").and_then(|known| known.get(key));
        known
            .or_else(|| node.get("additionalProperties").filter(|it| it.is_object()))
            .map(|it| self.with(it))
    }

    /// The keys of a table, in the order of the type's fields.
    pub fn properties(self) -> impl Iterator<Item = (&'s str, Self)> {
        let known = self.resolved().get("properties").and_then(Value::as_object);
        known.into_iter().flatten().map(move |(key, node)| (key.as_str(), self.with(node)))
    }

    /// Whether this is the table `outer` again, or a list of such: conditions are made of conditions.
    /// Whoever goes through all tables passes over it.
    pub fn is_again(self, outer: Self) -> bool {
        std::ptr::eq(self.element().unwrap_or(self).resolved(), outer.resolved())
    }

    pub fn keys(self) -> impl Iterator<Item = &'s str> {
        self.properties().map(|(key, _)| key)
    }

    /// The keys that a table must have.
    pub fn required(self) -> impl Iterator<Item = &'s str> {
        let required = self.resolved().get("required").and_then(Value::as_array);
        required.into_iter().flatten().filter_map(Value::as_str)
    }

    /// What the elements of a list are.
    pub fn element(self) -> Option<Self> {
        let node = self.resolved();
        let of_list = |node: &'s Value| node.get("items").map(|items| self.with(items));
        of_list(node).or_else(|| alternatives(node).find_map(of_list))
    }

    pub fn kind(self) -> Kind {
        let node = self.resolved();
        if self.choices().next().is_some() {
            return Kind::Choice;
        }
        match node.get("type").and_then(Value::as_str) {
            Some("object") if node.get("properties").is_some() => Kind::Table,
            Some("object") => Kind::Map,
            Some("array") => match self.element().map(Self::kind) {
                Some(Kind::Table) => Kind::Tables,
                _ => Kind::List,
            },
            Some("string") => Kind::String,
            Some("integer") => Kind::Integer,
            Some("boolean") => Kind::Boolean,
            _ if self.element().is_some() => Kind::OneOrMany,
            _ => Kind::Other,
        }
    }

    /// The values that may be here if they are few, each with what it means.
    pub fn choices(self) -> impl Iterator<Item = (String, &'s str)> {
        let node = self.resolved();
        let plain = node.get("enum").and_then(Value::as_array).into_iter().flatten();
        let plain = plain.map(|value| (word(value), ""));
        let documented =
            alternatives(node).filter_map(|one| Some((word(one.get("const")?), text_of(one))));
        plain.chain(documented)
    }

    /// The sentences of the field; those of its type when it has none of its own.
    pub fn description(self) -> &'s str {
        match text_of(self.node) {
            "" => text_of(self.resolved()),
            own => own,
        }
    }

    /// The sentences of the type.
    pub fn type_description(self) -> &'s str {
        match self.kind() {
            Kind::OneOrMany | Kind::List | Kind::Tables => {
                self.element().map_or("", |element| text_of(element.resolved()))
            }
            _ if self.node.get("$ref").is_some() => text_of(self.resolved()),
            _ => "",
        }
    }

    pub fn default(self) -> Option<&'s Value> {
        self.node.get("default")
    }

    /// The least and the greatest integer that fit.
    pub fn bounds(self) -> Option<(i128, i128)> {
        let node = self.resolved();
        let bound = |name| node.get(name).and_then(Value::as_number)?.as_i128();
        let of_type = match node.get("format")?.as_str()? {
            "uint16" => u16::MAX.into(),
            "uint32" => u32::MAX.into(),
            _ => return None,
        };
        Some((bound("minimum")?, bound("maximum").unwrap_or(of_type)))
    }

    fn resolved(self) -> &'s Value {
        let target = self.node.get("$ref").and_then(Value::as_str);
        let target = target.and_then(|path| self.root.pointer(path.trim_start_matches('#')));
        target.unwrap_or(self.node)
    }

    fn with(self, node: &'s Value) -> Self {
        Self { node, ..self }
    }
}

fn alternatives(node: &Value) -> impl Iterator<Item = &Value> {
    let of = |name| node.get(name).and_then(Value::as_array).into_iter().flatten();
    of("anyOf").chain(of("oneOf"))
}

fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn text_of(node: &Value) -> &str {
    node.get("description").and_then(Value::as_str).unwrap_or_default()
}

/// TOML has no null: what is optional is left out.
fn without_null(node: &mut Value) {
    match node {
        Value::Array(elements) => elements.iter_mut().for_each(without_null),
        Value::Object(object) => {
            object.values_mut().for_each(without_null);
            object.retain(|_, value| !value.is_null());
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    object.insert("type".into(), only);
                }
            }
            let Some(Value::Array(any)) = object.get_mut("anyOf") else { return };
            any.retain(|one| one.get("type").is_none_or(|name| name != "null"));
            if let [Value::Object(only)] = any.as_slice() {
                let only = only.clone();
                object.shift_remove("anyOf");
                // The field's own words go before the type's.
                only.into_iter().for_each(|(name, value)| {
                    object.entry(name).or_insert(value);
                });
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape<'s>(schema: &'s Schema, path: &str) -> Shape<'s> {
        path.split('.').fold(schema.root(), |shape, key| {
            let shape = shape.element().unwrap_or(shape);
            shape.property(key).unwrap_or_else(|| panic!("no `{key}` on the way to `{path}`"))
        })
    }

    #[test]
    fn every_key_has_a_sentence_and_a_kind() {
        fn visit(outer: Shape<'_>, path: &str) {
            for (key, shape) in outer.properties() {
                let path = format!("{path}.{key}");
                assert!(shape.description().ends_with('.'), "{path}: {:?}", shape.description());
                assert_ne!(shape.kind(), Kind::Other, "{path}");
                if !shape.is_again(outer) {
                    visit(shape.element().unwrap_or(shape), &path);
                }
            }
        }
        visit(Schema::of_config().root(), "");
    }

    #[test]
    fn kinds_are_told_apart() {
        let schema = Schema::of_config();
        let check = |path, kind| assert_eq!(shape(schema, path).kind(), kind, "{path}");
        check("workers", Kind::Integer);
        check("listen", Kind::Tables);
        check("listen.bind", Kind::OneOrMany);
        check("route.header", Kind::Map);
        check("route.websocket", Kind::Boolean);
        check("route.redirect", Kind::Table);
        check("backend.balance", Kind::Choice);
        check("backend.check.status", Kind::List);
        check("timeout.connect", Kind::String);
    }

    #[test]
    fn the_schema_has_no_null() {
        fn visit(node: &Value) {
            assert!(!node.is_null() && node != "null");
            match node {
                Value::Array(elements) => elements.iter().for_each(visit),
                Value::Object(object) => object.values().for_each(visit),
                _ => {}
            }
        }
        visit(Schema::of_config().document());
    }
}
