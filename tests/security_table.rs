//! Each row of the tables in SECURITY.md and docs/conformance.md names tests that are there.

use std::fs;
use std::path::Path;

#[test]
fn every_test_of_the_table_is_in_the_sources() {
    check("SECURITY.md", 50);
}

#[test]
fn every_case_of_others_is_shown_by_a_test_in_the_sources() {
    check("docs/conformance.md", 60);
}

/// Each test that the tables of a page name is there; they name as many at least.
#[track_caller]
fn check(page: &str, least: usize) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join(page)).unwrap();
    let mut wrong = Vec::new();
    let mut count = 0;
    for row in rows(&page) {
        let tests: Vec<&str> = row.rsplit('|').nth(1).unwrap_or("").split(',').collect();
        for test in tests {
            let named = test.trim().trim_matches('`').split_once("::");
            let is_there = named.is_some_and(|(file, name)| {
                let text = fs::read_to_string(root.join(file)).unwrap_or_default();
                is_test(&text, name)
            });
            count += 1;
            if !is_there {
                wrong.push(format!("`{}` of: {row}", test.trim()));
            }
        }
    }
    assert!(count >= least, "{count} tests are named");
    assert!(wrong.is_empty(), "not in the sources:\n{}", wrong.join("\n"));
}

/// The rows of tables whose last column is the test.
fn rows(page: &str) -> Vec<&str> {
    let mut is_in = false;
    let mut rows = Vec::new();
    for line in page.lines() {
        match line.starts_with('|') {
            true if line.ends_with("| Test |") => is_in = true,
            true if is_in && !line.starts_with("|---") => rows.push(line),
            true => {}
            false => is_in = false,
        }
    }
    rows
}

/// Whether a function of this name is marked as a test, with nothing but attributes between.
fn is_test(text: &str, name: &str) -> bool {
    let function = format!("fn {name}(");
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let Some(index) = lines.iter().position(|line| line.contains(&function)) else { return false };
    let before = lines[..index].iter().rev();
    before.take_while(|line| line.starts_with("#[")).any(|line| line.contains("test"))
}

#[test]
fn what_is_no_test_is_found() {
    let text = "#[test]\n#[ignore]\nfn one() {}\nfn two() {}\n// #[test]\n\nfn three() {}\n";
    assert!(is_test(text, "one"));
    for name in ["two", "three", "four", "on"] {
        assert!(!is_test(text, name), "{name}");
    }
    let page = "| A | Test |\n|---|---|\n| x | `f::a` |\n\n| B | C |\n|---|---|\n| y | z |\n";
    assert_eq!(rows(page), ["| x | `f::a` |"]);
}
