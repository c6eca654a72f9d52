//! Which requests are WebSocket handshakes, and which answers are a switch: tables.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Version};
use tidewire_wire::ws::handshake::{
    self, BadSwitch, Classified, Offer, Refusal, Switch, accept_key, check_switch, encode_key,
};
use tidewire_wire::ws::rules::Extensions;

/// Headers as `name: value` lines.
fn headers(lines: &str) -> HeaderMap {
    let lines = lines.lines().map(str::trim).filter(|line| !line.is_empty());
    let pairs = lines.map(|line| {
        let (name, value) = line.split_once(':').expect("a colon");
        (HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value.trim()).unwrap())
    });
    pairs.fold(HeaderMap::new(), |mut headers, (name, value)| {
        headers.append(name, value);
        headers
    })
}

fn classify(lines: &str) -> Classified {
    handshake::classify(&Method::GET, Version::HTTP_11, &headers(lines))
}

/// The good request without the lines that start with `without`, and with `lines`.
fn changed(without: &str, lines: &str) -> String {
    let kept = GOOD_REQUEST
        .lines()
        .map(str::trim)
        .filter(|line| without.is_empty() || !line.to_ascii_lowercase().starts_with(without));
    kept.chain([lines]).collect::<Vec<_>>().join("\n")
}

fn values(list: &[&str]) -> Vec<HeaderValue> {
    list.iter().map(|value| HeaderValue::from_str(value).unwrap()).collect()
}

#[test]
fn a_whole_handshake_is_an_offer() {
    let Classified::WebSocket(offer) = classify(GOOD_REQUEST) else {
        panic!("{:?}", classify(GOOD_REQUEST));
    };
    assert_eq!(offer, Offer::plain(*b"dGhlIHNhbXBsZSBub25jZQ=="));
}

#[test]
fn tokens_are_found_in_lists_lines_and_any_case() {
    let is_offer = |request: String| {
        assert!(matches!(classify(&request), Classified::WebSocket(_)), "{request}");
    };
    is_offer(changed("upgrade", "Upgrade: WebSocket"));
    is_offer(changed("upgrade", "Upgrade: h2c, ,\twebsocket ,"));
    is_offer(changed("upgrade", "Upgrade: h2c\nUpgrade: websocket"));
    is_offer(changed("connection", "Connection: keep-alive, UPGRADE"));
    is_offer(changed("connection", "Connection: keep-alive\nConnection: upgrade"));
    is_offer(changed("", "Content-Length: 0"));
}

#[test]
fn what_does_not_ask_for_a_websocket_is_plain_http() {
    let is_plain = |request: String| assert_eq!(classify(&request), Classified::NotWebSocket);
    is_plain(changed("upgrade", ""));
    is_plain(changed("upgrade", "Upgrade: h2c"));
    is_plain(changed("upgrade", "Upgrade: websockets"));
    is_plain(changed("upgrade", "Upgrade: websocket/13"));
    is_plain(changed("upgrade", "Upgrade: \"websocket\""));
    is_plain(changed("connection", ""));
    is_plain(changed("connection", "Connection: keep-alive"));
    is_plain(changed("connection", "Connection: upgrades"));
    is_plain(changed("connection", "Connection: close\nUpgrade: websocket"));
}

#[test]
fn only_http_1_1_upgrades() {
    for version in [Version::HTTP_09, Version::HTTP_10, Version::HTTP_2, Version::HTTP_3] {
        let classified = handshake::classify(&Method::GET, version, &headers(GOOD_REQUEST));
        assert_eq!(classified, Classified::NotWebSocket, "{version:?}");
    }
}

#[test]
fn a_handshake_that_breaks_a_rule_is_refused_with_its_status() {
    let check = |request: String, refusal: Refusal, status| {
        assert_eq!(classify(&request), Classified::Refused(refusal), "{request}");
        assert_eq!(refusal.status(), status);
    };
    for key in [
        "",
        "Sec-WebSocket-Key:",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=a",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZTE=",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZTEy",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j!Q==",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j-_==",
        "Sec-WebSocket-Key: SGVsbG8sIHdvcmxkIQ==",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ] {
        check(changed("sec-websocket-key", key), Refusal::Key, StatusCode::BAD_REQUEST);
    }
    for version in [
        "",
        "Sec-WebSocket-Version: 777",
        "Sec-WebSocket-Version: 8",
        "Sec-WebSocket-Version: 013",
        "Sec-WebSocket-Version: 13, 8",
        "Sec-WebSocket-Version: 13\nSec-WebSocket-Version: 13",
    ] {
        let request = changed("sec-websocket-version", version);
        check(request, Refusal::Version, StatusCode::UPGRADE_REQUIRED);
    }
    for body in [
        "Content-Length: 5",
        "Content-Length: 0\nContent-Length: 5",
        "Content-Length: +0",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: identity",
        "Content-Length: 0\nTransfer-Encoding: chunked",
    ] {
        check(changed("", body), Refusal::Body, StatusCode::BAD_REQUEST);
    }
}

#[test]
fn only_get_upgrades_and_a_body_weighs_more() {
    let good = headers(GOOD_REQUEST);
    for method in [Method::POST, Method::HEAD, Method::CONNECT, Method::OPTIONS] {
        let classified = handshake::classify(&method, Version::HTTP_11, &good);
        assert_eq!(classified, Classified::Refused(Refusal::Method), "{method}");
    }
    let with_body = headers(&changed("", "Content-Length: 5"));
    let classified = handshake::classify(&Method::POST, Version::HTTP_11, &with_body);
    assert_eq!(classified, Classified::Refused(Refusal::Body));
}

