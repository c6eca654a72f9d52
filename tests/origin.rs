//! Origin: which pages may open a WebSocket.

use serde_json::json;
use tidewire_testkit::backend::Backend;
use tidewire_testkit::browser::Browser;
use tidewire_testkit::deadline::until;
use tidewire_testkit::http::Response;
use tidewire_testkit::peer::Peer;
use tidewire_testkit::script::{echoes, mirrors};
use tidewire_testkit::tidewire::Tidewire;
use tidewire_testkit::websocket::{WebSocket, handshake};

/// An edge whose `/hub` and `/server` have these keys, and beside them routes of other kinds.
struct Rig {
    edge: Tidewire,
    server: Backend,
}

impl Rig {
    fn with(keys: &str) -> Self {
        let server = Backend::start(|request, peer| match request.headers.has("upgrade") {
            true => echoes(request, peer),
            false => mirrors(request, peer),
        });
        let edge = Tidewire::run(&format!(
            r#"
[[listen]]
name = "public"
bind = "127.0.0.1:0"
[[route]]
path = "/hub"
hub = {{ topic = "all" }}
{keys}
[[route]]
path = "/server"
backend = "nodes"
{keys}
[[route]]
path = "/fixed"
respond = {{ status = 200, body = "fixed" }}
[hub]
[[backend]]
name = "nodes"
server = [{{ name = "server1", address = "{}" }}]
"#,
            server.address()
        ));
        Self { edge, server }
    }

    /// The answer to a handshake for `host` with these lines, and with a cookie, as a browser has
    /// one for the site whatever the page is.
    fn answer(&self, path: &str, host: &str, lines: &[&str]) -> Response {
        let lines: String = lines.iter().map(|line| format!("Origin: {line}\r\n")).collect();
        let text = handshake(path)
            .replace("Host: a.test", &format!("Host: {host}"))
            .replace("\r\n\r\n", &format!("\r\nCookie: session=secret\r\n{lines}\r\n"));
        match WebSocket::try_upgrade(Peer::connect(self.edge.address()), &text) {
            Ok(socket) => socket.response.expect("a client has the answer"),
            Err((response, _)) => *response,
        }
    }

    /// That a page of `origin` gets `status` from the hub and from a server alike.
    #[track_caller]
    fn check(&self, host: &str, origin: &str, status: u16) {
        for path in ["/hub", "/server"] {
            let answer = self.answer(path, host, &[origin]);
            assert_eq!(answer.status, status, "{origin:?} for {host}{path}: {}", answer.text());
        }
    }
}

#[test]
fn without_a_word_only_pages_of_the_site_open_websockets() {
    let rig = Rig::with("");
    for (host, origin, status) in [
        ("a.test", "http://a.test", 101),
        ("a.test", "http://a.test:80", 101),
        ("a.test:80", "http://a.test", 101),
        ("a.test", "HTTP://A.TEST", 101),
        ("a.test:8080", "http://a.test:8080", 101),
        ("[::1]:8080", "http://[::1]:8080", 101),
        ("[0:0::1]:8080", "http://[::1]:8080", 101),
        ("xn--bcher-kva.test", "http://xn--bcher-kva.test", 101),
        ("a.test.", "http://a.test.", 101),
        // TLS up to a proxy in front.
        ("a.test", "https://a.test", 101),
        ("a.test:8443", "https://a.test:8443", 101),
        ("a.test", "https://a.test:8443", 403),
        ("a.test", "http://a.test:81", 403),
        ("a.test:8080", "http://a.test", 403),
        ("a.test", "http://a.test.", 403),
        ("a.test", "http://b.test", 403),
        ("a.test", "http://a.test.evil.com", 403),
        ("a.test", "http://evila.test", 403),
        ("a.test", "http://sub.a.test", 403),
        ("sub.a.test", "http://a.test", 403),
        ("a.test", "http://a.test@evil.com", 403),
        ("a.test", "http://evil.com@a.test", 403),
        ("a.test", "http://a.test/", 403),
        ("a.test", "http://a.test/path", 403),
        ("a.test", "http://", 403),
        ("a.test", "//a.test", 403),
        ("a.test", "a.test", 403),
        ("a.test", "", 403),
        ("a.test", "null", 403),
        ("a.test", "file://", 403),
        ("a.test", "ws://a.test", 403),
        ("a.test", "chrome-extension://a.test", 403),
        ("a.test", "http://a.test http://a.test", 403),
        ("a.test", "http://a.test, http://evil.com", 403),
        ("a.test", "http://[::1", 403),
        ("a.test", "\u{1f980}", 403),
        ("127.0.0.1:80", "http://localhost", 403),
    ] {
        rig.check(host, origin, status);
    }
    // What is no browser says nothing.
    assert_eq!(rig.answer("/hub", "a.test", &[]).status, 101);
    assert_eq!(rig.answer("/server", "a.test", &[]).status, 101);
    for lines in [["http://a.test", "http://a.test"], ["http://a.test", "http://evil.com"]] {
        assert_eq!(rig.answer("/hub", "a.test", &lines).status, 403);
        assert_eq!(rig.answer("/server", "a.test", &lines).status, 403);
    }
}

