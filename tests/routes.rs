//! Routes: which request goes where, and the targets that need no server.

use std::fs;

use tidewire_testkit::http::{ask, get};
use tidewire_testkit::tidewire::Tidewire;
use tidewire_testkit::websocket::handshake;

#[test]
fn files_are_served_and_nothing_outside_their_directory() {
    let directory = tempfile::tempdir().unwrap();
    let public = directory.path().join("public");
    fs::create_dir_all(public.join("sub")).unwrap();
    fs::write(directory.path().join("secret.txt"), "secret").unwrap();
    fs::write(public.join("index.html"), "<p>home").unwrap();
    fs::write(public.join("app.js"), "0123456789").unwrap();
    std::os::unix::fs::symlink("app.js", public.join("sub/link.js")).unwrap();
    let config = format!(
        "[[listen]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\n\
         [[route]]\npath = \"/files/*\"\nstatic = {{ dir = \"{0}\" }}\n\
         [[route]]\nstatic = {{ dir = \"{0}\" }}\n",
        public.display()
    );
    let edge = Tidewire::run(&config);
    let get = |path| get(edge.address(), path);
    let page = get("/").expect(200);
    assert_eq!((page.text().as_str(), page.headers.get("content-type")), ("<p>home", HTML));
    let script = get("/files/app.js").expect(200);
    assert_eq!(script.headers.get("content-type"), Some("text/javascript"));
    get("/app.js").expect(200);
    get("/nothing").expect(404);
    for outside in
        ["/../secret.txt", "/files/../../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt"]
    {
        let answer = get(outside);
        assert!(answer.status >= 400 && !answer.text().contains("secret\n"), "{outside}");
    }
    let ask = |text: &str| ask(edge.address(), text);
    let part = ask("GET /app.js HTTP/1.1\r\nHost: a\r\nRange: bytes=2-4\r\n\r\n").expect(206);
    assert_eq!(part.text(), "234");
    ask("POST /app.js HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").expect(405);
}

const HTML: Option<&str> = Some("text/html");

#[test]
fn redirects_fixed_answers_and_nothing() {
    let edge = Tidewire::run(
        r#"
[[listen]]
name = "public"
bind = "127.0.0.1:0"
[[route]]
path = "/old/*"
redirect = { to = "https://{host}/new{path}{query}", status = 301 }
[[route]]
path = "/gone"
respond = { status = 410, body = "gone for good" }
"#,
    );
    let answer = get(edge.address(), "/old/x?y=1").expect(301);
    assert_eq!(answer.headers.get("location"), Some("https://a.test/new/old/x?y=1"));
    let answer = get(edge.address(), "/gone").expect(410);
    assert_eq!(answer.text(), "gone for good");
    get(edge.address(), "/elsewhere").expect(404);
}

#[test]
fn routes_are_told_apart_by_host_path_header_and_protocol() {
    let edge = Tidewire::run(
        r#"
[[listen]]
name = "public"
bind = "127.0.0.1:0"
[[route]]
host = "*.chat.test"
respond = { status = 200, body = "host" }
[[route]]
path = "/{user}/files"
respond = { status = 200, body = "path" }
[[route]]
header = { X-Group = "beta" }
respond = { status = 200, body = "header" }
[[route]]
websocket = true
respond = { status = 200, body = "websocket" }
[[route]]
respond = { status = 200, body = "rest" }
"#,
    );
    for (text, expected) in [
        ("GET / HTTP/1.1\r\nHost: EU.chat.test:80\r\n\r\n", "host"),
        ("GET /me/files?x HTTP/1.1\r\nHost: a\r\n\r\n", "path"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX-Group: beta\r\n\r\n", "header"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX-Group: alpha\r\n\r\n", "rest"),
        (&handshake("/"), "websocket"),
    ] {
        assert_eq!(ask(edge.address(), text).text(), expected, "{text}");
    }
}

#[test]
fn a_route_answers_whoever_watches_the_edge_itself() {
    let edge = |route: &str| {
        Tidewire::run(&format!(
            "[[listen]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\n\
             [[route]]\n{route}\npath = \"/health\"\nrespond = {{ status = 200 }}\n"
        ))
    };
    let of = |edge: &Tidewire, target: &str| {
        let host = if target.starts_with('/') { "a.test" } else { "www.test" };
        ask(edge.address(), &format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")).status
    };
    let everywhere = edge("");
    assert_eq!(of(&everywhere, "/health"), 200);
    assert_eq!(of(&everywhere, "http://www.test/health"), 200);
    assert_eq!(of(&everywhere, "/hEAlth"), 404);
    let one_host = edge("host = \"www.test\"");
    assert_eq!(of(&one_host, "http://www.test/health"), 200);
    assert_eq!(of(&one_host, "/health"), 404);
}
