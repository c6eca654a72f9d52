//! The file to start from: every key that there is, with what it does and its default.

use std::fmt::Write;

use super::reference::toml_of;
use super::sample;
use super::schema::{Kind, Schema, Shape};
use super::tree::Step;

/// The starting file: valid as it is, each line in it made from the types.
pub fn text(schema: &Schema) -> String {
    let mut file = File { text: INTRODUCTION.to_owned() };
    file.table(schema.root(), &[], Presence::Given);
    file.text
}

const INTRODUCTION: &str = "\
# A configuration to start from. `tidewire check -c FILE` says what is wrong with it, and
# `tidewire run -c FILE` runs it.
#
# A key after a `#` shows its default, or an example where it says so: take the `#` away to set it.
# `${NAME}` in a string is read from the environment; `$$` is `$`.
";

/// The keys that the file sets, although they need not be: without them it would do nothing.
const SET: [&str; 3] = ["route.path", "route.backend", "backend.server.check"];

/// The lists of tables that the file only shows: they need a secret or a file of one's own, or keep
/// somebody out.
const SHOWN: [&str; 2] = ["auth", "rule"];

/// Whether a table is in force or only shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    Given,
    Shown,
}

struct File {
    text: String,
}

impl File {
    /// The keys of a table, those that are tables last.
    fn table(&mut self, shape: Shape<'_>, path: &[Step], presence: Presence) {
        let required: Vec<&str> = shape.required().collect();
        // What a route leads to is shorter in one line.
        let is_section = |shape: Shape<'_>| match shape.kind() {
            Kind::Tables => true,
            Kind::Table => path.is_empty() || shape.default().is_some(),
            _ => false,
        };
        for (key, shape) in shape.properties().filter(|(_, shape)| !is_section(*shape)) {
            let path = [path, &[Step::Key(key.to_owned())]].concat();
            let is_set = required.contains(&key) || SET.contains(&dotted(&path).as_str());
            let is_set = is_set && presence == Presence::Given;
            self.key(key, shape, &path, if is_set { Presence::Given } else { Presence::Shown });
        }
        for (key, shape) in shape.properties().filter(|(_, shape)| is_section(*shape)) {
            self.section(shape, &[path, &[Step::Key(key.to_owned())]].concat());
        }
    }

    fn section(&mut self, shape: Shape<'_>, path: &[Step]) {
        let name = dotted(path);
        self.line("");
        self.comment(shape.description());
        if shape.kind() == Kind::Tables {
            let is_shown = SHOWN.contains(&&*name);
            let presence = if is_shown { Presence::Shown } else { Presence::Given };
            self.line(&format!("{}[[{name}]]", mark(presence)));
            let element = shape.element().expect("a list of tables has elements");
            return self.table(element, &[path, &[Step::Index(0)]].concat(), presence);
        }
        // A table without a default makes a difference by being there.
        let presence = match shape.default() {
            Some(_) => Presence::Given,
            None => Presence::Shown,
        };
        self.line(&format!("{}[{name}]", mark(presence)));
        if let Some(same) = sample::same_as(&name) {
            self.line("");
            return self.comment(&format!("Its keys are those of `[{same}]`."));
        }
        self.table(shape, path, presence);
    }

    fn key(&mut self, key: &str, shape: Shape<'_>, path: &[Step], presence: Presence) {
        let default = shape.default().filter(|default| !is_nothing(default)).map(toml_of);
        let sample = sample::text(path).map(str::to_owned);
        let is_example = presence == Presence::Shown && default.is_none();
        let value = match presence {
            Presence::Given => sample.or(default),
            Presence::Shown => default.or(sample),
        };
        self.line("");
        self.comment(shape.description());
        for (word, meaning) in shape.choices().filter(|(_, meaning)| !meaning.is_empty()) {
            self.comment(&format!("- {word}: {meaning}"));
        }
        if is_example && value.is_some() {
            self.comment("Example:");
        }
        // A key with neither is set to nothing at all by default: an empty list.
        let value = value.or_else(|| shape.default().map(toml_of)).unwrap_or_default();
        self.line(&format!("{}{key} = {value}", mark(presence)));
    }

    fn comment(&mut self, text: &str) {
        let mut line = String::from("#");
        for word in text.split_whitespace() {
            if line.len() + 1 + word.len() > COLUMNS {
                self.line(&line);
                line.truncate(1);
            }
            let _ = write!(line, " {word}");
        }
        if line.len() > 1 {
            self.line(&line);
        }
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }
}

const COLUMNS: usize = 100;

fn mark(presence: Presence) -> &'static str {
    match presence {
        Presence::Given => "",
        Presence::Shown => "#",
    }
}

fn dotted(path: &[Step]) -> String {
    path.iter().filter_map(Step::key).collect::<Vec<_>>().join(".")
}

fn is_nothing(default: &serde_json::Value) -> bool {
    default.as_array().is_some_and(Vec::is_empty)
        || default.as_object().is_some_and(serde_json::Map::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::config::deserialize::deserialize;
    use crate::config::tree::Node;
    use crate::plan::Plan;

    fn read(text: &str) -> Config {
        let (tree, errors) = Node::parse(text);
        assert_eq!(errors, [], "{text}");
        deserialize(&tree).unwrap_or_else(|refusal| panic!("{refusal:?} in\n{text}"))
    }

    #[test]
    fn the_file_is_valid_as_it_is() {
        let text = text(Schema::of_config());
        match Plan::from_text("start.toml", &text) {
            Ok((_, warnings)) => assert!(warnings.is_empty(), "{warnings}"),
            Err(report) => panic!("{report}"),
        }
    }

    #[test]
    fn what_is_shown_as_a_default_is_the_default() {
        let text = text(Schema::of_config());
        let expected = read(&text);
        let lines: Vec<&str> = text.lines().collect();
        let mut defaults = 0;
        // The keys of a table that is only shown cannot be set without it.
        let mut is_shown_table = false;
        for (index, line) in lines.iter().enumerate() {
            if line.starts_with('[') || line.starts_with("#[") {
                is_shown_table = line.starts_with('#');
            }
            let is_key = line.starts_with('#') && !line.starts_with("# ") && line.contains('=');
            if !is_key || is_shown_table || lines[index - 1] == "# Example:" {
                continue;
            }
            let mut with = lines.clone();
            with[index] = &line[1..];
            assert_eq!(read(&with.join("\n")), expected, "{line}");
            defaults += 1;
        }
        assert!(defaults > 20, "{defaults}");
    }

    #[test]
    fn the_hub_that_is_shown_is_the_default_hub() {
        let text = text(Schema::of_config());
        let hub = text.lines().skip_while(|line| *line != "#[hub]");
        let hub = hub.take_while(|line| !line.starts_with('[')).scan("", |last, line| {
            let is_example = *last == "# Example:";
            *last = line;
            Some(if is_example { "" } else { line })
        });
        let hub: Vec<&str> = hub
            .filter(|line| line.starts_with('#') && !line.starts_with("# "))
            .map(|line| &line[1..])
            .collect();
        assert_eq!(read(&hub.join("\n")).hub, Some(Default::default()));
    }
}
