//! CORS: the edge answers for plain HTTP by the route's list of sites.

use serde_json::{Value, json};
use tidewire_testkit::backend::Backend;
use tidewire_testkit::browser::Browser;
use tidewire_testkit::deadline::until;
use tidewire_testkit::http::{Response, ask, get};
use tidewire_testkit::tidewire::Tidewire;

/// An edge whose `/api` is a server, with `cors` of these keys for `https://app.test` and `more`.
struct Rig {
    edge: Tidewire,
    server: Backend,
}

impl Rig {
    fn with(cors: &str, more: &str) -> Self {
        // A server that lets everybody in, as many do.
        let server = Backend::start(|request, peer| {
            peer.body(&request.headers);
            peer.send(
                "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nVary: Accept\r\n\
                 Access-Control-Allow-Credentials: true\r\nX-Total: 7\r\nContent-Length: 2\r\n\r\nok",
            );
        });
        let edge = Tidewire::run(&format!(
            r#"
[[listen]]
name = "public"
bind = "127.0.0.1:0"
[[route]]
path = "/api"
backend = "nodes"
origin = {{ allow = ["https://app.test"{more}] }}
cors = {{ {cors} }}
[[route]]
path = "/untouched"
backend = "nodes"
[[route]]
path = "/away"
backend = "away"
origin = {{ allow = ["https://app.test"] }}
cors = {{}}
[[route]]
respond = {{ status = 200, body = "page" }}
[[backend]]
name = "nodes"
server = [{{ name = "server1", address = "{}" }}]
[[backend]]
name = "away"
retries = 0
server = [{{ name = "server1", address = "127.0.0.1:1" }}]
"#,
            server.address()
        ));
        Self { edge, server }
    }

    fn ask(&self, method: &str, path: &str, lines: &str) -> Response {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: api.test\r\n{lines}");
        ask(self.edge.address(), &format!("{head}Content-Length: 0\r\n\r\n"))
    }
}

/// What an answer says about CORS.
fn said(answer: &Response) -> Vec<String> {
    let headers = answer.headers.0.iter().map(|(name, value)| (name.to_lowercase(), value));
    let about = headers.filter(|(name, _)| name.starts_with("access-control-") || name == "vary");
    let mut said: Vec<String> = about.map(|(name, value)| format!("{name}: {value}")).collect();
    said.sort();
    said
}

const APP: &str = "Origin: https://app.test\r\n";
const EVIL: &str = "Origin: https://evil.test\r\n";

