//! Probes, as users of HAProxy know its health checks: who is checked, what is asked, what is
//! expected of the answer, and what is said when it does not come.
//!
//! The promises of HAProxy's reg-tests in `checks/`; docs/conformance.md has them case by case.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tidewire_testkit::backend::Backend;
use tidewire_testkit::deadline::until;
use tidewire_testkit::http::{Request, get};
use tidewire_testkit::peer::Peer;
use tidewire_testkit::port::{free_port, loopback};
use tidewire_testkit::script;
use tidewire_testkit::tidewire::{Tidewire, edge, edge_of};

const PACE: &str = "interval = \"50ms\"\ntimeout = \"5s\"\nrise = 1\nfall = 1\n";

/// An edge that checks its servers as `check` says.
fn checking(check: &str, servers: &[SocketAddr]) -> Tidewire {
    let config = edge(servers, &format!("[backend.check]\n{check}\n{PACE}"));
    Tidewire::run(&config.replace(" },", ", check = true },"))
}

fn checks(edge: &Tidewire, labels: &[&str]) -> f64 {
    edge.metric("edge_server_checks_total", labels)
}

fn is_up(edge: &Tidewire, labels: &[&str]) -> bool {
    edge.metric("edge_server_up", labels) == 1.0
}

#[test]
fn only_servers_that_are_to_be_checked_are() {
    let servers: Vec<_> = (0..40).map(|_| Backend::start(script::mirrors)).collect();
    let names: Vec<_> = (0..40).map(|index| format!("srv{index}")).collect();
    let list: Vec<_> = (servers.iter().zip(&names).enumerate())
        .map(|(index, (server, name))| {
            let check = if index % 2 == 1 { ", check = true" } else { "" };
            (name.as_str(), server.address(), check)
        })
        .collect();
    let edge = Tidewire::run(&edge_of(&list, &format!("[backend.check]\n{PACE}")));
    for (index, name) in names.iter().enumerate() {
        let label = format!("server=\"{name}\"");
        if index % 2 == 1 {
            until(name, || (checks(&edge, &[&label]) >= 2.0).then_some(()));
        }
    }
    for (index, server) in servers.iter().enumerate() {
        let label = format!("server=\"{}\"", names[index]);
        assert!(is_up(&edge, &[&label]), "{label}");
        match index % 2 {
            // The kernel takes a connection before the server does.
            1 => until(&label, || (server.accepted() > 0).then_some(())),
            _ => assert_eq!(server.accepted(), 0, "{label}"),
        }
    }
}

#[test]
fn probes_take_no_turn_of_a_client() {
    let pairs: Vec<[Backend; 2]> =
        (0..20).map(|_| [(); 2].map(|()| Backend::start(script::mirrors))).collect();
    let mut config = "[[listen]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\n".to_owned();
    for (index, [unchecked, checked]) in pairs.iter().enumerate() {
        config += &format!(
            "[[route]]\npath = \"/{index}\"\nbackend = \"b{index}\"\n\
             [[backend]]\nname = \"b{index}\"\nbalance = \"first\"\nserver = [\n\
             {{ name = \"unchecked\", address = \"{}\", maxconn = 9 }},\n\
             {{ name = \"checked\", address = \"{}\", check = true }},\n]\n\
             [backend.check]\n{PACE}",
            unchecked.address(),
            checked.address(),
        );
    }
    let edge = Tidewire::run(&config);
    for (index, [unchecked, checked]) in pairs.iter().enumerate() {
        until("it was checked", || (checked.accepted() > 1).then_some(()));
        get(edge.address(), &format!("/{index}")).expect(200);
        assert_eq!((unchecked.accepted(), unchecked.requests().len()), (1, 1), "backend {index}");
        assert!(checked.requests().is_empty(), "backend {index}");
    }
}

#[test]
fn each_backend_has_its_own_probe() {
    let server = Backend::start(script::answers(500, "ill"));
    let address = server.address();
    let backend = |name: &str, check: &str| {
        format!(
            "[[backend]]\nname = \"{name}\"\n\
             server = [{{ name = \"a\", address = \"{address}\", check = true }}]\n\
             [backend.check]\n{check}\n{PACE}"
        )
    };
    let edge = Tidewire::run(&format!(
        "[[listen]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\n\
         [[route]]\npath = \"/tcp\"\nbackend = \"tcp\"\n[[route]]\nbackend = \"http\"\n{}{}",
        backend("tcp", "type = \"tcp\""),
        backend("http", "type = \"http\""),
    ));
    let up = |backend: &str| is_up(&edge, &[&format!("backend=\"{backend}\"")]);
    until("one of them is down", || (!up("http")).then_some(()));
    assert!(up("tcp"));
    get(edge.address(), "/").expect(503);
    get(edge.address(), "/tcp").expect(500);
}

