//! HTTPS: clients are sent to it, remember it, and are held to the name that they came for.

use std::process::Command;

use tempfile::TempDir;
use tidewire_testkit::http::ask;
use tidewire_testkit::skip;
use tidewire_testkit::tidewire::Tidewire;
use tidewire_testkit::websocket::handshake;

fn redirecting(port: u16) -> Tidewire {
    Tidewire::run(&format!(
        r#"
[[listen]]
name = "plain"
bind = "127.0.0.1:0"
https_redirect = {port}
[[listen]]
name = "other"
bind = "127.0.0.1:0"
[[route]]
respond = {{ status = 200, body = "served in plain text" }}
"#
    ))
}

#[test]
fn every_request_is_sent_to_the_same_place_by_https() {
    let edge = redirecting(443);
    for (request, location) in [
        ("GET /x?y=1 HTTP/1.1\r\nHost: a.test\r\n\r\n", "https://a.test/x?y=1"),
        ("GET / HTTP/1.1\r\nHost: a.test:8080\r\n\r\n", "https://a.test/"),
        ("GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", "https://[::1]/"),
        ("GET http://b.test/x HTTP/1.1\r\nHost: b.test\r\n\r\n", "https://b.test/x"),
        ("GET //evil.test/x HTTP/1.1\r\nHost: a.test\r\n\r\n", "https://a.test//evil.test/x"),
        ("OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n", "https://a.test/"),
        ("POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nhi", "https://a.test/x"),
        (&handshake("/ws"), "wss://a.test/ws"),
    ] {
        let answer = ask(edge.address(), request).expect(308);
        assert_eq!(answer.headers.get("location"), Some(location), "{request}");
        assert!(!answer.headers.has("strict-transport-security"));
    }
    for request in [
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: \r\n\r\n",
        "GET / HTTP/1.1\r\nHost: :80\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a,b\r\n\r\n",
        "GET http://b.test/x HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test/x\r\n\r\n",
    ] {
        ask(edge.address(), request).expect(400);
    }
    let edge = redirecting(8443);
    let answer = ask(edge.address(), "GET /x HTTP/1.1\r\nHost: a.test:8080\r\n\r\n").expect(308);
    assert_eq!(answer.headers.get("location"), Some("https://a.test:8443/x"));
}

#[test]
fn curl_follows_to_where_tls_would_be() {
    if !skip::has("curl") {
        return;
    }
    let edge = redirecting(9);
    let url = format!("http://{}/x?y", edge.address());
    let output = Command::new("curl")
        .args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code} %{redirect_url}"])
        .arg(&url)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "308 https://127.0.0.1:9/x?y");
}

/// A listener with TLS for `a.test` and `b.test`, with `more` in its `[listen.tls]`.
struct Secure {
    edge: Tidewire,
    directory: TempDir,
}