#[test]
fn preflights_are_answered_by_the_edge_and_reach_no_server() {
    let rig = Rig::with(r#"credentials = true, headers = ["X-Client"], max_age = "1h""#, "");
    let lines = format!(
        "{APP}Access-Control-Request-Method: PUT\r\nAccess-Control-Request-Headers: x-client\r\n"
    );
    let answer = rig.ask("OPTIONS", "/api", &lines).expect(204);
    assert_eq!(
        said(&answer),
        [
            "access-control-allow-credentials: true",
            "access-control-allow-headers: X-Client",
            "access-control-allow-methods: GET, HEAD, POST, PUT, PATCH, DELETE",
            "access-control-allow-origin: https://app.test",
            "access-control-max-age: 3600",
            "vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers, \
             Access-Control-Request-Private-Network",
        ]
    );
    for (from, to, part) in [
        ("https://app.test", "https://evil.test", "origin.allow"),
        ("https://app.test", "null", "origin.allow"),
        ("https://app.test", "https://app.test.evil.com", "origin.allow"),
        (": PUT", ": PURGE", "`cors.methods`"),
        (": x-client", ": x-client, x-other", "header x-other is not one"),
    ] {
        let answer = rig.ask("OPTIONS", "/api", &lines.replace(from, to)).expect(403);
        assert!(answer.text().contains(part), "{}", answer.text());
        assert_eq!(said(&answer), ["vary: Origin"]);
    }
    assert_eq!(rig.server.accepted(), 0);
}

#[test]
fn answers_say_what_the_route_says_and_not_what_the_server_says() {
    let rig = Rig::with(r#"credentials = true, expose = ["X-Total"]"#, "");
    let marked = [
        "access-control-allow-credentials: true",
        "access-control-allow-origin: https://app.test",
        "access-control-expose-headers: X-Total",
        "vary: Accept",
        "vary: Origin",
    ];
    let bare = ["vary: Accept", "vary: Origin"];
    for method in ["GET", "POST", "DELETE"] {
        assert_eq!(said(&rig.ask(method, "/api", APP).expect(200)), marked);
        assert_eq!(said(&rig.ask(method, "/api", "").expect(200)), bare);
        let same = rig.ask(method, "/api", "Origin: http://api.test\r\n").expect(200);
        assert_eq!(said(&same), bare);
    }
    assert_eq!(said(&rig.ask("GET", "/api", EVIL).expect(200)), bare);
    // Also when the edge says itself what went wrong: the page's script can read the status.
    let fault = rig.ask("GET", "/away", APP).expect(503);
    assert_eq!(said(&fault), ["access-control-allow-origin: https://app.test", "vary: Origin"]);
}

#[test]
fn what_changes_things_is_refused_to_pages_that_are_not_listed() {
    let rig = Rig::with("", "");
    for origin in [EVIL, "Origin: null\r\n", "Origin: https://app.test.evil.com\r\n"] {
        let answer = rig.ask("POST", "/api", origin).expect(403);
        assert!(answer.text().contains("may not send POST here"), "{}", answer.text());
        assert_eq!(said(&answer), ["vary: Origin"]);
    }
    let answer = rig.ask("PROPFIND", "/api", APP).expect(403);
    assert!(answer.text().contains("`cors.methods`"), "{}", answer.text());
    assert_eq!(rig.server.accepted(), 0, "a refused request has reached the server");
}

#[test]
fn without_the_key_a_server_answers_for_itself() {
    let rig = Rig::with("", "");
    let theirs = [
        "access-control-allow-credentials: true",
        "access-control-allow-origin: *",
        "vary: Accept",
    ];
    let preflight = format!("{EVIL}Access-Control-Request-Method: PUT\r\n");
    assert_eq!(said(&rig.ask("OPTIONS", "/untouched", &preflight).expect(200)), theirs);
    assert_eq!(said(&rig.ask("POST", "/untouched", EVIL).expect(200)), theirs);
}

/// Asks from within a page, and says in the end what came of it.
const FETCH: &str = r#"
    window.said = "";
    const [url, options] = arguments[0];
    fetch(url, options)
        .then(async answer => `${answer.status} ${await answer.text()} ${answer.headers.get("x-total")}`)
        .catch(error => `failed: ${error.name}`)
        .then(said => { window.said = said; });
"#;

#[test]
fn a_browser_s_pages_can_do_what_the_route_says() {
    let Some(browser) = Browser::start() else { return };
    let pages = [Rig::with("", ""), Rig::with("", "")];
    let [app, evil] = pages.each_ref().map(|rig| format!("http://{}", rig.edge.address()));
    let cors = r#"credentials = true, headers = ["X-Client"], methods = ["GET", "POST", "PUT"], expose = ["X-Total"]"#;
    let rig = Rig::with(cors, &format!(", \"{app}\""));
    let api = format!("http://{}/api", rig.edge.address());
    let fetch = |page: &str, options: Value| {
        browser.open(page);
        browser.run(FETCH, &json!([api, options]));
        let say = || browser.run("return window.said", &json!(null)).as_str().map(str::to_owned);
        until("the fetch is over", || say().filter(|said| !said.is_empty()))
    };
    let put = json!({ "method": "PUT", "headers": { "X-Client": "1" }, "credentials": "include" });
    assert_eq!(fetch(&app, json!({})), "200 ok 7");
    assert_eq!(fetch(&app, put.clone()), "200 ok 7");
    assert_eq!(fetch(&app, json!({ "method": "POST", "body": "x" })), "200 ok 7");
    let seen: Vec<String> = rig.server.requests().into_iter().map(|it| it.method).collect();
    assert_eq!(seen, ["GET", "PUT", "POST"], "a preflight has reached the server");
    for options in [json!({ "method": "DELETE" }), json!({ "headers": { "X-Other": "1" } })] {
        assert_eq!(fetch(&app, options), "failed: TypeError");
    }
    for options in [put, json!({ "method": "POST", "body": "x" })] {
        assert_eq!(fetch(&evil, options), "failed: TypeError");
    }
    assert_eq!(rig.server.requests().len(), 0, "a refused request has reached the server");
    // What is safe reaches the server; the page does not get to see the answer.
    assert_eq!(fetch(&evil, json!({ "credentials": "include" })), "failed: TypeError");
    assert_eq!(rig.server.requests().len(), 1);
    assert_eq!(get(rig.edge.address(), "/api").expect(200).text(), "ok");
}
