//! `tidewire up --tls`: https and wss with a certificate that a person can trust once.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use tidewire_testkit::browser::Browser;
use tidewire_testkit::deadline::until;
use tidewire_testkit::peer::Peer;
use tidewire_testkit::skip;
use tidewire_testkit::tidewire::{Tidewire, command};
use tidewire_testkit::tls::TlsClient;
use tidewire_testkit::websocket::{WebSocket, handshake};

#[track_caller]
fn up(state: &Path) -> Tidewire {
    let mut command = command();
    command.env("XDG_STATE_HOME", state);
    Tidewire::up_by(command, &["--tls"])
}

#[track_caller]
fn ca(state: &Path) -> String {
    fs::read_to_string(state.join("tidewire/development/ca.pem")).expect("it has been made")
}

#[test]
fn it_is_made_once_for_its_user_only_and_says_how_to_trust_it() {
    let state = tempfile::tempdir().unwrap();
    let mut first = up(state.path());
    // The last line.
    first.log_line(&["Ctrl-C"]);
    let said = first.child.stdout().join("\n");
    let address = first.address();
    let path = state.path().join("tidewire/development");
    let ca_path = path.join("ca.pem").display().to_string();
    for what in [format!("https://{address}/"), format!("wss://{address}/ws/"), ca_path] {
        assert!(said.contains(&what), "no {what} in\n{said}");
    }
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(&path.join("key.pem"))), (0o700, 0o600));
    let files = fs::read_dir(&path).unwrap().count();
    assert_eq!(files, 3, "the authority's key is not kept");
    let made = ca(state.path());
    let second = up(state.path());
    assert_eq!(ca(state.path()), made);
    for up in [first, second] {
        for name in ["127.0.0.1", "localhost"] {
            let client = TlsClient::new(&made);
            let peer = Peer::connect_tls(up.address(), &client, name);
            WebSocket::upgrade(peer, &handshake("/ws/room"));
        }
    }
}

#[test]
fn one_that_is_broken_or_about_to_end_is_made_anew() {
    let state = tempfile::tempdir().unwrap();
    drop(up(state.path()));
    let made = ca(state.path());
    fs::remove_file(state.path().join("tidewire/development/key.pem")).unwrap();
    drop(up(state.path()));
    assert_ne!(ca(state.path()), made);
    let made = ca(state.path());
    let ends_soon = tidewire_testkit::certs::Authority::new("Short");
    let ends_soon =
        ends_soon.sign(tidewire_testkit::certs::Wanted::server(&["localhost"]).between(2020, 2021));
    fs::write(state.path().join("tidewire/development/cert.pem"), ends_soon.cert).unwrap();
    drop(up(state.path()));
    assert_ne!(ca(state.path()), made);
    let left = fs::read_dir(state.path().join("tidewire")).unwrap().count();
    assert_eq!(left, 1, "what it was made from is gone");
}

#[test]
fn its_authority_may_not_vouch_for_any_other_name() {
    let state = tempfile::tempdir().unwrap();
    let _up = up(state.path());
    let path = state.path().join("tidewire/development/ca.pem");
    let text = Command::new("openssl").args(["x509", "-noout", "-text", "-in"]).arg(path).output();
    let text = String::from_utf8(text.expect("openssl is there").stdout).unwrap();
    let (_, constraints) = text.split_once("Name Constraints: critical").expect(&text);
    let names: Vec<&str> = constraints
        .lines()
        .map(str::trim)
        .skip(2)
        .take_while(|line| line.starts_with("DNS") || line.starts_with("IP"))
        .collect();
    let v6 = ["FFFF"; 8].join(":");
    let v6 = format!("IP:0:0:0:0:0:0:0:1/{v6}");
    assert_eq!(names, ["DNS:localhost", "IP:127.0.0.0/255.0.0.0", &v6]);
    assert!(text.contains("CA:TRUE, pathlen:0"), "{text}");
}

#[test]
fn a_browser_that_trusts_it_shows_the_page_and_speaks_wss() {
    if !skip::has("certutil") {
        return;
    }
    let state = tempfile::tempdir().unwrap();
    let up = up(state.path());
    // As the greeting says, in a home of the browser's own.
    let home = tempfile::tempdir().unwrap();
    let db = home.path().join(".pki/nssdb");
    fs::create_dir_all(&db).unwrap();
    let db = format!("sql:{}", db.display());
    let ca = state.path().join("tidewire/development/ca.pem");
    let certutil = |arguments: &[&str]| {
        let output = Command::new("certutil").args(["-d", &db]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    certutil(&["-N", "--empty-password"]);
    certutil(&["-A", "-t", "C,,", "-n", "tidewire", "-i", ca.to_str().unwrap()]);
    let Some(browser) = Browser::start_at_home(home.path()) else { return };
    browser.open(&format!("https://localhost:{}/#room", up.address().port()));
    let is_secure = browser.run("return window.isSecureContext", &json!(null));
    assert_eq!(is_secure, json!(true));
    until("the page is connected by wss", || {
        let open = up.metric("edge_websockets", &["node=\"edge\""]);
        (open >= 1.0).then_some(())
    });
    if let Some(path) = std::env::var_os("TIDEWIRE_SCREENSHOT") {
        browser.screenshot(Path::new(&path));
    }
    assert_eq!(browser.errors(), [""; 0]);
}