#[test]
fn a_probe_that_fails_says_at_what() {
    let silent = Backend::start(script::never_answers);
    let closing = Backend::start(script::closes_before_answer);
    let unreachable = "255.255.255.255:11111".parse().unwrap();
    let servers = [loopback(free_port()), unreachable, silent.address(), closing.address()];
    let mut edge = checking("type = \"http\"", &servers);
    for (server, why) in [
        ("server1", "cannot connect: Connection refused"),
        ("server2", "cannot connect: "),
        ("server4", "the answer is not HTTP"),
        ("server3", "no answer in time"),
    ] {
        let line = edge.log_line(&["server is down", &format!("server=\"{server}\"")]);
        assert!(line.contains(why), "{why}: {line}");
    }
}

#[test]
fn options_asks_for_a_server_as_a_whole() {
    let server = Backend::start(script::answers(200, ""));
    let check = "type = \"http\"\nmethod = \"OPTIONS\"\npath = \"*\"\nhost = \"www\"";
    let edge = checking(check, &[server.address()]);
    let request = server.request();
    assert_eq!((request.method.as_str(), request.target.as_str()), ("OPTIONS", "*"));
    assert_eq!((request.version, request.headers.get("host")), (1, Some("www")));
    until("it was checked", || (checks(&edge, &[]) >= 2.0).then_some(()));
    assert!(is_up(&edge, &[]));
}

/// What becomes of a server whose answer to a probe `script` gives: it is down for `error`, or up
/// when that is empty.
#[track_caller]
fn check_answer(
    check: &str,
    script: impl Fn(&Request, &mut Peer) + Send + Sync + 'static,
    error: &str,
) {
    let server = Backend::start(script);
    let mut edge = checking(&format!("type = \"http\"\n{check}"), &[server.address()]);
    if !error.is_empty() {
        edge.log_line(&["server is down", error]);
        return;
    }
    until("it was checked", || (checks(&edge, &[]) >= 3.0).then_some(()));
    assert_eq!(edge.metric("edge_server_check_failures_total", &[]), 0.0, "{check}");
    assert!(is_up(&edge, &[]), "{check}");
}

/// Answers with these lines of head.
fn with_lines(lines: &'static str) -> impl Fn(&Request, &mut Peer) + Send + Sync + 'static {
    move |_, peer| peer.send(format!("HTTP/1.1 202 Ok\r\n{lines}Content-Length: 0\r\n\r\n"))
}

#[test]
fn a_probe_reads_no_head_without_end_and_says_so() {
    const WHY: &str = "the head of the answer is over 16 KiB, or has more than 100 headers";
    fn endless(_: &Request, peer: &mut Peer) {
        peer.send("HTTP/1.1 200 OK\r\nX-Long: ");
        while peer.try_send(&[b'x'; 8192]).is_ok() {}
    }
    fn headers(count: usize) -> impl Fn(&Request, &mut Peer) + Send + Sync + 'static {
        let lines = "X-A: b\r\n".repeat(count - 1);
        move |_, peer| peer.send(format!("HTTP/1.1 202 Ok\r\n{lines}Content-Length: 0\r\n\r\n"))
    }
    fn long(kib: usize) -> impl Fn(&Request, &mut Peer) + Send + Sync + 'static {
        let line = format!("X-Long: {}\r\n", "x".repeat(kib * 1024));
        move |_, peer| peer.send(format!("HTTP/1.1 202 Ok\r\n{line}Content-Length: 0\r\n\r\n"))
    }
    check_answer("", endless, WHY);
    check_answer("", headers(101), WHY);
    check_answer("", headers(100), "");
    check_answer("", long(17), WHY);
    check_answer("", long(15), "");
    for (script, why) in [
        (Backend::start(endless), WHY),
        (Backend::start(headers(101)), WHY),
        (Backend::start(headers(100)), "no valid 101"),
        (Backend::start(long(17)), WHY),
        (Backend::start(long(15)), "no valid 101"),
    ] {
        let mut edge = checking("type = \"websocket\"", &[script.address()]);
        edge.log_line(&["server is down", why]);
    }
}

#[test]
fn an_endless_head_is_not_read_on_and_each_of_its_probes_has_failed() {
    let most = Arc::<AtomicUsize>::default();
    let server = Backend::start({
        let most = Arc::clone(&most);
        move |_, peer| {
            peer.send("HTTP/1.1 200 OK\r\nX-Long: ");
            let mut sent = 0;
            while peer.try_send(&[b'x'; 8192]).is_ok() {
                sent += 8192;
            }
            most.fetch_max(sent, Ordering::SeqCst);
        }
    });
    for kind in ["http", "websocket"] {
        let edge = checking(&format!("type = \"{kind}\""), &[server.address()]);
        until("some were read", || (checks(&edge, &[]) >= 5.0).then_some(()));
        // Each probe that fails is counted as one.
        edge.expect_metric_at_least("edge_server_check_failures_total", &[], 5.0);
    }
    // What sockets hold by themselves is less than this.
    let most = most.load(Ordering::SeqCst);
    assert!(most < 12 << 20, "{most} bytes were taken of one head");
}

