//! HTTPS: clients are sent to it.

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
        ("GET http://b.test/x HTTP/1.1\r\nHost: a.test\r\n\r\n", "https://b.test/x"),
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
    let output = std::process::Command::new("curl")
        .args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code} %{redirect_url}"])
        .arg(&url)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "308 https://127.0.0.1:9/x?y");
}