impl Secure {
    fn with(more: &str) -> Option<Self> {
        if !skip::has("curl") || !skip::has("openssl") {
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).display().to_string();
        let make = |name: &str, arguments: &[&str]| {
            let mut command = Command::new("openssl");
            command.args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"]);
            command.args(["-pkeyopt", "ec_paramgen_curve:P-256", "-subj", &format!("/CN={name}")]);
            command.args(["-keyout", &at(&format!("{name}.key"))]);
            command.args(["-out", &at(&format!("{name}.pem"))]).args(arguments);
            let output = command.output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        make("ca", &["-addext", "keyUsage=critical,keyCertSign,cRLSign"]);
        let (ca, key) = (at("ca.pem"), at("ca.key"));
        let by_ca = ["-CA", &ca, "-CAkey", &key, "-addext", "basicConstraints=critical,CA:FALSE"];
        let names = "subjectAltName=DNS:a.test,DNS:b.test,IP:127.0.0.1";
        make("server", &[&by_ca[..], &["-addext", names]].concat());
        make("client", &[&by_ca[..], &["-addext", "extendedKeyUsage=clientAuth"]].concat());
        let (server, key) = (at("server.pem"), at("server.key"));
        let more = more.replace("CA", &ca);
        let edge = Tidewire::run(&format!(
            r#"
[[listen]]
name = "secure"
bind = "127.0.0.1:0"
[listen.tls]
certificate = [{{ cert = "{server}", key = "{key}" }}]
{more}
[[route]]
path = "/ok"
respond = {{ status = 200, body = "ok" }}
[[route]]
path = "/away"
backend = "away"
[[backend]]
name = "away"
retries = 0
server = [{{ name = "server1", address = "127.0.0.1:1" }}]
"#
        ));
        Some(Self { edge, directory })
    }

    /// What curl gets for a path of this host, with these arguments: heads and bodies.
    fn curl(&self, host: &str, path: &str, arguments: &[&str]) -> String {
        let at = |name: &str| self.directory.path().join(name);
        let port = self.edge.address().port();
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--include", "--http1.1", "--cacert"]);
        command.arg(at("ca.pem")).arg("--cert").arg(at("client.pem"));
        command.arg("--key").arg(at("client.key"));
        command.args(["--connect-to", &format!("{host}:443:127.0.0.1:{port}")]).args(arguments);
        let output = command.arg(format!("https://{host}{path}")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

#[test]
fn hsts_is_on_every_answer_by_tls() {
    let hsts = "hsts = { max_age = \"365d\", include_subdomains = true, preload = true }";
    let Some(secure) = Secure::with(hsts) else { return };
    let expected = "strict-transport-security: max-age=31536000; includeSubDomains; preload\r\n";
    for (path, arguments, status) in [
        ("/ok", &[][..], "200"),
        ("/nothing", &[], "404"),
        ("/away", &[], "503"),
        ("/ok", &["--header", "Host: a b"], "400"),
    ] {
        let said = secure.curl("a.test", path, arguments);
        assert!(said.starts_with(&format!("HTTP/1.1 {status}")), "{said}");
        assert!(said.contains(expected), "{said}");
    }
    let Some(silent) = Secure::with("") else { return };
    let said = silent.curl("a.test", "/ok", &[]);
    assert!(!said.contains("strict-transport"), "{said}");
}

#[test]
fn where_clients_show_certificates_a_request_is_for_the_name_of_its_tls() {
    let asks = "client_cert = { mode = \"required\", ca = \"CA\" }";
    let Some(secure) = Secure::with(asks) else { return };
    let status = |secure: &Secure, host: &str, asked: &str| {
        let said = secure.curl(host, "/ok", &["--header", &format!("Host: {asked}")]);
        said.split(' ').nth(1).map(str::to_owned)
    };
    for (host, asked, expected) in [
        ("a.test", "a.test", "200"),
        ("a.test", "A.TEST:8443", "200"),
        ("a.test", "b.test", "421"),
        ("b.test", "a.test", "421"),
        ("a.test", "a.test.evil.com", "421"),
        // No name in the handshake: only the address itself can be meant.
        ("127.0.0.1", "127.0.0.1", "200"),
        ("127.0.0.1", "a.test", "421"),
    ] {
        assert_eq!(status(&secure, host, asked).as_deref(), Some(expected), "{asked} on {host}");
    }
    let Some(open) = Secure::with("") else { return };
    assert_eq!(status(&open, "a.test", "b.test").as_deref(), Some("200"));
}

#[test]
fn by_tls_a_page_of_plain_http_is_of_another_site() {
    let Some(secure) = Secure::with("") else { return };
    let handshake = |origin: &str| {
        let lines = [
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            &format!("Origin: {origin}"),
        ];
        let arguments: Vec<&str> = lines.iter().flat_map(|line| ["--header", *line]).collect();
        let said = secure.curl("a.test", "/away", &arguments);
        said.split(' ').nth(1).map(str::to_owned)
    };
    // The server is away; what is refused does not get so far.
    assert_eq!(handshake("https://a.test").as_deref(), Some("503"));
    assert_eq!(handshake("http://a.test").as_deref(), Some("403"));
    assert_eq!(handshake("https://b.test").as_deref(), Some("403"));
}
