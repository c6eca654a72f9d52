//! The reference page: every key, made from the types.

use std::fmt::Write;

use serde_json::Value;

use super::sample;
use super::schema::{Kind, Schema, Shape};
use super::tree::Step;

/// `docs/configuration.md`.
pub fn page(schema: &Schema) -> String {
    let mut page = INTRODUCTION.to_owned();
    let root = schema.root();
    page.push_str("\n## The file\n\nKeys above the first table.\n");
    for (name, shape) in root.properties().filter(|(_, shape)| !is_section(*shape)) {
        key(&mut page, name, shape, root, &[Step::Key(name.to_owned())]);
    }
    for (name, shape) in root.properties().filter(|(_, shape)| is_section(*shape)) {
        section(&mut page, shape, &[Step::Key(name.to_owned())]);
    }
    page
}

/// A value of the schema as TOML.
pub fn toml_of(value: &Value) -> String {
    match value {
        Value::Array(elements) => {
            let elements: Vec<String> = elements.iter().map(toml_of).collect();
            format!("[{}]", elements.join(", "))
        }
        Value::Object(entries) if entries.is_empty() => "{}".to_owned(),
        Value::Object(entries) => {
            let entry = |(key, value): (&String, &Value)| format!("{key} = {}", toml_of(value));
            format!("{{ {} }}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        // Strings, numbers and truth values are written in TOML as they are in JSON.
        scalar => scalar.to_string(),
    }
}

const INTRODUCTION: &str = "\
# Configuration

Every key of the file that `tidewire run -c FILE` takes. This page is made from the program's types
by `tidewire config --reference`.

- The file is [TOML](https://toml.io). `tidewire config` prints one to start from, and
  `tidewire config --schema` a JSON schema for editors.
- `tidewire check -c FILE` says all that is wrong with a file: unknown keys, bad values and
  contradictions, each with its line and what would be right. A file with something wrong in it is
  not run.
- `${NAME}` in a string is read from the environment, and is never shown in messages; `$$` is `$`.
  A string that is one `${NAME}` and nothing else can stand for a number or a truth value, too.
- A length of time is a number and a unit: `\"250ms\"`, `\"30s\"`, `\"1m30s\"`, `\"1h\"`.
  A size is, too: `\"512B\"`, `\"64KiB\"`, `\"16MiB\"`.
- Relative paths start from the directory of the file.

An edge in front of two servers:

```toml
[[listen]]
name = \"public\"
bind = \"0.0.0.0:80\"

[[route]]
path = \"/ws/*\"
backend = \"nodes\"

[[backend]]
name = \"nodes\"
server = [
  { name = \"server1\", address = \"10.0.0.2:3000\", check = true },
  { name = \"server2\", address = \"10.0.0.3:3000\", check = true },
]
```

A node of a hub:

```toml
[[listen]]
name = \"node\"
bind = \"0.0.0.0:3000\"

[[route]]
path = \"/ws/{topic}\"
hub = { topic = \"{topic}\", reply = \"Received: {message}\" }

[hub]
broker = \"redis://10.0.0.5:6379\"
```
";

fn is_section(shape: Shape<'_>) -> bool {
    matches!(shape.kind(), Kind::Table | Kind::Tables)
}

fn section(page: &mut String, shape: Shape<'_>, path: &[Step]) {
    let name = path.iter().filter_map(Step::key).collect::<Vec<_>>().join(".");
    let table = shape.element().unwrap_or(shape);
    let (open, close) = if shape.kind() == Kind::Tables { ("[[", "]]") } else { ("[", "]") };
    let _ = write!(page, "\n## `{open}{name}{close}`\n\n{}\n", paragraph(shape.description()));
    if let Some(same) = sample::same_as(&name) {
        let _ = write!(page, "\nIts keys are those of `[{same}]`.\n");
        return;
    }
    let more = shape.type_description();
    if !more.is_empty() && more != shape.description() {
        let _ = write!(page, "\n{}\n", paragraph(more));
    }
    if shape.kind() == Kind::Table && shape.default().is_none() && path.len() == 1 {
        page.push_str("\nNot there by default.\n");
    }
    let inside = |name: &str| {
        let mut path = path.to_vec();
        if shape.kind() == Kind::Tables {
            path.push(Step::Index(0));
        }
        path.push(Step::Key(name.to_owned()));
        path
    };
    for (name, shape) in table.properties() {
        key(page, name, shape, table, &inside(name));
    }
    for (name, shape) in table.properties().filter(|(_, shape)| is_section(*shape)) {
        section(page, shape, &inside(name));
    }
}

fn key(page: &mut String, name: &str, shape: Shape<'_>, table: Shape<'_>, path: &[Step]) {
    let _ = write!(page, "\n### `{name}`\n\n{}\n\n", paragraph(shape.description()));
    for (word, meaning) in shape.choices().filter(|(_, meaning)| !meaning.is_empty()) {
        let _ = writeln!(page, "- `{}`: {}", written(&word), paragraph(meaning));
    }
    if shape.choices().any(|(_, meaning)| !meaning.is_empty()) {
        page.push('\n');
    }
    let _ = writeln!(page, "- Type: {}", kind(shape, path));
    let is_required = table.required().any(|required| required == name);
    match shape.default() {
        _ if is_required => page.push_str("- Must be given.\n"),
        Some(Value::Object(_)) if shape.kind() == Kind::Table => {}
        Some(default) => {
            let _ = writeln!(page, "- Default: `{}`", toml_of(default));
        }
        None => page.push_str("- Not set by default.\n"),
    }
    if let Some(sample) = sample::text(path) {
        let _ = writeln!(page, "- Example: `{name} = {sample}`");
    }
}

/// What kind of value belongs here, in words.
fn kind(shape: Shape<'_>, path: &[Step]) -> String {
    let keys: Vec<&str> = path.iter().filter_map(Step::key).collect();
    let noun = match shape.kind() {
        Kind::Table => return format!("table, see `[{}]`", keys.join(".")),
        Kind::Tables => return format!("list of tables, see `[[{}]]`", keys.join(".")),
        Kind::Map => return "table of strings".to_owned(),
        Kind::Boolean => return "`true` or `false`".to_owned(),
        Kind::Integer => {
            let known = shape.bounds().filter(|(_, greatest)| *greatest < u16::MAX.into());
            let bounds = known.map(|(least, greatest)| format!(", {least} to {greatest}"));
            return "integer".to_owned() + &bounds.unwrap_or_default();
        }
        Kind::Choice => {
            let words: Vec<String> =
                shape.choices().map(|(word, _)| format!("`{}`", written(&word))).collect();
            return words.join(", ");
        }
        Kind::List => {
            let element = shape.element().map_or_else(String::new, |it| kind(it, path));
            let (noun, more) = element.split_once(',').unwrap_or((&element, ""));
            let more = if more.is_empty() { String::new() } else { format!(", each{more}") };
            return format!("list of {noun}s{more}");
        }
        Kind::OneOrMany => "string, or list of strings",
        Kind::String | Kind::Other => "string",
    };
    match shape.type_description() {
        "" => noun.to_owned(),
        what if what == shape.description() => noun.to_owned(),
        what => format!("{noun}: {}", lower_first(paragraph(what).trim_end_matches('.'))),
    }
}

/// A word of a choice as it is written: numbers have no quotes.
fn written(word: &str) -> String {
    match word.parse::<i64>() {
        Ok(_) => word.to_owned(),
        Err(_) => format!("\"{word}\""),
    }
}

fn paragraph(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The page is for people who read the sources or the site: it is in the tree, and current.
    #[test]
    fn the_reference_page_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
        let there = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            there == page(Schema::of_config()),
            "docs/configuration.md is not current; renew it with\n    \
             cargo run -- config --reference > docs/configuration.md"
        );
    }

    #[test]
    fn values_are_written_as_toml() {
        let value = serde_json::json!({ "a": [1, "x\"y"], "b": true, "c": {} });
        assert_eq!(toml_of(&value), r#"{ a = [1, "x\"y"], b = true, c = {} }"#);
    }
}
