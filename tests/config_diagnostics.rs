//! `tidewire check` says what is wrong, where, and what would be right.
//!
//! Each `tests/config/NAME.toml` is checked by the real binary, and what it prints is compared with
//! `NAME.expected`. To renew those after a change of words, and then read the difference:
//!
//! ```text
//! RENEW=1 cargo test --test config_diagnostics each_case && git diff tests/config
//! ```

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Runs the binary where the cases are, so that it prints their bare names.
fn tidewire(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidewire"));
    command.args(args).current_dir(cases_dir()).env_clear();
    command
        .env("SECRET", "hunter2:not a port")
        .env("WEIGHT", "7")
        .env("ZERO", "0")
        .env("ADDRESS", "10.0.0.9:80");
    command
}

fn check(args: &[&str]) -> (Option<i32>, String, String) {
    let output = tidewire(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn cases_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config")
}

fn cases() -> Vec<PathBuf> {
    let files = fs::read_dir(cases_dir()).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|it| it == "toml")).collect();
    cases.sort();
    cases
}

#[test]
fn each_case_prints_what_is_expected() {
    let is_renewing = std::env::var_os("RENEW").is_some();
    let mut wrong = Vec::new();
    for case in cases() {
        let name = case.file_name().unwrap().to_str().unwrap();
        let (code, stdout, stderr) = check(&["check", "-c", name]);
        let printed = format!("exit {}\n{stderr}{stdout}", code.unwrap());
        let path = case.with_extension("expected");
        if is_renewing {
            fs::write(path, printed).unwrap();
        } else if fs::read_to_string(path).unwrap_or_default() != printed {
            wrong.push(format!("{name} prints\n{printed}"));
        }
    }
    let count = wrong.len();
    assert!(wrong.is_empty(), "{count} cases print something else:\n{}", wrong.join("\n"));
}

#[test]
fn there_are_cases_of_every_kind() {
    let cases = cases();
    assert!(cases.len() >= 30, "{}", cases.len());
    let expected = |case: &PathBuf| fs::read_to_string(case.with_extension("expected")).unwrap();
    for code in ["exit 0\n", "exit 1\n"] {
        assert!(cases.iter().any(|case| expected(case).starts_with(code)), "{code}");
    }
}

#[test]
fn the_examples_pass_their_check() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let dirs = fs::read_dir(examples).unwrap().map(|entry| entry.unwrap().path());
    // Those that need keys are checked with theirs, in `secure_example.rs`.
    let dirs = dirs.filter(|dir| dir.is_dir() && !dir.join("make-keys").is_file());
    let files = dirs.flat_map(|dir| fs::read_dir(dir).unwrap());
    let files = files.map(|entry| entry.unwrap().path());
    let mut count = 0;
    for file in files.filter(|path| path.extension().is_some_and(|it| it == "toml")) {
        let (code, _, stderr) = check(&["check", "--strict", "-c", file.to_str().unwrap()]);
        assert_eq!(code, Some(0), "{stderr}");
        count += 1;
    }
    assert!(count >= 3, "{count}");
}

#[test]
fn warnings_are_errors_only_when_strict() {
    let case = "warning_unused_backend.toml";
    assert_eq!(check(&["check", "-c", case]).0, Some(0));
    assert_eq!(check(&["check", "--strict", "-c", case]).0, Some(1));
}

#[test]
fn a_file_that_cannot_be_read_is_told_apart_from_one_that_is_wrong() {
    let (code, _, stderr) = check(&["check", "-c", "no_such_file.toml"]);
    assert_eq!(code, Some(2));
    assert!(stderr.starts_with("tidewire: cannot read no_such_file.toml: "), "{stderr}");
    let (code, _, stderr) = check(&["check", "-c", "several_at_once.toml", "no_such_file.toml"]);
    assert_eq!(code, Some(2), "{stderr}");
    assert_eq!(check(&["run", "-c", "no_such_file.toml"]).0, Some(2));
}

#[test]
fn a_node_is_not_started_from_a_wrong_file() {
    let (code, stdout, stderr) = check(&["run", "-c", "several_at_once.toml"]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.contains("error: "), "{stderr}");
}

#[test]
fn standard_input_is_a_file_too() {
    let mut child = tidewire(&["check", "-c", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"workers = 'two'\n").unwrap();
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(String::from_utf8(stderr).unwrap().contains("`workers` must be an integer"));
}

#[test]
fn programs_get_a_json_object_for_each_finding() {
    let args = ["check", "--format", "json", "-c", "several_at_once.toml", "no_such_file.toml"];
    let (code, stdout, stderr) = check(&args);
    assert_eq!((code, stderr.as_str()), (Some(2), ""));
    let records: Vec<serde_json::Value> =
        stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let expected = fs::read_to_string(cases_dir().join("several_at_once.expected")).unwrap();
    let rendered = expected.matches("\n --> ").count() + expected.matches("\n  --> ").count();
    assert_eq!(records.len(), rendered + 1, "one for each finding, one for the other file");
    for record in &records[..rendered] {
        let place = format!(
            "--> {}:{}:{}\n",
            record["file"].as_str().unwrap(),
            record["line"],
            record["column"]
        );
        assert!(expected.contains(&place), "{place}");
        assert!(expected.contains(record["message"].as_str().unwrap()), "{record}");
        assert!(record["severity"] == "error" || record["severity"] == "warning");
    }
    assert_eq!(records[rendered]["file"], "no_such_file.toml");
    assert!(records[rendered]["line"].is_null());
}

#[test]
fn what_is_not_text_is_reported_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("latin1.toml");
    fs::write(&path, b"workers = 2\n# caf\xe9\n").unwrap();
    let (code, _, stderr) = check(&["check", "-c", path.to_str().unwrap()]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("the file is not UTF-8 text"), "{stderr}");
    assert!(stderr.contains("latin1.toml:2:6"), "{stderr}");
}

#[test]
fn relative_directories_start_from_the_file() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("public")).unwrap();
    let path = dir.path().join("site.toml");
    let text =
        "[[listen]]\nname = 'a'\nbind = '127.0.0.1:0'\n[[route]]\nstatic = { dir = 'public' }\n";
    fs::write(&path, text).unwrap();
    let (code, _, stderr) = check(&["check", "-c", path.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{stderr}");
}
