//! Who may come, by address: to a listener, to a route, by a file that changes.

use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};

use tidewire_testkit::certs::Authority;
use tidewire_testkit::child::Signal;
use tidewire_testkit::deadline::until;
use tidewire_testkit::http::{ask, get};
use tidewire_testkit::peer::Peer;
use tidewire_testkit::port::free_port;
use tidewire_testkit::tidewire::{Tidewire, command};
use tidewire_testkit::websocket::WebSocket;

const ROUTE: &str = "[[route]]\nrespond = { status = 200, body = \"in\" }\n";

fn listen(bind: &str, more: &str) -> String {
    format!("[[listen]]\nname = \"public\"\nbind = \"{bind}\"\n{more}\n")
}

#[test]
fn a_listener_closes_those_who_may_not_come() {
    let edge = Tidewire::run(&(listen("127.0.0.1:0", "deny = \"127.0.0.0/8\"") + ROUTE));
    Peer::connect(edge.address()).expect_gone();
    edge.expect_metric("edge_refused_total", &["at=\"listener\"", "limit=\"denied\""], 1.0);
    edge.expect_metric("edge_ends_total", &["reason=\"denied\""], 1.0);
    let edge = Tidewire::run(&(listen("127.0.0.1:0", "allow = [\"10.0.0.0/8\"]") + ROUTE));
    Peer::connect(edge.address()).expect_gone();
    let edge = Tidewire::run(&(listen("127.0.0.1:0", "allow = \"127.0.0.1\"") + ROUTE));
    get(edge.address(), "/").expect(200);
}

#[test]
fn nobody_who_may_not_come_gets_a_tls_handshake() {
    let directory = tempfile::tempdir().unwrap();
    Authority::new("ca").server(&["a.test"]).write(directory.path(), "a");
    let tls = "tls.certificate = [{ cert = \"a.pem\", key = \"a.key\" }]\ndeny = \"127.0.0.1\"";
    let config = listen("127.0.0.1:0", tls) + ROUTE;
    let edge = Tidewire::run_in(command(), directory, &config);
    let mut stream = TcpStream::connect(edge.address()).unwrap();
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    assert_eq!(said, b"", "not even an alert");
    edge.expect_metric("edge_ends_total", &["reason=\"denied\""], 1.0);
    assert_eq!(edge.metric("edge_tls_handshakes_total", &["result=\"failed\""]), 0.0);
}

#[test]
fn a_route_answers_403_to_those_it_is_not_for() {
    let config = listen("127.0.0.1:0", "")
        + "[[route]]\npath = \"/admin/*\"\nallow = [\"10.0.0.0/8\", \"127.0.0.0/8\"]\n\
           deny = \"127.0.0.1\"\nrespond = { status = 200, body = \"admin\" }\n"
        + ROUTE;
    let mut edge = Tidewire::run(&config);
    let answer = get(edge.address(), "/admin/x").expect(403);
    assert!(answer.text().contains("not for your address"), "{}", answer.text());
    get(edge.address(), "/").expect(200);
    edge.log_line(&["/admin/x", "status=403", "fault=\"denied\""]);
}

#[test]
fn ipv6_clients_are_in_ipv6_networks() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    let answers = |deny: &str, is_in: bool| {
        let address = SocketAddr::new("::1".parse().unwrap(), free_port());
        // The test kit looks for a listener of IPv4.
        let plain = "[[listen]]\nname = \"plain\"\nbind = \"127.0.0.1:0\"\n";
        let config = plain.to_owned() + &listen(&address.to_string(), deny) + ROUTE;
        let _edge = Tidewire::run(&config);
        match is_in {
            true => drop(get(address, "/").expect(200)),
            false => Peer::connect(address).expect_gone(),
        }
    };
    answers("deny = [\"0.0.0.0/0\", \"2001:db8::/32\"]", true);
    answers("deny = \"::1\"", false);
}

#[test]
fn a_file_is_read_again_and_a_wrong_one_leaves_what_was() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("denied.txt");
    fs::write(&file, "# nobody yet\n192.0.2.0/24\n").unwrap();
    let config = listen("127.0.0.1:0", "")
        + "[[route]]\ndeny_file = \"denied.txt\"\nrespond = { status = 200, body = \"in\" }\n";
    let mut edge = Tidewire::run_in(command(), directory, &config);
    let answers = |address: SocketAddr, status: u16| {
        until(&format!("it answers {status}"), || {
            let answer = ask(address, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
            (answer.status == status).then_some(())
        });
    };
    answers(edge.address(), 200);
    fs::write(&file, "127.0.0.1 # you\n").unwrap();
    edge.child.signal(Signal::HUP);
    answers(edge.address(), 403);
    fs::write(&file, "# gone?\n127.0.0.1/8\n").unwrap();
    edge.child.signal(Signal::HUP);
    edge.log_line(&["denied.txt", "line 2", "127.0.0.0/8"]);
    answers(edge.address(), 403);
    fs::write(&file, "").unwrap();
    edge.child.signal(Signal::HUP);
    answers(edge.address(), 200);
}

#[test]
fn who_is_denied_by_now_gets_nothing_more_on_a_connection_that_was_let_in() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("denied.txt");
    fs::write(&file, "").unwrap();
    let config = listen("127.0.0.1:0", "deny_file = \"denied.txt\"")
        + "[hub]\nnode = \"n\"\nbroker = \"memory\"\n\
           [[route]]\npath = \"/ws/{topic}\"\nhub = { topic = \"{topic}\" }\n"
        + ROUTE;
    let mut edge = Tidewire::run_in(command(), directory, &config);
    let mut kept = Peer::connect(edge.address());
    let mut ask = || {
        kept.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        kept.response()
    };
    ask().expect(200);
    let mut open = WebSocket::connect(edge.address(), "/ws/a");
    fs::write(&file, "127.0.0.1\n").unwrap();
    edge.child.signal(Signal::HUP);
    edge.log_line(&["addresses are read again"]);
    assert_eq!(ask().expect(403).headers.get("connection"), Some("close"));
    kept.expect_end();
    Peer::connect(edge.address()).expect_gone();
    edge.expect_metric("edge_refused_total", &["at=\"listener\"", "limit=\"denied\""], 2.0);
    // What is open stays.
    open.send("x");
    assert_eq!(open.text(), "x");
}