#[test]
fn pages_of_listed_sites_open_websockets_and_none_that_look_like_them() {
    let rig = Rig::with(
        r#"origin = { allow = ["https://good.example", "https://*.good.example", "http://localhost:*", "http://[::1]:8080", "capacitor://localhost"] }"#,
    );
    for (origin, status) in [
        ("https://good.example", 101),
        ("https://good.example:443", 101),
        ("HTTPS://GOOD.EXAMPLE", 101),
        ("https://a.good.example", 101),
        ("https://a.b.good.example", 101),
        ("http://localhost", 101),
        ("http://localhost:5173", 101),
        ("http://[0:0::1]:8080", 101),
        ("capacitor://localhost", 101),
        ("http://a.test", 101),
        ("https://good.example.evil.com", 403),
        ("https://evilgood.example", 403),
        ("https://good.example:444", 403),
        ("https://a.good.example:444", 403),
        ("http://good.example", 403),
        ("https://good.example.", 403),
        ("https://.good.example", 403),
        ("https://good.example@evil.com", 403),
        ("https://good.example/", 403),
        ("https://good.example https://good.example", 403),
        ("https://localhost:5173", 403),
        ("http://localhost.evil.com", 403),
        ("http://[::1]", 403),
        ("http://[::1]:8081", 403),
        ("capacitor://evil", 403),
        ("null", 403),
    ] {
        rig.check("a.test", origin, status);
    }
}

