//! What the rules say of requests, in which order, and in which spelling.

use http::{HeaderMap, Method};

use super::*;

fn rule(name: &str, path: &str, decision: Option<Decision>) -> Rule {
    Rule {
        name: name.to_owned(),
        when: Condition { paths: vec![path.parse().unwrap()], ..<_>::default() },
        changes: Changes::default(),
        is_guard: matches!(decision, Some(Decision::Deny(_))),
        decision,
    }
}

fn deny() -> Option<Decision> {
    Some(Decision::Deny(Deny { status: StatusCode::FORBIDDEN, body: None }))
}

fn redirect(to: &str) -> Option<Decision> {
    let to = Template::parse(to).unwrap();
    Some(Decision::Redirect(Redirect { status: StatusCode::FOUND, to }))
}

fn rewriting(path: &str, to: &str) -> Rule {
    let mut rule = rule("rewriting", path, None);
    rule.changes.rewrite = Some(Template::parse(to).unwrap());
    rule
}

fn judge(rules: Vec<Rule>, uri: &str) -> (Judgement, Vec<usize>) {
    let (uri, headers) = (uri.parse().unwrap(), HeaderMap::new());
    let asked = Asked {
        listener: 0,
        client: "::1".parse().unwrap(),
        is_tls: false,
        method: &Method::GET,
        uri: &uri,
        headers: &headers,
        is_websocket: false,
        offer: None,
    };
    let mut hits = Vec::new();
    let judgement = Rules(rules).judge(&asked, |rule| hits.push(rule));
    (judgement, hits)
}

#[test]
fn the_first_rule_that_decides_ends_it_and_those_before_have_changed() {
    let rules = || {
        vec![
            rewriting("/a/*", "/x"),
            rule("none", "/b", deny()),
            rule("first", "/a/*", Some(Decision::Route(7))),
            rule("later", "/*", deny()),
        ]
    };
    let (judgement, hits) = judge(rules(), "/a/b");
    assert_eq!((judgement.rule, judgement.route, hits), (Some(2), Some(7), vec![0, 2]));
    assert!(judgement.made.is_some() && judgement.answer.is_none());
    let (judgement, hits) = judge(rules(), "/b");
    assert_eq!((judgement.answer.unwrap().status(), hits), (StatusCode::FORBIDDEN, vec![1]));
    assert!(judgement.made.is_none());
}

#[test]
fn a_denied_path_is_denied_in_every_spelling() {
    for uri in [
        "/admin/x",
        "/%61dmin/x",
        "//admin/x",
        "/admin;a=b/x",
        "/admin%2fx",
        "/%2561dmin/x",
        "/a%2f..%2fadmin%2fx",
        "http://a.test//admin/x",
    ] {
        let (judgement, _) = judge(vec![rule("r", "/admin/*", deny())], uri);
        assert!(judgement.answer.is_some(), "{uri}");
    }
    let (judgement, _) = judge(vec![rule("r", "/admin/*", deny())], "/administrator//x");
    assert!(judgement.answer.is_none());
}

#[test]
fn what_is_not_public_is_denied_in_every_spelling() {
    let public = Condition { paths: vec!["/public/*".parse().unwrap()], ..<_>::default() };
    let rules = || {
        let mut rule = rule("r", "/*", deny());
        rule.when = Condition { not: Some(Box::new(public.clone())), ..<_>::default() };
        vec![rule]
    };
    assert!(judge(rules(), "/public/x").0.answer.is_none());
    assert!(judge(rules(), "/public/x%20y").0.answer.is_none());
    for uri in ["/x", "/public", "/public/..%2fx", "/public/%252e%252e/x"] {
        assert!(judge(rules(), uri).0.answer.is_some(), "{uri}");
    }
}

#[test]
fn a_redirect_stays_where_it_was_meant_to_go() {
    let check = |path: &str, to: &str, uri: &str, expected: &str| {
        let (judgement, _) = judge(vec![rule("r", path, redirect(to))], uri);
        let answer = judgement.answer.unwrap();
        assert_eq!(answer.headers()[header::LOCATION], expected, "{uri}");
    };
    check("/old/*", "/{*}", "/old/a/b", "/a/b");
    check("/old/*", "/{*}{query}", "/old/?x=1", "/?x=1");
    check("/old/*", "/{*}", "/old//evil.test/x", "/evil.test/x");
    check("/*", "{path}", "//evil.test/x", "/evil.test/x");
    check("/{a}", "https://b.test/{a}", "/x%0d%0ay", "https://b.test/x%0d%0ay");
    check("/*", "{scheme}://b.test{path}", "/x", "http://b.test/x");
}

#[test]
fn what_would_be_no_path_of_ours_goes_to_no_server() {
    let status = |uri: &str| {
        let (judgement, _) = judge(vec![rewriting("/api/*", "/{*}")], uri);
        judgement.answer.map(|answer| answer.status())
    };
    assert_eq!(status("/api/x"), None);
    assert_eq!(status("/api//x"), Some(StatusCode::BAD_REQUEST));
    assert_eq!(status("/api/a//x"), Some(StatusCode::BAD_REQUEST));
    assert_eq!(status("/api/..%2fx"), Some(StatusCode::BAD_REQUEST));
}
