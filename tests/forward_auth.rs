//! Forward auth: a service of one's own says who may in, and without its word nobody may.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tidewire_testkit::backend::{Backend, Script};
use tidewire_testkit::deadline::until;
use tidewire_testkit::http::{Request, Response, ask, get};
use tidewire_testkit::peer::Peer;
use tidewire_testkit::port::{free_port, loopback};
use tidewire_testkit::script::{
    breaks_off_its_body, closes_before_answer, echoes, mirrors, never_answers, speaks_no_http,
    stalls_in_its_body, switches_unasked,
};
use tidewire_testkit::tidewire::Tidewire;
use tidewire_testkit::websocket::{WebSocket, handshake};

/// An edge whose routes ask the services at these addresses, with `more` of the `forward`.
fn edge(services: &[SocketAddr], server: SocketAddr, more: &str) -> Tidewire {
    // A service that is well may take its time on a busy machine.
    let timeout = if more.contains("timeout") { "" } else { ", timeout = \"20s\"" };
    let service = |(index, address): (usize, &SocketAddr)| {
        format!("{{ name = \"s{index}\", address = \"{address}\" }},")
    };
    let services: String = services.iter().enumerate().map(service).collect();
    Tidewire::run(&format!(
        r#"
workers = 1
[[listen]]
name = "public"
bind = "127.0.0.1:0"
[[auth]]
name = "sso"
forward = {{ backend = "login", path = "/verify?v=1", response_headers = ["X-User", "X-Groups"], subject = "X-User"{timeout}{more} }}
headers = {{ "X-Subject" = "{{sub}}" }}
[[route]]
path = "/admin"
auth = "sso"
claims = {{ x-groups = "admins" }}
respond = {{ status = 200, body = "admins only" }}
[[route]]
auth = "sso"
backend = "nodes"
[[backend]]
name = "nodes"
server = [{{ name = "a", address = "{server}" }}]
[[backend]]
name = "login"
server = [{services}]
"#
    ))
}

/// A server that mirrors requests and echoes WebSockets.
fn server() -> Backend {
    Backend::start(|request, peer| {
        if request.headers.has("upgrade") {
            echoes(request, peer);
        } else {
            mirrors(request, peer);
        }
    })
}

/// A service that lets those in whose cookie names them.
fn knows_its_cookies(request: &Request, peer: &mut Peer) {
    let name = request.headers.get("cookie").and_then(|it| it.strip_prefix("user="));
    match name {
        Some(name) => peer.send(format!(
            "HTTP/1.1 200 OK\r\nX-User: {name}\r\nX-Groups: staff, {name}s\r\nX-Secret: s\r\n\
             Content-Length: 2\r\n\r\nok"
        )),
        None => peer.send(
            "HTTP/1.1 401 No\r\nWWW-Authenticate: Cookie\r\nSet-Cookie: s=1\r\nX-Secret: s\r\n\
             Content-Type: text/html\r\nContent-Length: 9\r\n\r\n<p>log in",
        ),
    }
}

