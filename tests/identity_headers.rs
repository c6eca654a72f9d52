//! Headers that say to a server who the client is: set by the edge, and by nobody else.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tidewire_testkit::backend::Backend;
use tidewire_testkit::http::{Request, ask};
use tidewire_testkit::script::{answers, echoes};
use tidewire_testkit::tidewire::Tidewire;
use tidewire_testkit::websocket::handshake;

const SECRET: &str = "a secret of thirty-two bytes, ok";

fn token(more: Value) -> String {
    let mut claims = json!({ "sub": "ann", "exp": 4_000_000_000_u64 });
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap()
}

fn edge(server: &Backend) -> Tidewire {
    Tidewire::run(&format!(
        r#"
[[listen]]
name = "public"
bind = "127.0.0.1:0"
[[auth]]
name = "users"
jwt = {{ secret = "{SECRET}" }}
headers = {{ "X-User" = "{{sub}}", "X-Roles" = "{{roles}}", "X_Team" = "team-{{team}}" }}
[[auth]]
name = "others"
jwt = {{ secret = "{SECRET}", from = ["header:X-Other"] }}
headers = {{ "X-Other-User" = "{{sub}}" }}
[[route]]
path = "/known/*"
auth = "users"
backend = "nodes"
[[route]]
path = "/other"
auth = "others"
backend = "nodes"
[[route]]
backend = "nodes"
[[backend]]
name = "nodes"
server = [{{ name = "a", address = "{}" }}]
"#,
        server.address()
    ))
}

/// What of it speaks of identities.
fn identity(request: &Request) -> Vec<String> {
    let named = request.headers.0.iter().filter(|(name, _)| {
        let name = name.to_lowercase();
        ["user", "roles", "team"].iter().any(|word| name.contains(word)) && name != "user-agent"
    });
    let mut lines: Vec<_> =
        named.map(|(name, value)| format!("{}: {value}", name.to_lowercase())).collect();
    lines.sort();
    lines
}

#[test]
fn servers_hear_what_the_claims_say() {
    let server = Backend::start(answers(200, "ok"));
    let edge = edge(&server);
    let check = |claims: Value, expected: &[&str]| {
        let line = format!("Authorization: Bearer {}", token(claims));
        ask(edge.address(), &format!("GET /known/x HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n"))
            .expect(200);
        assert_eq!(identity(&server.request()), expected);
    };
    check(json!({}), &["x-user: ann"]);
    check(
        json!({ "roles": ["a", "b,c"], "team": "blue" }),
        &["x-roles: a,b%2Cc", "x-user: ann", "x_team: team-blue"],
    );
    check(
        json!({ "team": "J\u{fc}r\r\nX-Roles: x" }),
        &["x-user: ann", "x_team: team-J%C3%BCr%0D%0AX-Roles: x"],
    );
}

#[test]
fn clients_do_not_get_to_say_who_they_are() {
    let server = Backend::start(|request, peer| {
        if request.headers.has("upgrade") {
            echoes(request, peer);
        } else {
            answers(200, "ok")(request, peer);
        }
    });
    let edge = edge(&server);
    let line = format!("Authorization: Bearer {}\r\n", token(json!({})));
    for spelling in [
        "X-User",
        "x-user",
        "X-USER",
        "X_User",
        "X.User",
        "x_USER",
        "X-Other-User",
        "X_Other.User",
        "X-Team",
        "X_Team",
        "x.team",
        "X-Roles",
        "X_Roles",
    ] {
        let forged = format!("{spelling}: root\r\n{spelling}: admin\r\n");
        for more in [
            String::new(),
            // A name that Connection lists goes as one of the hop: ours must not go with it.
            format!("Connection: keep-alive, {spelling}, x-user\r\n"),
        ] {
            for (path, credentials, expected) in
                [("/", "", &[][..]), ("/known/x", &line, &["x-user: ann"])]
            {
                let text =
                    format!("GET {path} HTTP/1.1\r\nHost: a\r\n{forged}{more}{credentials}\r\n");
                ask(edge.address(), &text).expect(200);
                assert_eq!(identity(&server.request()), expected, "{text}");
                let forged = format!("\r\n{forged}{credentials}\r\n");
                let text = handshake(path).replace("\r\n\r\n", &forged);
                ask(edge.address(), &text).expect(101);
                assert_eq!(identity(&server.request()), expected, "{text}");
            }
        }
    }
}

#[test]
fn clients_do_not_get_to_say_it_in_trailers_either() {
    let server = Backend::start(|request, peer| {
        let trailers = peer.body(&request.headers).trailers;
        answers(200, &format!("{:?}", trailers.0))(request, peer);
    });
    let edge = edge(&server);
    let names = ["X-Sum", "X-User", "X_User", "X.Roles", "X-Forwarded-For", "X-Original-URL"];
    let trailers = names.map(|name| format!("{name}: 7\r\n")).concat();
    let answer = ask(
        edge.address(),
        &format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: {}\r\n\r\n\
             1\r\na\r\n0\r\n{trailers}\r\n",
            names.join(", "),
        ),
    );
    assert_eq!(answer.expect(200).text().to_lowercase(), r#"[("x-sum", "7")]"#);
}
