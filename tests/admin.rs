//! What operators can ask, and who is an operator.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::thread;

use tidewire_testkit::deadline::until;
use tidewire_testkit::http;
use tidewire_testkit::port::{free_port, loopback};
use tidewire_testkit::tidewire::{Tidewire, command};

#[test]
fn metrics_are_for_the_token_only_when_it_says_so() {
    let with =
        |more: &str| format!("{ANSWERS}[admin]\nbind = '127.0.0.1:0'\ntoken = '{TOKEN}'\n{more}\n");
    let open = Tidewire::run(&with(""));
    assert_eq!(http::get(open.admin(), "/metrics").status, 200);
    let node = Tidewire::run(&with("metrics = 'token'"));
    assert_eq!(http::get(node.admin(), "/metrics").status, 401);
    assert_eq!(ask(&node, "Authorization: Bearer 0123456789abcdeX\r\n"), 401);
    assert_eq!(ask(&node, &format!("Authorization: Bearer {TOKEN}\r\n")), 200);
    let of_a_page = format!("Authorization: Bearer {TOKEN}\r\nOrigin: http://127.0.0.1\r\n");
    assert_eq!(ask(&node, &of_a_page), 403);
    // What decides about traffic has no token to show.
    assert_eq!(http::get(node.admin(), "/healthz").status, 200);
    assert_eq!(http::get(node.admin(), "/readyz").status, 200);
}

#[test]
fn lines_that_the_log_drops_are_counted() {
    let (public, admin) = (loopback(free_port()), loopback(free_port()));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tidewire.toml");
    let text = ANSWERS.replace("127.0.0.1:0", &public.to_string());
    std::fs::write(&file, format!("{text}[admin]\nbind = '{admin}'\n")).unwrap();
    let mut run = command();
    run.arg("run").arg("-c").arg(&file).env("TIDEWIRE_LOG", "trace");
    // Nobody reads what it says.
    let mut child = run.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    until("it serves", || TcpStream::connect(public).and(TcpStream::connect(admin)).ok());
    let dropped = || {
        let text = http::get(admin, "/metrics").expect(200).text();
        let line = text.lines().find_map(|it| it.strip_prefix("runtime_log_lines_dropped_total"));
        line.unwrap_or_else(|| panic!("{text}")).trim_start_matches("{}").trim().parse::<u64>()
    };
    assert_eq!(dropped(), Ok(0));
    let mut client = TcpStream::connect(public).unwrap();
    let mut reader = client.try_clone().unwrap();
    let answers = thread::spawn(move || reader.read_to_end(&mut Vec::new()));
    let many = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n".repeat(100);
    until("lines are dropped", || {
        client.write_all(many.as_bytes()).unwrap();
        (dropped().unwrap() > 0).then_some(())
    });
    // And it still serves.
    assert_eq!(http::get(public, "/").status, 204);
    drop(child.stderr.take());
    child.kill().unwrap();
    child.wait().unwrap();
    let _ = answers.join().unwrap();
}

/// The status of `/metrics` for these headers.
fn ask(node: &Tidewire, headers: &str) -> u16 {
    let request = format!("GET /metrics HTTP/1.1\r\nHost: x\r\n{headers}Connection: close\r\n\r\n");
    http::ask(node.admin(), &request).status
}

const TOKEN: &str = "0123456789abcdef";
const ANSWERS: &str = "workers = 1\n[[listen]]\nname = 'public'\nbind = '127.0.0.1:0'\n\
    [[route]]\nrespond = { status = 204 }\n";