fn with_cookie(edge: &Tidewire, path: &str, more: &str) -> Response {
    ask(edge.address(), &format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n{more}\r\n"))
}

#[test]
fn whom_the_service_knows_is_let_in_and_servers_hear_who_it_is() {
    let (service, server) = (Backend::start(knows_its_cookies), server());
    let mut edge = edge(&[service.address()], server.address(), "");
    let forged = "Cookie: user=ann\r\nX-User: root\r\nX_Groups: admin\r\nX-Subject: root\r\n\
                  Authorization: Basic YTpi\r\n";
    let seen = with_cookie(&edge, "/x?y=1", forged).expect(200).text().to_lowercase();
    for line in ["x-user: ann\n", "x-groups: staff, anns\n", "x-subject: ann\n", "cookie: user=ann"]
    {
        assert!(seen.contains(line), "no {line} in\n{seen}");
    }
    for absent in ["root", "x_groups", "x-secret", "authorization"] {
        assert!(!seen.contains(absent), "{absent} in\n{seen}");
    }
    let question = service.request();
    assert_eq!((question.method.as_str(), question.target.as_str()), ("GET", "/verify?v=1"));
    for (name, value) in [
        ("x-forwarded-method", "GET"),
        ("x-forwarded-uri", "/x?y=1"),
        ("x-forwarded-host", "a.test"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-for", "127.0.0.1"),
        ("authorization", "Basic YTpi"),
        ("host", "a.test"),
    ] {
        assert_eq!(question.headers.get(name), Some(value), "{question:?}");
    }
    for absent in ["x-user", "x_groups", "x-subject"] {
        assert!(!question.headers.has(absent), "{question:?}");
    }
    assert!(edge.log_line(&["request", "status=200"]).contains("ann"));
    // What the service says are claims, too, and conditions of routes.
    let text = |cookie| with_cookie(&edge, "/admin", cookie).expect(200).text();
    assert!(text("Cookie: user=ann\r\n").starts_with("GET /admin"));
    assert_eq!(text("Cookie: user=admin\r\n"), "admins only");
    edge.expect_metric("edge_auth_total", &["sso", "accepted"], 3.0);
}

#[test]
fn the_handshake_of_a_websocket_is_asked_about_without_being_one() {
    let (service, server) = (Backend::start(knows_its_cookies), server());
    let edge = edge(&[service.address()], server.address(), "");
    let offer = handshake("/ws").replace("\r\n\r\n", "\r\nCookie: user=ann\r\n\r\n");
    let mut socket = WebSocket::upgrade(Peer::connect(edge.address()), &offer);
    socket.expect_echo("hello");
    let question = service.request();
    for absent in ["upgrade", "sec-websocket-key", "sec-websocket-version", "connection"] {
        assert!(!question.headers.has(absent), "{question:?}");
    }
    assert_eq!(server.request().headers.get("x-user"), Some("ann"));
    let answer = ask(edge.address(), &handshake("/ws")).expect(401);
    assert_eq!(answer.headers.get("www-authenticate"), Some("Cookie"));
    assert!(server.requests().is_empty());
}

#[test]
fn a_refusal_is_the_service_s_own() {
    let (service, server) = (Backend::start(knows_its_cookies), server());
    let edge = edge(&[service.address()], server.address(), "");
    let mut peer = Peer::connect(edge.address());
    peer.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = peer.response().expect(401);
    assert_eq!(answer.text(), "<p>log in");
    for (name, value) in
        [("www-authenticate", "Cookie"), ("set-cookie", "s=1"), ("content-type", "text/html")]
    {
        assert_eq!(answer.headers.get(name), Some(value));
    }
    assert!(!answer.headers.has("x-secret"));
    // The connection goes on.
    peer.send("GET / HTTP/1.1\r\nHost: a\r\nCookie: user=ann\r\n\r\n");
    peer.response().expect(200);
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_redirect_to_log_in_is_for_those_who_can_follow_it() {
    let service = Backend::start(|_, peer| {
        peer.send("HTTP/1.1 302 Found\r\nLocation: /login?to=x\r\nContent-Length: 0\r\n\r\n");
    });
    let server = server();
    let edge = edge(&[service.address()], server.address(), "");
    let answer = get(edge.address(), "/").expect(302);
    assert_eq!(answer.headers.get("location"), Some("/login?to=x"));
    for text in [&handshake("/ws"), "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab"] {
        assert!(!ask(edge.address(), text).expect(401).headers.has("location"));
    }
    assert!(server.requests().is_empty());
}

#[test]
fn nobody_is_let_in_without_the_word_of_the_service() {
    let endless: fn(&Request, &mut Peer) = |_, peer| {
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
        peer.send(vec![b'x'; 200_000]);
        peer.expect_gone();
    };
    let huge_head: fn(&Request, &mut Peer) = |_, peer| {
        peer.send(format!("HTTP/1.1 200 OK\r\nX-User: {}\r\n\r\n", "x".repeat(100_000)));
    };
    let no_user: fn(&Request, &mut Peer) =
        |_, peer| peer.send("HTTP/1.1 200 OK\r\nX-User: \r\nContent-Length: 0\r\n\r\n");
    let fails: fn(&Request, &mut Peer) =
        |_, peer| peer.send("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n");
    let misses: fn(&Request, &mut Peer) =
        |_, peer| peer.send("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n");
    let scripts: [(&str, Script); 11] = [
        ("never answers", never_answers),
        ("breaks off", breaks_off_its_body),
        ("stalls", stalls_in_its_body),
        ("closes", closes_before_answer),
        ("is not HTTP", speaks_no_http),
        ("switches", switches_unasked),
        ("is endless", endless),
        ("has a huge head", huge_head),
        ("names nobody", no_user),
        ("fails", fails),
        ("misses", misses),
    ];
    let server = server();
    for (what, script) in scripts {
        let service = Backend::start(script);
        let edge = edge(&[service.address()], server.address(), ", timeout = \"500ms\"");
        for text in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), handshake("/ws")] {
            let answer = ask(edge.address(), &text);
            assert_eq!(answer.status, 503, "{what}: {}", answer.text());
            assert_eq!(answer.headers.get("retry-after"), Some("5"), "{what}");
        }
        edge.expect_metric("edge_auth_total", &["unavailable"], 2.0);
        // Both lines are there, so what was to be said before them is, too.
        let logged = until("both requests are logged", || {
            let logged = edge.child.stdout().join("\n") + &edge.child.stderr().join("\n");
            (logged.matches("auth_error").count() == 2).then_some(logged)
        });
        assert_eq!(logged.matches("nobody is let in").count(), 1, "{what}:\n{logged}");
    }
    let edge = edge(&[loopback(free_port())], server.address(), "");
    ask(edge.address(), &handshake("/ws")).expect(503);
    assert!(server.requests().is_empty());
}

#[test]
fn another_server_of_the_service_answers_when_one_is_away() {
    let (service, server) = (Backend::start(knows_its_cookies), server());
    let edge = edge(&[loopback(free_port()), service.address()], server.address(), "");
    for _ in 0..4 {
        with_cookie(&edge, "/", "Cookie: user=ann\r\n").expect(200);
    }
}

#[test]
fn answers_are_kept_for_who_asks_the_same() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let service = Backend::start(move |request, peer| {
        count.fetch_add(1, Ordering::SeqCst);
        if request.headers.has("x-private") {
            peer.send("HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 0\r\n\r\n");
        } else if request.headers.has("x-fail") {
            peer.send("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n");
        } else {
            knows_its_cookies(request, peer);
        }
    });
    let server = server();
    let more = ", cache = \"1h\", request_headers = [\"Cookie\", \"X-Private\", \"X-Fail\"]";
    let edge = edge(&[service.address()], server.address(), more);
    let check = |path: &str, more: &str, status: u16, expected: usize| {
        let before = asked.load(Ordering::SeqCst);
        with_cookie(&edge, path, more).expect(status);
        assert_eq!(asked.load(Ordering::SeqCst) - before, expected, "{path} {more}");
    };
    let ann = "Cookie: user=ann\r\n";
    check("/", ann, 200, 1);
    check("/", ann, 200, 0);
    check("/", &format!("{ann}Accept: x\r\n"), 200, 0);
    check("/other", ann, 200, 1);
    check("/", "Cookie: user=bob\r\n", 200, 1);
    // It sets a cookie: that is for one.
    check("/", "", 401, 1);
    check("/", "", 401, 1);
    for private in ["X-Private: 1\r\n", "X-Fail: 1\r\n"] {
        let status = if private.contains("Fail") { 503 } else { 200 };
        check("/", private, status, 1);
        check("/", private, status, 1);
    }
    let seen = with_cookie(&edge, "/", ann).expect(200).text();
    assert!(seen.contains("x-user: ann") && !seen.contains("bob"), "{seen}");
}

