//! What operators can ask, and who is an operator.

use tidewire_testkit::http;
use tidewire_testkit::tidewire::Tidewire;

#[test]
fn metrics_are_for_the_token_only_when_it_says_so() {
    let with =
        |more: &str| format!("{ANSWERS}[admin]\nbind = '127.0.0.1:0'\ntoken = '{TOKEN}'\n{more}\n");
    let open = Tidewire::run(&with(""));
    assert_eq!(http::get(open.admin(), "/metrics").status, 200);
    let node = Tidewire::run(&with("metrics = 'token'"));
    assert_eq!(http::get(node.admin(), "/metrics").status, 401);
    assert_eq!(ask(&node, "Authorization: Bearer 0123456789abcdeX\r\n"), 401);
    assert_eq!(ask(&node, &format!("Authorization: Bearer {TOKEN}\r\n")), 200);
    let of_a_page = format!("Authorization: Bearer {TOKEN}\r\nOrigin: http://127.0.0.1\r\n");
    assert_eq!(ask(&node, &of_a_page), 403);
    // What decides about traffic has no token to show.
    assert_eq!(http::get(node.admin(), "/healthz").status, 200);
    assert_eq!(http::get(node.admin(), "/readyz").status, 200);
}

/// The status of `/metrics` for these headers.
fn ask(node: &Tidewire, headers: &str) -> u16 {
    let request = format!("GET /metrics HTTP/1.1\r\nHost: x\r\n{headers}Connection: close\r\n\r\n");
    http::ask(node.admin(), &request).status
}

const TOKEN: &str = "0123456789abcdef";
const ANSWERS: &str = "workers = 1\n[[listen]]\nname = 'public'\nbind = '127.0.0.1:0'\n\
    [[route]]\nrespond = { status = 204 }\n";