#[test]
fn null_absence_and_the_site_itself_are_decided_by_a_key_each() {
    let rig = Rig::with("origin = { null = true }");
    rig.check("a.test", "null", 101);
    rig.check("a.test", "file://", 101);
    rig.check("a.test", "http://b.test", 403);
    let rig = Rig::with("origin = { absent = false }");
    let answer = rig.answer("/hub", "a.test", &[]).expect(403);
    assert!(answer.text().contains("origin.absent"), "{}", answer.text());
    rig.check("a.test", "http://a.test", 101);
    let rig = Rig::with(r#"origin = { same = false, allow = ["https://a.test"] }"#);
    rig.check("a.test", "http://a.test", 403);
    rig.check("a.test", "https://a.test", 101);
    let rig = Rig::with(r#"origin = { allow = ["*"] }"#);
    rig.check("a.test", "https://anybody.example:1", 101);
    rig.check("a.test", "null", 101);
    rig.check("a.test", "https://a.example, https://b.example", 403);
}

#[test]
fn a_refusal_says_who_and_which_key() {
    let mut rig = Rig::with("");
    let answer = rig.answer("/server", "a.test", &["https://evil.example"]).expect(403);
    assert_eq!(answer.headers.get("content-type"), Some("text/plain; charset=utf-8"));
    for part in ["\"https://evil.example\"", "`origin.allow`"] {
        assert!(answer.text().contains(part), "{}", answer.text());
    }
    rig.edge.log_line(&["status=403", "route=\"/server\"", "fault=\"origin_foreign\""]);
    let script = format!("<script>\u{1b}]{}", "x".repeat(4000));
    let answer = rig.answer("/server", "a.test", &[&script]);
    // A control character ends in hyper; what is printable is bounded.
    assert_eq!(answer.status, 400);
    let answer = rig.answer("/server", "a.test", &[&script.replace('\u{1b}', "\u{e9}")]);
    let text = answer.expect(403).text();
    assert!(text.len() < 250 && text.contains("<script>\\xc3\\xa9]xxx"), "{text}");
    assert_eq!(rig.server.requests().len(), 0, "a server has heard of it");
}

#[test]
fn a_bad_handshake_of_a_foreign_page_is_refused_for_its_page() {
    let rig = Rig::with("");
    for path in ["/hub", "/server"] {
        for (from, to) in [
            ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 12"),
            ("Sec-WebSocket-Key", "Sec-WebSocket-Kex"),
            ("GET ", "POST "),
        ] {
            let origin = "\r\nOrigin: http://evil.test\r\n\r\n";
            let text = handshake(path).replace("\r\n\r\n", origin).replace(from, to);
            let mut peer = Peer::connect(rig.edge.address());
            peer.send(&text);
            peer.response().expect(403);
        }
    }
}

#[test]
fn plain_requests_and_what_opens_no_websocket_are_left_alone() {
    let rig = Rig::with("");
    let ask = |text: &str| {
        let mut peer = Peer::connect(rig.edge.address());
        peer.send(text);
        peer.response()
    };
    let foreign = "Host: a.test\r\nOrigin: http://evil.test\r\nContent-Length: 0\r\n\r\n";
    let answer = ask(&format!("POST /server HTTP/1.1\r\n{foreign}")).expect(200);
    assert!(answer.text().contains("origin: http://evil.test"), "{}", answer.text());
    let preflight = format!("Access-Control-Request-Method: PUT\r\n{foreign}");
    let answer = ask(&format!("OPTIONS /server HTTP/1.1\r\n{preflight}")).expect(200);
    assert!(answer.text().starts_with("OPTIONS /server"), "{}", answer.text());
    // A handshake that nobody takes is a request like any other.
    let origin = "\r\nOrigin: http://evil.test\r\n\r\n";
    ask(&handshake("/fixed").replace("\r\n\r\n", origin)).expect(200);
}

/// A page that opens a WebSocket to an address, and says how that went.
const OPEN: &str = r#"
    window.said = "";
    const socket = new WebSocket(arguments[0]);
    socket.onopen = () => { window.said = "open"; };
    socket.onclose = event => { window.said = window.said || `closed ${event.code}`; };
"#;

#[test]
fn a_browser_s_foreign_page_cannot_use_its_visitor_s_cookies() {
    let Some(browser) = Browser::start() else { return };
    let mut rig = Rig::with("");
    let other = Rig::with("");
    // Cookies do not know ports: the browser has this one for both sites.
    let said = |page: &str, target: &str| {
        browser.open(page);
        browser.run("document.cookie = 'session=secret; path=/'", &json!(null));
        browser.run(OPEN, &json!(target));
        let say = || browser.run("return window.said", &json!(null)).as_str().map(str::to_owned);
        until("the WebSocket is open or not", || say().filter(|said| !said.is_empty()))
    };
    let page = format!("http://{}/fixed", rig.edge.address());
    let foreign = format!("http://{}/fixed", other.edge.address());
    for path in ["/server", "/hub"] {
        let target = format!("ws://{}{path}", rig.edge.address());
        assert_eq!(said(&page, &target), "open");
        assert_eq!(said(&foreign, &target), "closed 1006");
    }
    let request = rig.server.request();
    assert_eq!(request.headers.get("cookie"), Some("session=secret"));
    assert_eq!(rig.server.requests().len(), 0, "the foreign page has reached the server");
    rig.edge.log_line(&["status=403", "fault=\"origin_foreign\""]);
    // A page from a file says `null`, or `file://`.
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("page.html");
    std::fs::write(&file, "<p>page").unwrap();
    let target = format!("ws://{}/server", rig.edge.address());
    assert_eq!(said(&format!("file://{}", file.display()), &target), "closed 1006");
    rig.edge.log_line(&["status=403", "fault=\"origin_null\""]);
}
