//! The crates depend on each other in one direction, and the sources keep the rules that a program
//! can check.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn crates_depend_on_each_other_only_as_drawn() {
    // wire <- runtime, auth <- edge, hub <- the binary. Edge and hub do not know each other; the binary
    // introduces them. A new arrow is a decision: it is drawn here and in ARCHITECTURE.md.
    let drawn: [(&str, &[&str]); 7] = [
        (
            "tidewire",
            &[
                "tidewire-auth",
                "tidewire-edge",
                "tidewire-hub",
                "tidewire-runtime",
                "tidewire-wire",
            ],
        ),
        ("tidewire-auth", &["tidewire-runtime", "tidewire-wire"]),
        ("tidewire-edge", &["tidewire-auth", "tidewire-runtime", "tidewire-wire"]),
        ("tidewire-hub", &["tidewire-auth", "tidewire-runtime", "tidewire-wire"]),
        ("tidewire-runtime", &[]),
        ("tidewire-testkit", &["tidewire-wire"]),
        ("tidewire-wire", &[]),
    ];
    let found: BTreeMap<String, Vec<String>> =
        manifests().iter().map(|manifest| arrows(manifest)).collect();
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let drawn: BTreeMap<String, Vec<String>> =
        drawn.into_iter().map(|(name, to)| (name.to_owned(), owned(to))).collect();
    assert_eq!(found, drawn, "left is what the manifests say, right is what is drawn");
}

#[test]
fn nothing_but_tests_depends_on_the_testkit() {
    for manifest in manifests() {
        let (name, to) = arrows(&manifest);
        assert!(!to.contains(&"tidewire-testkit".to_owned()), "{name} ships the testkit");
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    each_source(|path, text| text.starts_with("//!").then_some(()).ok_or(format!("{path:?}")));
}

#[test]
fn no_file_holds_two_nouns() {
    each_source(|path, text| match text.lines().count() {
        0..=LINES_MAX => Ok(()),
        lines => Err(format!("{path:?}: {lines} lines")),
    });
}

#[test]
fn unsafe_is_for_the_runtime() {
    // Split, so that this file does not find itself.
    let (code, rule) = (concat!("uns", "afe "), concat!("uns", "afe_"));
    each_source(|path, text| {
        let is_runtime = path.starts_with("crates/runtime");
        let is_code = |line: &&str| !line.trim_start().starts_with("//") && !line.contains(rule);
        match text.lines().filter(is_code).find(|line| line.contains(code)) {
            Some(line) if !is_runtime => Err(format!("{path:?}: {line}")),
            _ => Ok(()),
        }
    });
}

/// The name of a crate, and those of ours that it is built with; what only its tests need does not
/// count.
fn arrows(manifest: &Path) -> (String, Vec<String>) {
    let text = fs::read_to_string(manifest).unwrap();
    let table: toml::Table = text.parse().unwrap();
    let name = table["package"]["name"].as_str().unwrap().to_owned();
    let mut to = Vec::new();
    for section in ["dependencies", "build-dependencies"] {
        let dependencies = table.get(section).and_then(toml::Value::as_table);
        let names = dependencies.into_iter().flat_map(toml::Table::keys);
        to.extend(names.filter(|name| name.starts_with("tidewire-")).cloned());
    }
    to.sort();
    assert!(!table.contains_key("target"), "{name}: say here how its targets' arrows are read");
    (name, to)
}

fn manifests() -> Vec<PathBuf> {
    let mut manifests = vec![root().join("Cargo.toml")];
    for entry in fs::read_dir(root().join("crates")).unwrap() {
        manifests.push(entry.unwrap().path().join("Cargo.toml"));
    }
    manifests
}

/// Has `look` look at every source file of the project, and fails with all that it says.
fn each_source(look: impl Fn(&Path, &str) -> Result<(), String>) {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for tree in ["src", "crates", "tests", "fuzz/fuzz_targets"] {
        each_file(&root().join(tree), &mut |path| {
            if path.extension().is_some_and(|it| it == "rs") {
                seen += 1;
                let text = fs::read_to_string(path).unwrap();
                wrong.extend(look(path.strip_prefix(root()).unwrap(), &text).err());
            }
        });
    }
    assert!(seen > 50, "only {seen} files: the project has moved");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn each_file(directory: &Path, visit: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { each_file(&path, visit) } else { visit(&path) }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Far above what is good for a file; past it there are two nouns in it.
const LINES_MAX: usize = 800;
