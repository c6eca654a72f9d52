//! What scanners say of the default TLS listener: nothing, beyond its certificate being our own.

use std::path::Path;
use std::process::Command;

use tidewire_testkit::python;
use tidewire_testkit::skip;
use tidewire_testkit::tidewire::{Tidewire, command};

/// `up --tls`, whose listener has the defaults, and its authority.
#[track_caller]
fn up(state: &Path) -> (Tidewire, String) {
    let mut command = command();
    command.env("XDG_STATE_HOME", state);
    let up = Tidewire::up_by(command, &["--tls"]);
    (up, state.join("tidewire/development/ca.pem").display().to_string())
}

#[track_caller]
fn run(mut command: Command) -> String {
    let output = command.output().expect("the scanner can be started");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn sslyze_finds_it_compliant_with_mozilla_s_intermediate_profile() {
    let Some(programs) = python::install("sslyze", "sslyze==6.3.1") else { return };
    let state = tempfile::tempdir().unwrap();
    let (up, ca) = up(state.path());
    let mut scan = Command::new(programs.join("sslyze"));
    scan.args(["--mozilla_config=intermediate", "--certinfo_ca_file", &ca]);
    scan.arg(format!("localhost:{}", up.address().port()));
    let said = run(scan);
    assert!(said.contains("OK - Compliant."), "{said}");
    assert!(!said.contains("VULNERABLE"), "{said}");
    // The authority is ours, and nobody else's; all that is asked of a chain is there.
    assert!(said.contains("Supplied CA file CA Store (N/A):   OK"), "{said}");
}

#[test]
#[ignore = "takes a minute or two; cargo test --test tls_scanners -- --ignored"]
fn testssl_finds_no_old_protocol_weak_cipher_or_vulnerability() {
    if !skip::has("testssl") {
        return;
    }
    let state = tempfile::tempdir().unwrap();
    let (up, _) = up(state.path());
    let mut scan = Command::new("testssl");
    scan.args(["--quiet", "--color", "0", "--warnings", "batch", "--ip", "127.0.0.1"]);
    scan.args(["-p", "-s", "-U"]).arg(format!("localhost:{}", up.address().port()));
    let said = run(scan);
    assert!(said.contains("TLS 1.3    offered (OK)"), "{said}");
    let bad: Vec<&str> = said
        .lines()
        .filter(|line| {
            line.contains("NOT ok") || line.contains("VULNERABLE") || line.contains("WARN")
        })
        .filter(|line| !line.contains("not vulnerable"))
        .collect();
    assert_eq!(bad, [""; 0], "{said}");
}
