//! Rules, and what routes ask of a request besides: the real binary, plain requests and WebSocket
//! handshakes, and whoever would like to pass by.

use std::net::SocketAddr;

use tidewire_testkit::backend::Backend;
use tidewire_testkit::http::{Request, Response, ask};
use tidewire_testkit::peer::Peer;
use tidewire_testkit::script;
use tidewire_testkit::tidewire::Tidewire;
use tidewire_testkit::websocket::{Got, WebSocket, handshake};

const LISTEN: &str = "[[listen]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\n";

/// An edge with rules, and a route for all the rest.
#[track_caller]
fn edge(rules: &str) -> Tidewire {
    let rest = "[[route]]\nname = \"rest\"\nrespond = { status = 200, body = \"rest\" }\n";
    Tidewire::run(&format!("{LISTEN}{rules}\n{rest}"))
}

/// An edge with rules before one server.
#[track_caller]
fn before(server: &Backend, rules: &str) -> Tidewire {
    Tidewire::run(&format!(
        "{LISTEN}{rules}\n[[route]]\nbackend = \"app\"\n{}",
        backend("app", server)
    ))
}

fn backend(name: &str, server: &Backend) -> String {
    let address = server.address();
    format!(
        "[[backend]]\nname = \"{name}\"\nserver = [{{ name = \"{name}\", address = \"{address}\" }}]\n"
    )
}

/// A request for `path` with more lines in its head.
fn request(path: &str, lines: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n")
}

/// A handshake for `path` with more lines in its head.
fn upgrade(path: &str, lines: &str) -> String {
    handshake(path).replacen("\r\n", &format!("\r\n{lines}"), 1)
}

/// Which of `texts` a rule with this condition denies: a 1 for each, else a 0.
#[track_caller]
fn check(when: &str, texts: &[&str], expected: &str) {
    let edge = edge(&format!("[[rule]]\nwhen = {when}\nthen = {{ deny = 403 }}\n"));
    let denied = texts.iter().map(|text| match ask(edge.address(), text).status {
        403 => '1',
        200 => '0',
        other => panic!("{other} to {text}"),
    });
    assert_eq!(denied.collect::<String>(), expected, "{when}");
}

// Conditions, each on its own.