#[test]
fn the_interval_is_from_the_start_of_a_probe_to_the_start_of_the_next() {
    let starts = Arc::<Mutex<Vec<Instant>>>::default();
    let server = Backend::start({
        let starts = Arc::clone(&starts);
        move |request, peer| {
            starts.lock().unwrap().push(Instant::now());
            std::thread::sleep(Duration::from_millis(400));
            script::mirrors(request, peer);
        }
    });
    let check = "type = \"http\"\ninterval = \"500ms\"\nspread = \"0%\"\ntimeout = \"20s\"";
    let config = edge(&[server.address()], &format!("[backend.check]\n{check}\n"));
    let _edge = Tidewire::run(&config.replace(" },", ", check = true },"));
    let starts = || starts.lock().unwrap().clone();
    until("it is probed", || (starts().len() >= 6).then_some(()));
    let gaps: Vec<_> = starts().windows(2).map(|pair| pair[1] - pair[0]).collect();
    // From an end to the next start, they would be 900 ms apart at least.
    assert!(*gaps.iter().min().unwrap() < Duration::from_millis(800), "{gaps:?}");
    assert!(gaps.iter().all(|gap| *gap > Duration::from_millis(300)), "{gaps:?}");
}

#[test]
fn probes_and_those_that_fail_are_counted_once_each() {
    let turn = AtomicUsize::new(0);
    let server = Backend::start(move |request, peer| match turn.fetch_add(1, Ordering::SeqCst) {
        // Nothing more is counted while this one is under way.
        12.. => script::never_answers(request, peer),
        turn if turn % 3 == 0 => script::answers(500, "ill")(request, peer),
        _ => script::mirrors(request, peer),
    });
    let pace = "interval = \"50ms\"\ntimeout = \"60s\"\nrise = 1\nfall = 9\n";
    let config = edge(&[server.address()], &format!("[backend.check]\ntype = \"http\"\n{pace}"));
    let edge = Tidewire::run(&config.replace(" },", ", check = true },"));
    until("the last one is under way", || (server.accepted() == 13).then_some(()));
    edge.expect_metric("edge_server_checks_total", &[], 12.0);
    edge.expect_metric("edge_server_check_failures_total", &[], 4.0);
    assert_eq!(edge.metric("edge_server_downs_total", &[]), 0.0);
}

#[test]
fn a_probe_can_expect_headers() {
    let lines = "X-Test1: true, next value\r\nX-Test2: begin-value\r\nX-Test2: value-end\r\n\
        X-Empty:\r\n";
    let well = |check: &str| {
        check_answer(&format!("expect_headers = {{ {check} }}"), with_lines(lines), "");
    };
    well("X-Test1 = \"true, next value\"");
    well("x-TEST1 = \"true,*\", x-test2 = \"*-end\"");
    well("X-Test2 = \"begin-*\", X-Test1 = \"*next*\", X-Empty = \"*\"");
    let ill = |check: &str, error: &str| {
        check_answer(&format!("expect_headers = {{ {check} }}"), with_lines(lines), error);
    };
    ill("X-Test1 = \"true\"", "does not have the header X-Test1");
    ill("X-Test1 = \"*\", X-Test3 = \"*\"", "does not have the header X-Test3");
}

#[test]
fn a_probe_can_expect_what_a_regular_expression_matches() {
    let says = |text: &'static str| script::answers(200, text);
    check_answer(r"expect_regex = '^status: (UP|BUSY)$'", says("status: BUSY"), "");
    check_answer(r"expect_regex = '(?i)workers: \d+'", says("Workers: 12, idle"), "");
    let error = "does not match";
    check_answer(r"expect_regex = '^status: (UP|BUSY)$'", says("status: UPSET"), error);
    check_answer(r"expect_regex = 'workers: \d+'", says("workers: none"), error);
    // Both, when both are there.
    let both = "expect = \"UP\"\nexpect_regex = 'load: [0-7]'";
    check_answer(both, says("UP, load: 3"), "");
    check_answer(both, says("UP, load: 9"), error);
    check_answer(both, says("load: 3"), "does not have the text");
}

#[test]
fn a_regular_expression_is_held_against_the_whole_body() {
    // What the first half says, the second half takes back.
    let in_pieces = |second: &'static str| {
        move |_: &Request, peer: &mut Peer| {
            peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nUP\r\n");
            std::thread::sleep(std::time::Duration::from_millis(50));
            peer.send(second);
        }
    };
    check_answer("expect_regex = '^UP$'", in_pieces("0\r\n\r\n"), "");
    let error = "does not match";
    check_answer("expect_regex = '^UP$'", in_pieces("7\r\n, ill\r\n\r\n0\r\n\r\n"), error);
}
