//! Who is let in where, before anything is passed on, and what of its credentials goes further.

use std::net::SocketAddr;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tidewire_testkit::backend::Backend;
use tidewire_testkit::browser::Browser;
use tidewire_testkit::http::{Response, ask};
use tidewire_testkit::peer::Peer;
use tidewire_testkit::script::{accepts, answers, echoes, mirrors};
use tidewire_testkit::tidewire::Tidewire;
use tidewire_testkit::websocket::{Got, WebSocket, handshake, switch};

const USERS: &str = "a secret of thirty-two bytes, ok";
const STAFF: &str = "another secret of thirty-two, ok";

fn token_of(secret: &str, more: Value) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let mut claims = json!({ "sub": "ann", "iat": now.as_secs(), "exp": now.as_secs() + 600 });
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap()
}

fn token() -> String {
    token_of(USERS, json!({}))
}

fn listen(more: &str) -> String {
    format!("[[listen]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\n{more}")
}

/// An `[[auth]]` with tokens of this secret, in these places.
fn auth(name: &str, secret: &str, from: &str, more: &str) -> String {
    format!(
        "[[auth]]\nname = \"{name}\"\njwt = {{ secret = \"{secret}\", from = [{from}] }}\n{more}\n"
    )
}

fn respond(name: &str, more: &str) -> String {
    format!("[[route]]\n{more}\nrespond = {{ status = 200, body = \"{name}\" }}\n")
}

fn nodes(server: SocketAddr) -> String {
    format!(
        "[[backend]]\nname = \"nodes\"\nserver = [{{ name = \"a\", address = \"{server}\" }}]\n"
    )
}