#[test]
fn a_refusal_brings_the_header_its_status_asks_for() {
    let header = |refusal: Refusal| refusal.header().map(|(name, value)| (name.to_string(), value));
    let version = HeaderValue::from_static("13");
    assert_eq!(header(Refusal::Version), Some(("sec-websocket-version".into(), version)));
    assert_eq!(header(Refusal::Method), Some(("allow".into(), HeaderValue::from_static("GET"))));
    assert_eq!(header(Refusal::Key), None);
}

#[test]
fn subprotocols_and_extensions_are_offered_in_order() {
    let request = changed(
        "",
        "Sec-WebSocket-Protocol: chat, , superchat\n\
         Sec-WebSocket-Protocol: v1.json\n\
         Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x-foo",
    );
    let Classified::WebSocket(offer) = classify(&request) else {
        panic!("{:?}", classify(&request));
    };
    assert_eq!(offer.subprotocols, values(&["chat", "superchat", "v1.json"]));
    assert_eq!(offer.extensions, values(&["permessage-deflate", "x-foo"]));
}

#[test]
fn the_accept_is_that_of_rfc_6455_section_1_3() {
    assert_eq!(accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), *b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_eq!(encode_key(*b"the sample nonce"), *b"dGhlIHNhbXBsZSBub25jZQ==");
}

#[test]
fn a_switch_is_a_101_that_answers_the_offer() {
    let mut offer = Offer::plain(*b"dGhlIHNhbXBsZSBub25jZQ==");
    let check = |offer: &Offer, lines: &str, expected: Result<Switch, BadSwitch>| {
        let found = check_switch(StatusCode::SWITCHING_PROTOCOLS, &headers(lines), offer);
        assert_eq!(found, expected, "{lines}");
    };
    let good = |more: &str| format!("{GOOD_ANSWER}\n{more}");
    let value = |text: &str| HeaderValue::from_str(text).unwrap();
    let switch = |subprotocol| Switch { subprotocol, extensions: Extensions::None };
    check(&offer, GOOD_ANSWER, Ok(switch(None)));
    check(
        &offer,
        &good("Sec-WebSocket-Protocol: chat"),
        Err(BadSwitch::SubprotocolNotOffered(value("chat"))),
    );
    check(
        &offer,
        &good("Sec-WebSocket-Extensions: permessage-deflate"),
        Err(BadSwitch::ExtensionNotOffered(value("permessage-deflate"))),
    );

    offer.subprotocols = values(&["chat", "v2"]);
    offer.extensions = values(&["permessage-deflate"]);
    check(&offer, GOOD_ANSWER, Ok(switch(None)));
    check(&offer, &good("Sec-WebSocket-Protocol: v2"), Ok(switch(Some(value("v2")))));
    check(
        &offer,
        &good("Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover"),
        Ok(Switch { subprotocol: None, extensions: Extensions::Deflate }),
    );
    check(
        &offer,
        &good("Sec-WebSocket-Protocol: v2\nSec-WebSocket-Protocol: chat"),
        Err(BadSwitch::SubprotocolRepeated),
    );
    for foreign in ["Chat", "chat, v2", "v3", ""] {
        check(
            &offer,
            &good(&format!("Sec-WebSocket-Protocol: {foreign}")),
            Err(BadSwitch::SubprotocolNotOffered(value(foreign))),
        );
    }
}

#[test]
fn what_is_no_switch_says_why() {
    let offer = Offer::plain(*b"dGhlIHNhbXBsZSBub25jZQ==");
    let check = |without: &str, lines: &str, expected| {
        let kept = GOOD_ANSWER.lines().filter(|line| !line.trim().starts_with(without));
        let answer = kept.chain([lines]).collect::<Vec<_>>().join("\n");
        let found = check_switch(StatusCode::SWITCHING_PROTOCOLS, &headers(&answer), &offer);
        assert_eq!(found, Err(expected), "{answer}");
    };
    check("Upgrade", "", BadSwitch::Upgrade);
    check("Upgrade", "Upgrade: foo", BadSwitch::Upgrade);
    check("Upgrade", "Upgrade: websocket, foo", BadSwitch::Upgrade);
    check("Connection", "", BadSwitch::Connection);
    check("Connection", "Connection: close", BadSwitch::Connection);
    check("Sec-WebSocket-Accept", "", BadSwitch::AcceptMissing);
    let accept = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
    check("none", accept, BadSwitch::AcceptRepeated);
    for wrong in ["", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo", "S3pPLMBiTxaQ9kYGzzhZRbK+xOo="] {
        let line = format!("Sec-WebSocket-Accept: {wrong}");
        let expected = BadSwitch::AcceptWrong(HeaderValue::from_str(wrong).unwrap());
        check("Sec-WebSocket-Accept", &line, expected);
    }
    for status in [StatusCode::OK, StatusCode::UPGRADE_REQUIRED, StatusCode::CONTINUE] {
        let found = check_switch(status, &headers(GOOD_ANSWER), &offer);
        assert_eq!(found, Err(BadSwitch::Status(status)));
    }
}

const GOOD_REQUEST: &str = "
    Host: server.example.com
    Upgrade: websocket
    Connection: Upgrade
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==
    Sec-WebSocket-Version: 13";

const GOOD_ANSWER: &str = "
    Upgrade: websocket
    Connection: Upgrade
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