#[test]
fn rules_ask_for_path_method_and_header() {
    let plain = request("/", "");
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    check(
        r#"{ path = ["/a", "/b/*"] }"#,
        &[&request("/a", ""), &request("/b/x", ""), &plain],
        "110",
    );
    check(r#"{ method = ["POST", "PUT"] }"#, &[post, &plain, &handshake("/")], "100");
    let header = |lines: &str| request("/", lines);
    check(
        r#"{ header = { X-Group = ["beta*", "x"], X-Any = "*" } }"#,
        &[
            &header("X-Group: beta2\r\nX-Any: 1\r\n"),
            &header("X-Group: y\r\nX-Group: x\r\nx-any: \r\n"),
            &header("X-Group: beta\r\n"),
            &header("X-Group: y\r\nX-Any: 1\r\n"),
        ],
        "1100",
    );
}

#[test]
fn rules_ask_for_query_and_cookie() {
    check(
        r#"{ query = { room = "a b", debug = "*" } }"#,
        &[
            &request("/?room=a%20b&debug", ""),
            &request("/?debug=1&r%6fom=x&room=a%20b", ""),
            &request("/?room=a%20b", ""),
            &upgrade("/", "").replace("GET /", "GET /?room=a%20b&debug="),
        ],
        "1101",
    );
    check(
        r#"{ cookie = { canary = "1" } }"#,
        &[
            &request("/", "Cookie: a=b; canary=1\r\n"),
            &request("/", "Cookie: canary=0\r\nCookie: canary=1\r\n"),
            &request("/", "Cookie: canary=2\r\n"),
            &upgrade("/", "Cookie: canary=1\r\n"),
        ],
        "1101",
    );
}

/// As `h1_host_normalization.vtc` of HAProxy: case, a default port, a target in absolute form.
#[test]
fn rules_ask_for_the_host_however_it_is_written() {
    let get = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let absolute = |uri: &str, host: &str| format!("GET {uri} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    check(
        r#"{ host = ["www.example.com", "*.internal.test"] }"#,
        &[
            &get("www.example.com"),
            &get("WWW.Example.com:80"),
            &get("www.example.com:8443"),
            &get("www.example.com."),
            &absolute("http://www.example.com/", "www.example.com:80"),
            &absolute("http://www.example.com:80/", "www.example.com"),
            &absolute("http://WWW.EXAMPLE.COM", "www.example.com"),
            &get("x.internal.test"),
            &get("internal.test"),
            &get("www.example.com.evil.test"),
            &handshake("/").replace("a.test", "x.INTERNAL.test:80"),
        ],
        "11111111001",
    );
}

#[test]
fn rules_ask_for_address_protocol_and_subprotocol() {
    let plain = request("/", "");
    check(r#"{ address = ["127.0.0.0/8"] }"#, &[&plain, &handshake("/")], "11");
    check(r#"{ address = "10.0.0.0/8" }"#, &[&plain], "0");
    check("{ tls = false }", &[&plain], "1");
    check("{ websocket = true }", &[&handshake("/"), &plain], "10");
    check("{ websocket = false }", &[&handshake("/"), &plain], "01");
    let offering = |list: &str| upgrade("/", &format!("Sec-WebSocket-Protocol: {list}\r\n"));
    check(
        r#"{ subprotocol = ["mqtt", "graphql-*"] }"#,
        &[
            &offering("mqtt"),
            &offering("chat, graphql-transport-ws"),
            &offering("chat\r\nSec-WebSocket-Protocol: mqtt"),
            &offering("MQTT"),
            &handshake("/"),
            &request("/", "Sec-WebSocket-Protocol: mqtt\r\n"),
        ],
        "111000",
    );
}

#[test]
fn conditions_are_put_together_by_any_all_and_not() {
    let get = |path: &str, group: &str| request(path, &format!("X-Group: {group}\r\n"));
    check(
        r#"{ path = "/a/*", any = [{ header.X-Group = "1" }, { header.X-Group = "2" }] }"#,
        &[&get("/a/", "1"), &get("/a/", "2"), &get("/a/", "3"), &get("/b", "1")],
        "1100",
    );
    check(
        r#"{ not = { any = [{ path = "/a/*" }, { header.X-Group = "2" }] } }"#,
        &[&get("/a/", "1"), &get("/b", "2"), &get("/b", "3")],
        "001",
    );
    check(
        r#"{ all = [{ any = [{ path = "/a" }, { path = "/b" }] }, { not = { header.X-Group = "1" } }] }"#,
        &[&get("/a", "2"), &get("/b", "2"), &get("/b", "1"), &get("/c", "2")],
        "1100",
    );
}

// What is done.

#[test]
fn a_handshake_is_denied_before_any_server_is_asked() {
    let server = Backend::start(script::echoes);
    let mut edge = before(
        &server,
        "[[rule]]\nname = \"closed\"\nwhen = { path = \"/ws\" }\n\
         then = { deny = 503, body = \"back at noon\", response_header.set.Retry-After = \"60\" }\n",
    );
    let answer = ask(edge.address(), &handshake("/ws")).expect(503);
    assert_eq!(answer.text(), "back at noon");
    assert_eq!(answer.headers.get("retry-after"), Some("60"));
    assert_eq!(answer.headers.get("connection"), Some("close"));
    assert_eq!(server.accepted(), 0);
    edge.log_line(&["rule=\"closed\"", "status=503", "path=\"/ws\""]);
    edge.expect_metric("edge_rule_hits_total", &["rule=\"closed\"", "action=\"deny\""], 1.0);
    WebSocket::connect(edge.address(), "/other").expect_echo("open");
}

#[test]
fn a_redirect_takes_what_the_path_captures() {
    let edge = edge(
        r#"
[[rule]]
when = { path = ["/old/{room}/*"] }
then = { redirect = { to = "https://{host}/rooms/{room}/{*}{query}", status = 302 } }
[[rule]]
when = { path = "/up/*" }
then = { redirect = { to = "/{*}" } }
"#,
    );
    let location = |path: &str, status| {
        let answer = ask(edge.address(), &request(path, "")).expect(status);
        answer.headers.get("location").unwrap().to_owned()
    };
    assert_eq!(location("/old/a%20b/x/y?z=1", 302), "https://a.test/rooms/a%20b/x/y?z=1");
    assert_eq!(location("/old/%C3%A9/y", 302), "https://a.test/rooms/%C3%A9/y");
    // Two slashes would be another site.
    assert_eq!(location("/up//evil.test/x", 308), "/evil.test/x");
}

#[test]
fn a_rule_leads_to_a_route_that_no_other_request_gets_to() {
    let edge = Tidewire::run(&format!(
        r#"{LISTEN}
[[rule]]
when = {{ any = [{{ cookie.canary = "1" }}, {{ header.X-Canary = "*" }}] }}
then = {{ route = "canary" }}
[[rule]]
when = {{ path = "/only/*" }}
then = {{ route = "of-a-host" }}
[[route]]
respond = {{ status = 200, body = "stable" }}
[[route]]
name = "canary"
respond = {{ status = 200, body = "canary" }}
[[route]]
name = "of-a-host"
host = "b.test"
respond = {{ status = 200, body = "b" }}
"#
    ));
    let answer = |text: &str| ask(edge.address(), text);
    assert_eq!(answer(&request("/", "")).text(), "stable");
    assert_eq!(answer(&request("/", "Cookie: canary=1\r\n")).text(), "canary");
    assert_eq!(answer(&request("/", "X-Canary: x\r\n")).text(), "canary");
    // What the route asks for must hold as well.
    answer(&request("/only/x", "")).expect(404);
    assert_eq!(answer(&request("/only/x", "").replace("a.test", "b.test")).text(), "b");
}

#[test]
fn servers_get_the_rewritten_path_and_routes_the_one_that_was_asked_for() {
    let server = Backend::start(|request: &Request, peer: &mut Peer| {
        if request.headers.has("upgrade") {
            script::echoes(request, peer);
        } else {
            script::mirrors(request, peer);
        }
    });
    let edge = Tidewire::run(&format!(
        r#"{LISTEN}
[[rule]]
when = {{ path = "/api/*" }}
then = {{ rewrite = "/{{*}}" }}
[[rule]]
when = {{ path = "/rooms/{{room}}/{{seat}}" }}
then = {{ rewrite = "/v2/{{seat}}/{{room}}" }}
[[rule]]
when = {{ path = "/v2/*" }}
then = {{ deny = 403 }}
[[route]]
path = "/api/*"
backend = "app"
[[route]]
path = "/rooms/*"
backend = "app"
{}"#,
        backend("app", &server)
    ));
    for (path, expected) in [
        ("/api/", "/"),
        ("/api/a/b?c=%2F&d", "/a/b?c=%2F&d"),
        ("/api/a%20b/%2F", "/a%20b/%2F"),
        ("/rooms/a/b?x", "/v2/b/a?x"),
        ("/%61pi/x", "/x"),
        ("http://a.test/api/x", "/x"),
    ] {
        let text = ask(edge.address(), &request(path, "")).expect(200).text();
        assert_eq!(text.lines().next(), Some(format!("GET {expected}").as_str()), "{path}");
        server.request();
    }
    WebSocket::connect(edge.address(), "/api/ws?t=1").expect_echo("hello");
    assert_eq!(server.request().target, "/ws?t=1");
    // Nothing that was no path before becomes another server's or another directory.
    for path in ["/api//evil.test/x", "/api/a//b", "/api/..%2fx", "/api/%252e%252e/%2e"] {
        let answer = ask(edge.address(), &request(path, ""));
        assert!(answer.status == 400, "{} to {path}", answer.status);
    }
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn headers_are_changed_for_servers_and_in_answers_also_in_the_101() {
    let server = Backend::start(|request: &Request, peer: &mut Peer| {
        if request.headers.has("upgrade") {
            script::echoes(request, peer);
        } else {
            peer.send(
                "HTTP/1.1 200 OK\r\nServer: secret/1.0\r\nX-A: 0\r\nContent-Length: 0\r\n\r\n",
            );
        }
    });
    let edge = before(
        &server,
        r#"
[[rule]]
when = { path = "/{room}/*" }
[rule.then.request_header]
remove = ["X-Debug"]
set = { X-Client = "{client.address}", X-Room = "{room}", X-Asked = "{method} {scheme}://{host}{path}{query}" }
add = { X-List = "edge" }
[rule.then.response_header]
remove = ["Server"]
set = { X-A = "1", X-Frame-Options = "DENY" }
add = { Vary = "Origin" }
"#,
    );
    let lines = "X-Debug: 1\r\nX-Client: 6.6.6.6\r\nX-List: own\r\n";
    let check = |response: &Response| {
        let sent = server.request().headers;
        assert!(!sent.has("x-debug"));
        assert_eq!(sent.get("x-client"), Some("127.0.0.1"));
        assert_eq!(sent.get("x-room"), Some("a%20b"));
        assert_eq!(sent.get("x-asked"), Some("GET http://a.test/a%20b/ws?x=1"));
        assert_eq!(sent.all("x-list"), ["own", "edge"]);
        let headers = &response.headers;
        assert!(!headers.has("server"));
        assert_eq!(headers.get("x-a"), Some("1"));
        assert_eq!(headers.get("x-frame-options"), Some("DENY"));
        assert_eq!(headers.get("vary"), Some("Origin"));
    };
    check(&ask(edge.address(), &request("/a%20b/ws?x=1", lines)).expect(200));
    let mut socket =
        WebSocket::upgrade(Peer::connect(edge.address()), &upgrade("/a%20b/ws?x=1", lines));
    check(socket.response.as_ref().unwrap());
    socket.expect_echo("and goes on");
    // What is refused before rules are asked is not theirs.
    let answer = ask(edge.address(), &request("/a/%00", "")).expect(400);
    assert!(!answer.headers.has("x-frame-options"));
}

#[test]
fn a_client_does_not_undo_what_a_rule_says_to_servers() {
    let server = Backend::start(script::mirrors);
    let edge = before(
        &server,
        "[[rule]]\nthen.request_header = { set = { X-Tenant = \"a\" }, remove = [\"X-Internal\"] }\n",
    );
    for lines in [
        "X-Tenant: b\r\n",
        "X-Tenant: b\r\nX-Tenant: c\r\n",
        "Connection: close, X-Tenant\r\n",
        "X_Tenant: b\r\nX.Tenant: b\r\n",
        "X-Internal: 1\r\nX_Internal: 1\r\nx-internal: 2\r\n",
    ] {
        ask(edge.address(), &request("/", lines)).expect(200);
        let headers = server.request().headers;
        assert_eq!(headers.get("x-tenant"), Some("a"), "{lines}");
        for alias in ["x_tenant", "x.tenant", "x-internal", "x_internal"] {
            assert!(!headers.has(alias), "{alias} after {lines}");
        }
    }
}

/// What is denied stays so in every spelling that some server takes for it; what is allowed by
/// being named is not, by a spelling that only looks like it.
#[test]
fn a_denied_path_is_not_passed_by() {
    let server = Backend::start(script::mirrors);
    let edge = before(
        &server,
        r#"
[[rule]]
when = { path = ["/admin", "/admin/*"] }
then = { deny = 403 }
[[rule]]
when = { path = "/files/*", not = { path = "/files/public/*" } }
then = { deny = 403 }
"#,
    );
    for path in [
        "/admin/x",
        "/%61dmin/x",
        "//admin/x",
        "///admin//x",
        "/admin;a=b/x",
        "/;/admin/x",
        "/admin%2fx",
        "/admin%2Fx",
        "/%2561dmin/x",
        "/%2fadmin/x",
        "/x/../admin/x",
        "/./admin/x",
        "/x/%2e%2e/admin/x",
        "/x/..;/admin/x",
        "/x/..%2fadmin/x",
        "/x/%252e%252e/admin/x",
        "/admin\\x",
        "/%5cadmin/x",
        "/admin%00/x",
        "/admin%3f",
        "/admin%23",
        "/admin?x",
        "http://a.test/admin/x",
        "http://a.test//admin/x",
        "/files/x",
        "/files/public",
        "/files/public/..%2fx",
        "/files/public/%252e%252e/x",
        "/files/public/..;/x",
        "/files//x",
        "/%66iles/x",
        "/files/public;/../x",
    ] {
        let answer = ask(edge.address(), &request(path, ""));
        assert!([400, 403].contains(&answer.status), "{} to {path}", answer.status);
        let answer = ask(edge.address(), &upgrade(path, ""));
        assert!([400, 403].contains(&answer.status), "{} to {path}, a handshake", answer.status);
    }
    assert_eq!(server.accepted(), 0);
    for path in ["/administrator", "/x/admin", "/files/public/x", "/files/public/a%20b"] {
        ask(edge.address(), &request(path, "")).expect(200);
    }
}

#[test]
fn rules_come_before_credentials_are_asked_for_and_cannot_replace_them() {
    let key = "[[auth]]\nname = \"keys\"\napi_key = { key = \"0123456789abcdef\" }\n";
    let edge = Tidewire::run(&format!(
        r#"{LISTEN}{key}
[[rule]]
when = {{ header.X-Bad = "*" }}
then = {{ deny = 451 }}
[[rule]]
when = {{ path = "/admin/*" }}
then = {{ route = "admin" }}
[[route]]
respond = {{ status = 200, body = "open" }}
[[route]]
name = "admin"
auth = "keys"
respond = {{ status = 200, body = "admin" }}
"#
    ));
    let status = |path: &str, lines: &str| ask(edge.address(), &request(path, lines)).status;
    assert_eq!(status("/", ""), 200);
    assert_eq!(status("/admin/x", "X-Bad: 1\r\n"), 451);
    // A rule that leads to a route with `auth` is one that keeps somebody out.
    for path in ["/admin/x", "//admin/x", "/%61dmin/x", "/admin;x/y", "/admin%2fx"] {
        assert_eq!(status(path, ""), 401, "{path}");
        assert_eq!(status(path, "X-Api-Key: 0123456789abcdef\r\n"), 200, "{path}");
    }
}

// Routes.

/// The name of the server that a handshake got to.
#[track_caller]
fn greeted(address: SocketAddr, text: &str) -> Option<String> {
    match WebSocket::try_upgrade(Peer::connect(address), text) {
        Ok(mut socket) => {
            socket.send("who?");
            match socket.next() {
                Got::Text(name) => Some(name),
                other => panic!("{other:?} instead of a name"),
            }
        }
        Err(_) => None,
    }
}

#[test]
fn subprotocols_lead_to_different_servers() {
    let names = ["mqtt", "graphql", "rest"];
    let servers = names.map(|name| Backend::start(says(name)));
    let backends: String =
        names.iter().zip(&servers).map(|(name, server)| backend(name, server)).collect();
    let edge = Tidewire::run(&format!(
        r#"{LISTEN}
[[route]]
subprotocol = ["mqtt", "mqttv3.1"]
backend = "mqtt"
[[route]]
subprotocol = "graphql-*"
backend = "graphql"
[[route]]
websocket = true
backend = "rest"
{backends}"#
    ));
    for (offer, expected) in [
        ("mqtt", "mqtt"),
        ("graphql-transport-ws", "graphql"),
        ("graphql-ws, chat", "graphql"),
        // Routes are tried in their order, not the client's.
        ("graphql-ws, mqtt", "mqtt"),
        ("chat", "rest"),
    ] {
        let text = upgrade("/", &format!("Sec-WebSocket-Protocol: {offer}\r\n"));
        assert_eq!(greeted(edge.address(), &text).as_deref(), Some(expected), "{offer}");
    }
    assert_eq!(greeted(edge.address(), &handshake("/")).as_deref(), Some("rest"));
}

/// A WebSocket server that answers everything with its name.
fn says(name: &'static str) -> impl Fn(&Request, &mut Peer) + Send + Sync + 'static {
    move |request, peer| {
        let mut socket = script::accepts(request, peer);
        socket.next();
        socket.send(name);
        socket.next();
    }
}

#[test]
fn routes_ask_for_what_rules_ask_for() {
    let edge = Tidewire::run(&format!(
        r#"{LISTEN}
[[route]]
method = "DELETE"
respond = {{ status = 200, body = "method" }}
[[route]]
query = {{ v = ["2", "3*"] }}
respond = {{ status = 200, body = "query" }}
[[route]]
cookie = {{ group = "b" }}
respond = {{ status = 200, body = "cookie" }}
[[route]]
address = "10.0.0.0/8"
respond = {{ status = 200, body = "address" }}
[[route]]
header = {{ X-Group = ["a*", "*z"] }}
respond = {{ status = 200, body = "header" }}
[[route]]
tls = false
path = "/plain"
respond = {{ status = 200, body = "plain" }}
[[route]]
respond = {{ status = 200, body = "rest" }}
"#
    ));
    for (text, expected) in [
        (request("/", "").replace("GET", "DELETE"), "method"),
        (request("/?v=30", ""), "query"),
        (request("/?v=4", ""), "rest"),
        (request("/", "Cookie: group=b\r\n"), "cookie"),
        (request("/", "X-Group: xyz\r\n"), "header"),
        (request("/plain", ""), "plain"),
        (request("/", ""), "rest"),
    ] {
        assert_eq!(ask(edge.address(), &text).text(), expected, "{text}");
    }
}

#[test]
fn a_route_changes_what_its_servers_and_its_clients_get() {
    let server = Backend::start(script::mirrors);
    let edge = Tidewire::run(&format!(
        r#"{LISTEN}
[[auth]]
name = "keys"
api_key = {{ key = "0123456789abcdef" }}
[[rule]]
then = {{ response_header.set.X-By = "rule" }}
[[route]]
path = "/api/{{tenant}}/*"
backend = "app"
rewrite = "/{{*}}"
request_header = {{ set = {{ X-Tenant = "{{tenant}}" }} }}
response_header = {{ set = {{ X-By = "route", X-Tenant = "{{tenant}}" }} }}
[[route]]
path = "/guarded/*"
auth = "keys"
backend = "app"
rewrite = "/{{*}}"
[[route]]
backend = "app"
{}"#,
        backend("app", &server)
    ));
    let answer = ask(edge.address(), &request("/api/a/x/y?z", "X-Tenant: b\r\n")).expect(200);
    assert_eq!(answer.headers.get("x-by"), Some("route"));
    assert_eq!(answer.headers.get("x-tenant"), Some("a"));
    let got = server.request();
    assert_eq!((got.target.as_str(), got.headers.get("x-tenant")), ("/x/y?z", Some("a")));
    let answer = ask(edge.address(), &request("/x", "X-Tenant: b\r\n")).expect(200);
    assert_eq!(answer.headers.get("x-by"), Some("rule"));
    let got = server.request();
    assert_eq!((got.target.as_str(), got.headers.get("x-tenant")), ("/x", Some("b")));
    // Another spelling is guarded, but what it captures is not known.
    let key = "X-Api-Key: 0123456789abcdef\r\n";
    for (path, status) in [("/guarded/x", 200), ("//guarded/x", 400), ("/guarded;a/x", 400)] {
        ask(edge.address(), &request(path, "")).expect(401);
        ask(edge.address(), &request(path, key)).expect(status);
    }
}

/// Where the client is, and what it came by, is what a trusted proxy says, and nobody else.
#[test]
fn rules_ask_for_what_trusted_proxies_say_of_a_client() {
    let server = Backend::start(script::mirrors);
    let rules = r#"
[[rule]]
when = { address = "192.0.2.0/24", tls = true }
then = { deny = 403 }
[[rule]]
then = { request_header.set.X-Client = "{client.address} {scheme}" }
"#;
    let trusting = "trusted_proxies = { from = [\"127.0.0.1\"] }\n";
    let said = "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n";
    let other = "X-Forwarded-For: 198.51.100.7\r\nX-Forwarded-Proto: https\r\n";
    let trusts = before(&server, &format!("{trusting}{rules}"));
    ask(trusts.address(), &request("/", said)).expect(403);
    ask(trusts.address(), &upgrade("/", said)).expect(403);
    ask(trusts.address(), &request("/", other)).expect(200);
    assert_eq!(server.request().headers.get("x-client"), Some("198.51.100.7 https"));
    let rules = rules.replace(", tls = true", "");
    let trusts_nobody = before(&server, &rules);
    ask(trusts_nobody.address(), &request("/", said)).expect(200);
    assert_eq!(server.request().headers.get("x-client"), Some("127.0.0.1 http"));
}
