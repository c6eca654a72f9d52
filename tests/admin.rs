//! What operators can ask, and who is an operator.

use tidewire_testkit::deadline::until;
use tidewire_testkit::http;
use tidewire_testkit::peer::Peer;
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

#[test]
fn who_says_nothing_to_the_admin_listener_is_cut() {
    let node = Tidewire::run(ANSWERS);
    let said = ["", "GET /healthz HT", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"];
    let mut peers = said.map(|said| {
        let mut peer = Peer::connect(node.admin());
        peer.send(said);
        peer
    });
    peers[2].response().expect(200);
    peers.iter_mut().for_each(Peer::expect_gone);
}

#[test]
fn who_floods_the_admin_listener_takes_no_files_from_clients() {
    let node = Tidewire::run(ANSWERS);
    http::get(node.admin(), "/healthz").expect(200);
    let before = node.child.open_files();
    let flood: Vec<Peer> = (0..150)
        .map(|_| {
            let mut peer = Peer::connect(node.admin());
            peer.send("GET /metrics HT");
            peer
        })
        .collect();
    until("it has as many as it takes", || (node.child.open_files() >= before + 64).then_some(()));
    for _ in 0..50 {
        http::get(node.address(), "/").expect(204);
        // Those of clients that have just gone are among them.
        let files = node.child.open_files();
        assert!(files <= before + 64 + 8, "{files} files, {before} before");
    }
    drop(flood);
    http::get(node.admin(), "/healthz").expect(200);
}

/// The status of `/metrics` for these headers.
fn ask(node: &Tidewire, headers: &str) -> u16 {
    let request = format!("GET /metrics HTTP/1.1\r\nHost: x\r\n{headers}Connection: close\r\n\r\n");
    http::ask(node.admin(), &request).status
}

const TOKEN: &str = "0123456789abcdef";
const ANSWERS: &str = "workers = 1\n[[listen]]\nname = 'public'\nbind = '127.0.0.1:0'\n\
    [[route]]\nrespond = { status = 204 }\n";