fn get_with(edge: &Tidewire, path: &str, lines: &[String]) -> Response {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    ask(edge.address(), &format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n"))
}

#[test]
fn a_route_takes_those_for_whom_its_auth_vouches() {
    let places = "\"authorization\", \"header:X-Token\"";
    let config = listen(
        &[
            auth("users", USERS, "\"authorization\"", ""),
            auth("staff", STAFF, "\"header:X-Staff\"", ""),
            auth("either", USERS, places, ""),
            respond("all", "path = \"/all\"\nauth = [\"users\", \"staff\"]"),
            respond("any", "path = \"/any\"\nauth = [\"users\", \"staff\"]\nsatisfy = \"any\""),
            respond("pro", "path = \"/plan\"\nauth = \"users\"\nclaims = { plan = \"pro\" }"),
            respond("basic", "path = \"/plan\"\nauth = \"users\""),
            respond(
                "role",
                "path = \"/role\"\nauth = \"users\"\nclaims = { role = [\"admin\", \"boss\"], on = true }",
            ),
            respond("users", "path = \"/who\"\nauth = \"users\""),
            respond("staff", "path = \"/who\"\nauth = \"staff\""),
            respond("gate", "path = \"/open\"\nauth = \"users\""),
            respond("everybody", "path = \"/open\"\nauth = []"),
            respond("rest", "path = \"/*\""),
        ]
        .concat(),
    );
    let edge = Tidewire::run(&config);
    let user = |more: Value| format!("Authorization: Bearer {}", token_of(USERS, more));
    let plain = user(json!({}));
    let staff = format!("X-Staff: {}", token_of(STAFF, json!({ "sub": "bob" })));
    let wrong = format!("Authorization: Bearer {}", token_of(STAFF, json!({})));
    let expired = user(json!({ "exp": 1_000_000_000 }));
    let check = |path: &str, lines: &[&String], expected: &str| {
        let lines: Vec<String> = lines.iter().map(|it| (*it).clone()).collect();
        let answer = get_with(&edge, path, &lines);
        let found = if answer.status == 200 { answer.text() } else { answer.status.to_string() };
        assert_eq!(found, expected, "{path} with {lines:?}");
    };
    check("/all", &[], "401");
    check("/all", &[&plain], "401");
    check("/all", &[&staff], "401");
    check("/all", &[&plain, &staff], "all");
    check("/all", &[&wrong, &staff], "401");
    check("/any", &[], "401");
    check("/any", &[&plain], "any");
    check("/any", &[&staff], "any");
    check("/any", &[&wrong, &staff], "any");
    check("/any", &[&expired], "401");
    check("/plan", &[&user(json!({ "plan": "pro" }))], "pro");
    check("/plan", &[&plain], "basic");
    check("/plan", &[&wrong], "401");
    check("/role", &[&plain], "403");
    check("/role", &[&user(json!({ "role": "admin" }))], "403");
    check("/role", &[&user(json!({ "role": ["x", "boss"], "on": true }))], "role");
    check("/role", &[&user(json!({ "role": "admin", "on": "true" }))], "403");
    check("/role", &[], "401");
    check("/who", &[&plain], "users");
    check("/who", &[&staff], "staff");
    check("/who", &[&wrong], "401");
    // Whom a route has refused is not for one that was written for what is left.
    check("/open", &[], "everybody");
    check("/open", &[&plain], "gate");
    check("/else", &[], "rest");
    check("/else", &[&wrong], "rest");
}

#[test]
fn a_refusal_says_what_is_wanted_and_not_what_could_be_tried() {
    let config = listen(
        &[
            auth("users", USERS, "\"authorization\"", ""),
            auth("staff", STAFF, "\"header:X-Staff\"", ""),
            respond("x", "auth = [\"users\", \"staff\"]\nsatisfy = \"any\""),
        ]
        .concat(),
    );
    let mut edge = Tidewire::run(&config);
    let answer = get_with(&edge, "/", &[]).expect(401);
    assert_eq!(
        answer.headers.all("www-authenticate"),
        ["Bearer realm=\"users\"", "Bearer realm=\"staff\""]
    );
    assert_eq!(answer.headers.get("cache-control"), Some("no-store"));
    let expired = token_of(USERS, json!({ "exp": 1_000_000_000 }));
    let answer = get_with(&edge, "/", &[format!("Authorization: Bearer {expired}")]).expect(401);
    let challenges = answer.headers.all("www-authenticate").join("; ");
    assert!(challenges.contains("error=\"invalid_token\""), "{challenges}");
    assert!(answer.text().contains("expired"), "{}", answer.text());
    for (auth, result, count) in [
        ("users", "missing", 1.0),
        ("users", "invalid", 1.0),
        ("staff", "missing", 2.0),
        ("users", "accepted", 0.0),
    ] {
        let labels = [format!("auth=\"{auth}\""), format!("result=\"{result}\"")];
        edge.expect_metric("edge_auth_total", &labels.each_ref().map(String::as_str), count);
    }
    let line = edge.log_line(&["status=401", "request", "invalid"]);
    assert!(line.contains("auth_error"), "{line}");
}

#[test]
fn no_credential_reaches_a_server_a_log_or_a_redirect() {
    let server = Backend::start(mirrors);
    let places = "\"authorization\", \"cookie:session\", \"query:token\", \"header:X-Token\"";
    let config = listen(
        &[
            auth("users", USERS, places, ""),
            auth("passed", USERS, places, "pass = true"),
            "[[route]]\npath = \"/away\"\nauth = \"users\"\n\
             redirect = { to = \"https://b.test{path}{query}\" }\n"
                .into(),
            "[[route]]\npath = \"/pass\"\nauth = \"passed\"\nbackend = \"nodes\"\n".into(),
            "[[route]]\nauth = \"users\"\nbackend = \"nodes\"\n".into(),
            nodes(server.address()),
        ]
        .concat(),
    );
    let mut edge = Tidewire::run(&config);
    let token = token();
    for (path, line, kept) in [
        ("/x", format!("Authorization: Bearer {token}"), None),
        ("/x", format!("Cookie: a=1; session={token}; b=\"2\""), Some("cookie: a=1; b=\"2\"")),
        (&format!("/x?a=%20b&token={token}&c"), "X-A: 1".into(), Some("GET /x?a=%20b&c")),
        ("/x", format!("X-Token: {token}"), None),
    ] {
        let seen = get_with(&edge, path, &[line]).expect(200).text().to_lowercase();
        assert!(!seen.contains(&token.to_lowercase()), "{seen}");
        assert!(!seen.contains("authorization") && !seen.contains("x-token"), "{seen}");
        assert!(kept.is_none_or(|kept| seen.contains(&kept.to_lowercase())), "{seen}");
    }
    let seen = get_with(&edge, "/pass", &[format!("X-Token: {token}")]).expect(200).text();
    assert!(seen.contains(&token), "{seen}");
    let away = get_with(&edge, &format!("/away?token={token}&a=1"), &[]).expect(308);
    assert_eq!(away.headers.get("location"), Some("https://b.test/away?a=1"));
    assert!(!away.text().contains(&token), "{}", away.text());
    get_with(&edge, &format!("/x?token={token}x"), &[]).expect(401);
    edge.log_line(&["status=401", "request"]);
    let line = edge.log_line(&["status=308", "request"]);
    assert!(line.contains("ann"), "{line}");
    assert!(!edge.child.stdout().join("\n").contains(&token[..40]));
    assert!(!edge.child.stderr().join("\n").contains(&token[..40]));
}

/// An edge before one server, whose WebSockets want a token among their subprotocols.
fn sockets(server: SocketAddr) -> Tidewire {
    let route = "[[route]]\nauth = \"users\"\nbackend = \"nodes\"\n";
    let users = auth("users", USERS, "\"subprotocol:bearer\"", "");
    Tidewire::run(&listen(&[&users, route, &nodes(server)].concat()))
}

fn offering(offer: &str) -> String {
    handshake("/ws").replace("\r\n\r\n", &format!("\r\nSec-WebSocket-Protocol: {offer}\r\n\r\n"))
}

#[test]
fn a_token_among_subprotocols_is_taken_out_and_a_browser_gets_the_answer_it_needs() {
    let server = Backend::start(|request, peer| {
        let offer = request.headers.get("sec-websocket-protocol").unwrap_or("");
        if offer.contains("chosen") {
            let key = request.headers.get("sec-websocket-key").unwrap();
            let end = "\r\nSec-WebSocket-Protocol: chosen\r\n\r\n";
            peer.send(switch(key).replace("\r\n\r\n", end));
            peer.expect_gone();
        } else {
            echoes(request, peer);
        }
    });
    let edge = sockets(server.address());
    let token = token();
    for (offer, reaches, answer) in [
        (format!("bearer, {token}"), None, "bearer".to_owned()),
        (format!("bearer.{token}"), None, format!("bearer.{token}")),
        (format!("chosen, bearer, {token}"), Some("chosen"), "chosen".to_owned()),
        (format!("bearer, {token}, other"), Some("other"), "bearer".to_owned()),
    ] {
        let socket = WebSocket::upgrade(Peer::connect(edge.address()), &offering(&offer));
        let response = socket.response.as_ref().unwrap();
        assert_eq!(response.headers.get("sec-websocket-protocol"), Some(answer.as_str()));
        let request = server.request();
        assert_eq!(request.headers.get("sec-websocket-protocol"), reaches, "{offer}");
        assert!(!format!("{request:?}").contains(&token[..40]));
    }
}

#[test]
fn a_server_cannot_choose_an_offer_that_it_did_not_get() {
    let server = Backend::start(|request, peer| {
        let key = request.headers.get("sec-websocket-key").unwrap();
        let end = "\r\nSec-WebSocket-Protocol: bearer\r\n\r\n";
        peer.send(switch(key).replace("\r\n\r\n", end));
        peer.expect_gone();
    });
    let edge = sockets(server.address());
    ask(edge.address(), &offering(&format!("bearer, {}", token()))).expect(502);
}

#[test]
fn a_refused_handshake_is_the_last_request_of_its_connection() {
    let server = Backend::start(|request, peer| drop(accepts(request, peer)));
    let edge = sockets(server.address());
    let mut peer = Peer::connect(edge.address());
    // What comes behind it is neither a request nor the first frame of a tunnel.
    peer.send(handshake("/ws") + "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(peer.response().expect(401).headers.get("connection"), Some("close"));
    peer.expect_end();
    assert_eq!(server.accepted(), 0);
}

#[test]
fn a_browser_opens_a_websocket_with_a_token() {
    let Some(browser) = Browser::start() else { return };
    let server = Backend::start(echoes);
    let page = Backend::start(answers(200, "<p>page"));
    let config = listen(
        &[
            auth("users", USERS, "\"subprotocol:bearer\"", ""),
            "[hub]\n[[route]]\npath = \"/hub\"\nauth = \"users\"\nhub = { topic = \"t\" }\n".into(),
            "[[route]]\npath = \"/ws\"\nauth = \"users\"\nbackend = \"nodes\"\n".into(),
            "[[route]]\nbackend = \"pages\"\n".into(),
            nodes(server.address()),
            nodes(page.address()).replace("\"nodes\"", "\"pages\""),
        ]
        .concat(),
    );
    let edge = Tidewire::run(&config);
    browser.open(&format!("http://{}/", edge.address()));
    let open = |path: &str, offer: Value| {
        let url = format!("ws://{}{path}", edge.address());
        let script = "
            const [url, offer] = arguments[0];
            window.said = null;
            const socket = new WebSocket(url, offer);
            socket.onopen = () => { window.said = 'open ' + socket.protocol; };
            socket.onclose = () => { window.said ??= 'refused'; };";
        browser.run(script, &json!([url, offer]));
        tidewire_testkit::deadline::until("the socket is open or not", || {
            browser.run("return window.said;", &Value::Null).as_str().map(str::to_owned)
        })
    };
    let token = token();
    assert_eq!(open("/ws", json!(["bearer", token])), "open bearer");
    assert_eq!(open("/hub", json!(["tidewire.v1", "bearer", token])), "open tidewire.v1");
    assert_eq!(open("/hub", json!(["bearer", token])), "open bearer");
    assert_eq!(open("/ws", json!([format!("bearer.{token}")])), format!("open bearer.{token}"));
    assert_eq!(open("/ws", json!(["bearer", format!("{token}x")])), "refused");
    assert_eq!(open("/ws", json!([])), "refused");
}

#[test]
fn a_hub_client_is_known_and_its_token_does_not_reach_the_protocol() {
    let config = listen(
        &[
            auth("users", USERS, "\"subprotocol:bearer\"", ""),
            "[hub]\n[[route]]\nauth = \"users\"\nhub = { topic = \"t\", reply = \"{message}\" }\n"
                .into(),
        ]
        .concat(),
    );
    let mut edge = Tidewire::run(&config);
    ask(edge.address(), &handshake("/")).expect(401);
    let offer = offering(&format!("bearer, {}", token()));
    let mut socket = WebSocket::upgrade(Peer::connect(edge.address()), &offer);
    socket.expect_echo("hello");
    socket.send_close(1000, "");
    assert!(matches!(socket.next(), Got::Close(Some(1000), _)));
    let line = edge.log_line(&["websocket", "topic"].map(|_| "websocket"));
    assert!(line.contains("subject") && line.contains("ann"), "{line}");
}

#[test]
fn a_route_is_not_passed_by_with_another_spelling_of_its_path() {
    let server = Backend::start(mirrors);
    let config = listen(
        &[
            auth("users", USERS, "\"authorization\"", ""),
            "[[route]]\npath = \"/admin/*\"\nauth = \"users\"\nbackend = \"nodes\"\n".into(),
            "[[route]]\npath = \"/rooms/{room}\"\nauth = \"users\"\nbackend = \"nodes\"\n".into(),
            "[[route]]\nbackend = \"nodes\"\n".into(),
            nodes(server.address()),
        ]
        .concat(),
    );
    let edge = Tidewire::run(&config);
    for (path, status) in [
        ("/admin/x", 401),
        ("/%61dmin/x", 401),
        ("/adm%69n/", 401),
        ("/x/../admin/x", 400),
        ("/%2e%2e/admin/x", 400),
        ("/./admin/x", 400),
        ("//admin/x", 401),
        ("/admin%2Fx", 401),
        ("/admin\\x", 400),
        ("/admin;a=b/x", 401),
        ("/..;/admin/x", 400),
        ("/x%2f../admin/x", 400),
        ("/x/..%2fadmin/x", 400),
        ("/rooms/a%ff", 401),
        ("/rooms/a%zz", 400),
        ("/adminx", 200),
        ("//adminx;admin", 200),
        ("/.well-known/admin", 200),
    ] {
        assert_eq!(get_with(&edge, path, &[]).status, status, "{path}");
    }
}

#[test]
fn what_did_not_let_the_client_in_is_not_passed_on_either() {
    let server = Backend::start(mirrors);
    let all = "\"authorization\", \"cookie:t\", \"query:t\", \"subprotocol:bearer\"";
    let route = |path: &str, more: &str| {
        format!("[[route]]\npath = \"{path}\"\n{more}\nbackend = \"nodes\"\n")
    };
    let config = listen(
        &[
            auth("users", USERS, all, ""),
            auth("staff", STAFF, "\"header:X-Staff\"", ""),
            auth("passed", USERS, "\"authorization\"", "pass = true"),
            route("/any", "auth = [\"staff\", \"users\"]\nsatisfy = \"any\""),
            route("/users", "auth = \"users\""),
            route("/passed", "auth = [\"passed\", \"users\"]\nsatisfy = \"any\""),
            route("/*", ""),
            nodes(server.address()),
        ]
        .concat(),
    );
    let edge = Tidewire::run(&config);
    let good = token();
    let forged = token_of("a third secret of thirty-two byte", json!({ "sub": "root" }));
    let staff = format!("X-Staff: {}", token_of(STAFF, json!({})));
    let bearer = |token: &str| format!("Authorization: Bearer {token}");
    let check = |path: &str, lines: &[String], gone: &[&str]| {
        let said = get_with(&edge, path, lines).expect(200).text();
        for text in gone {
            assert!(!said.contains(text), "{path} with {lines:?}: {said}");
        }
    };
    check("/any", &[staff.clone(), bearer(&forged)], &[&forged, "uthorization"]);
    check("/any", &[staff.clone(), bearer(&good)], &[&good]);
    check("/any", &[staff.clone(), format!("Cookie: t={forged}")], &[&forged]);
    check(&format!("/any?t={forged}&%74={good}"), &[staff], &[&forged, &good]);
    check(&format!("/users?t={forged}"), &[bearer(&good)], &[&good, &forged]);
    check("/users", &[bearer(&good), format!("Cookie: t={forged}; t=")], &[&good, &forged]);
    // What is for the server goes on: another scheme, and what is passed on.
    let basic = "Authorization: Basic YTpi".to_owned();
    let said = get_with(&edge, "/users", &[basic.clone(), format!("Cookie: t={good}")]);
    assert!(said.expect(200).text().contains("Basic YTpi"));
    let said = get_with(&edge, "/passed", &[bearer(&good)]).expect(200).text();
    assert!(said.contains(&good), "{said}");
}