#[test]
fn who_asks_the_same_at_once_waits_for_one_answer() {
    let slow = Backend::start(|_, peer| {
        // Longer than eight requests take to arrive.
        std::thread::sleep(Duration::from_millis(200));
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    });
    let server = server();
    let edge = edge(&[slow.address()], server.address(), ", cache = \"1h\"");
    let mut peers: Vec<_> = (0..8).map(|_| Peer::connect(edge.address())).collect();
    for peer in &mut peers {
        peer.send("GET / HTTP/1.1\r\nHost: a\r\nCookie: a=b\r\n\r\n");
    }
    for peer in &mut peers {
        peer.response().expect(200);
    }
    assert_eq!(slow.requests().len(), 1);
}

#[test]
fn a_websocket_ends_when_the_answer_of_the_service_does() {
    let service = Backend::start(|_, peer| {
        peer.send("HTTP/1.1 200 OK\r\nX-User: ann\r\nX-Ends-In: 5\r\nContent-Length: 0\r\n\r\n");
    });
    let server = server();
    let more = ", expires = \"X-Ends-In\"";
    let mut edge = edge(&[service.address()], server.address(), more);
    let mut socket = WebSocket::connect(edge.address(), "/ws");
    socket.expect_echo("hello");
    socket.expect_close(3000);
    let line = edge.log_line(&["websocket", "expired"]);
    assert!(line.contains("ann"), "{line}");
}
