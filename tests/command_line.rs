//! What the program prints besides serving: help, a configuration, completions, manual pages.

use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};

fn tidewire(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidewire"));
    command.args(args).env_clear();
    command
}

/// What is printed by a command that succeeds.
fn printed(args: &[&str]) -> String {
    let Output { status, stdout, stderr } = tidewire(args).output().unwrap();
    let stderr = String::from_utf8_lossy(&stderr);
    assert!(status.success() && stderr.is_empty(), "{args:?}: {status} {stderr}");
    String::from_utf8(stdout).unwrap()
}

const VERBS: [&str; 9] =
    ["up", "run", "check", "servers", "config", "token", "bench", "completions", "man"];

#[test]
fn the_version_is_printed() {
    assert_eq!(printed(&["--version"]), format!("tidewire {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn every_verb_helps_with_examples() {
    for verb in VERBS {
        let help = printed(&[verb, "--help"]);
        assert!(help.contains("Examples:") && help.contains("tidewire "), "{verb}: {help}");
    }
}

#[test]
fn a_wrong_command_line_ends_with_2_and_says_how_it_goes() {
    for args in [&["runn"][..], &["check"], &["run", "--port", "80"], &["up", "--nodes", "many"]] {
        let Output { status, stdout, stderr } = tidewire(args).output().unwrap();
        let stderr = String::from_utf8(stderr).unwrap();
        assert_eq!(status.code(), Some(2), "{args:?}");
        assert!(stdout.is_empty() && stderr.contains("--help"), "{args:?}: {stderr}");
    }
}

#[test]
fn the_starting_configuration_passes_its_check() {
    let mut check = tidewire(&["check", "--strict", "-c", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    check.stdin.take().unwrap().write_all(printed(&["config"]).as_bytes()).unwrap();
    let Output { status, stdout, .. } = check.wait_with_output().unwrap();
    assert!(status.success());
    assert!(String::from_utf8(stdout).unwrap().starts_with("-: ok\n"));
}

#[test]
fn the_schema_is_json_of_the_draft_that_editors_read() {
    let schema: serde_json::Value =
        serde_json::from_str(&printed(&["config", "--schema"])).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert!(schema["properties"]["listen"].is_object());
}

#[test]
fn every_shell_gets_completions_for_every_verb() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = printed(&["completions", shell]);
        for verb in VERBS {
            assert!(script.contains(verb), "{shell} does not complete {verb}");
        }
    }
}

#[test]
fn every_verb_has_a_manual_page() {
    let dir = tempfile::tempdir().unwrap();
    printed(&["man", "--dir", dir.path().to_str().unwrap()]);
    for verb in VERBS {
        let page = fs::read_to_string(dir.path().join(format!("tidewire-{verb}.1"))).unwrap();
        assert!(page.contains(".SH EXAMPLES") && page.contains(verb), "{verb}: {page}");
    }
    assert_eq!(printed(&["man"]), fs::read_to_string(dir.path().join("tidewire.1")).unwrap());
}

/// As in `tidewire config | head`.
#[test]
fn a_reader_that_has_had_enough_is_no_failure() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let Output { status, stderr, .. } = tidewire(&["config"])
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
        .wait_with_output()
        .unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
}
