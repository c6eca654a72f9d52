//! The documentation holds together: its links lead somewhere, and its configurations can be run.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tidewire_testkit::tidewire::command;

#[test]
fn every_link_within_the_project_leads_somewhere() {
    let pages = pages();
    let wrong: Vec<String> =
        pages.iter().flat_map(|(path, text)| wrong_links(path, text, &pages)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_whole_configuration_in_the_documentation_is_right() {
    let mut checked = 0;
    for (path, text) in &pages() {
        for block in blocks(text, "toml").filter(|block| block.contains("[[listen]]")) {
            check_config(&block).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
            checked += 1;
        }
    }
    assert!(checked > 5, "only {checked}: how blocks are found has changed");
}

#[test]
fn every_example_is_right() {
    let mut checked = 0;
    each_file(&root().join("examples"), &mut |path| {
        // Those that need keys are checked with theirs, in `secure_example.rs`.
        let has_keys = path.parent().is_some_and(|folder| folder.join("make-keys").is_file());
        if path.extension().is_some_and(|it| it == "toml") && !has_keys {
            let text = fs::read_to_string(path).unwrap();
            check_config(&text).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
            checked += 1;
        }
    });
    assert!(checked >= 3, "only {checked}: the examples have moved");
}

/// Has the program check a configuration; a warning counts as wrong.
fn check_config(config: &str) -> Result<(), String> {
    let mut check = command();
    check.args(["check", "--strict", "-c", "-"]).envs(variables(config));
    check.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut check = check.spawn().expect("the program can be started");
    let mut stdin = check.stdin.take().expect("stdin is piped");
    stdin.write_all(config.as_bytes()).expect("the program reads its stdin");
    drop(stdin);
    let output = check.wait_with_output().expect("the program ends");
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{}\n{config}", String::from_utf8_lossy(&output.stderr))),
    }
}

/// A value for each variable that a configuration reads.
fn variables(config: &str) -> impl Iterator<Item = (&str, &str)> {
    let names = config.split("${").skip(1).filter_map(|rest| Some(rest.split_once('}')?.0));
    names.map(|name| (name, "value"))
}

/// The links of a page that lead nowhere.
fn wrong_links(path: &Path, text: &str, pages: &HashMap<PathBuf, String>) -> Vec<String> {
    let is_right = |link: &str| {
        let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
        let target = match file {
            "" => Ok(path.to_owned()),
            _ => path.parent().expect("a page is in a directory").join(file).canonicalize(),
        };
        target.is_ok_and(|target| {
            anchor.is_empty() || pages.get(&target).is_some_and(|page| has_heading(page, anchor))
        })
    };
    let wrong = links(text).into_iter().filter(|link| !is_elsewhere(link) && !is_right(link));
    wrong.map(|link| format!("{}: {link}", path.display())).collect()
}

/// The targets of Markdown's links and images, and of the HTML ones that Markdown may hold.
fn links(text: &str) -> Vec<&str> {
    let mut links = Vec::new();
    for line in outside_of_blocks(text) {
        for (start, end) in [("](", ')'), ("src=\"", '"'), ("href=\"", '"')] {
            let pieces = line.split(start).skip(1);
            links.extend(pieces.filter_map(|piece| Some(piece.split_once(end)?.0)));
        }
    }
    links
}

fn is_elsewhere(link: &str) -> bool {
    link.contains("://") || link.starts_with("mailto:")
}

/// Whether a heading of the page has this anchor, as forges make them.
fn has_heading(page: &str, anchor: &str) -> bool {
    let mut headings = outside_of_blocks(page).filter(|line| line.starts_with('#'));
    headings.any(|line| {
        let kept = |c: &char| c.is_alphanumeric() || "-_ ".contains(*c);
        let text: String = line.trim_start_matches('#').trim().chars().filter(kept).collect();
        text.to_lowercase().replace(' ', "-") == anchor
    })
}

fn outside_of_blocks(text: &str) -> impl Iterator<Item = &str> {
    let mut is_inside = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_inside ^= is_fence;
        !is_inside && !is_fence
    })
}

/// The code blocks of a language.
fn blocks<'t>(text: &'t str, language: &str) -> impl Iterator<Item = String> + use<'t> {
    let fence = format!("```{language}");
    let mut lines = text.lines();
    std::iter::from_fn(move || {
        lines.by_ref().find(|line| **line == fence)?;
        let inside = lines.by_ref().take_while(|line| *line != "```");
        Some(inside.flat_map(|line| [line, "\n"]).collect())
    })
}

/// Every page of the documentation, by its path.
fn pages() -> HashMap<PathBuf, String> {
    let mut pages = HashMap::new();
    each_file(root(), &mut |path| {
        if path.extension().is_some_and(|it| it == "md") {
            pages.insert(path.canonicalize().unwrap(), fs::read_to_string(path).unwrap());
        }
    });
    assert!(pages.len() > 10, "only {} pages: they have moved", pages.len());
    pages
}

fn each_file(directory: &Path, visit: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if ["target", "node_modules"].contains(&name) || name.starts_with('.') {
            continue;
        }
        if path.is_dir() { each_file(&path, visit) } else { visit(&path) }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
