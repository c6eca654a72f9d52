//! Rules of each kind, which ask for what no other input has: the rest of the edge is met as it was.

use bytes::Bytes;
use http::header::HeaderName;
use http::{Method, StatusCode};

use crate::host::HostPattern;
use crate::path::PathPattern;
use crate::rules::changes::{Changes, HeaderEdits};
use crate::rules::condition::{Condition, HeaderMatcher, NameMatcher};
use crate::rules::template::Template;
use crate::rules::text_pattern::TextPattern;
use crate::rules::{Decision, Deny, Redirect, Rule, Rules};

/// Below `/r/`, but for the last, which changes what everybody gets.
pub fn rules() -> Rules {
    let deny = Decision::Deny(Deny {
        status: StatusCode::FORBIDDEN,
        body: Some(Bytes::from_static(b"no\n")),
    });
    let redirect =
        |to| Decision::Redirect(Redirect { status: StatusCode::FOUND, to: template(to) });
    Rules(vec![
        Rule { changes: telling("{*}"), ..deciding("denied", below("/r/denied/*"), deny.clone()) },
        deciding("by what is asked", asking(), deny),
        deciding("here", below("/r/here/{room}/*"), redirect("{path}{query}#{room}")),
        deciding("there", below("/r/there/*"), redirect("https://{host}/{*}{query}")),
        changing("written anew", below("/r/new/{room}/*"), rewriting("/{room}/{*}")),
        changing("labelled", below("/r/*"), labelling()),
        deciding("led", below("/r/led/*"), Decision::Route(LAST)),
        deciding("asked", below("/key/led"), Decision::Route(FIRST)),
        changing("told", Condition::default(), telling("{scheme} {path}{query}")),
    ])
}

fn deciding(name: &str, when: Condition, decision: Decision) -> Rule {
    let is_guard = matches!(decision, Decision::Deny(_) | Decision::Route(FIRST));
    let name = name.to_owned();
    Rule { name, when, changes: Changes::default(), decision: Some(decision), is_guard }
}

fn changing(name: &str, when: Condition, changes: Changes) -> Rule {
    Rule { name: name.to_owned(), when, changes, decision: None, is_guard: false }
}

fn below(path: &str) -> Condition {
    Condition { paths: vec![pattern(path)], ..Condition::default() }
}

/// One that asks for everything but the path, in one way or another.
fn asking() -> Condition {
    let of_name = |name: &str| NameMatcher { name: name.into(), any_of: vec![text("*1*")] };
    let header = HeaderMatcher { name: HeaderName::from_static("x-a"), any_of: vec![text("1")] };
    let post = Condition { methods: vec![Method::POST], ..Condition::default() };
    let handshake =
        Condition { websocket: Some(true), subprotocols: vec![text("b*")], ..Condition::default() };
    let with = Condition { query: vec![of_name("a")], ..Condition::default() };
    let cookie = Condition { cookies: vec![of_name("a")], ..Condition::default() };
    let host = Condition { hosts: vec![host("*.b.test")], ..Condition::default() };
    Condition {
        any: vec![handshake, with, cookie, host],
        all: vec![below("/r/*"), Condition { headers: vec![header], ..Condition::default() }],
        not: Some(Box::new(post)),
        ..Condition::default()
    }
}

fn rewriting(to: &str) -> Changes {
    Changes { rewrite: Some(template(to)), ..Changes::default() }
}

fn labelling() -> Changes {
    let name = HeaderName::from_static;
    let request = HeaderEdits {
        remove: vec![name("x-b")],
        set: vec![(name("x-label"), template("{client.address} {method} {path}{query} {host}"))],
        add: vec![(name("x-label"), template("{*}"))],
    };
    Changes { request, ..Changes::default() }
}

fn telling(path: &str) -> Changes {
    let name = HeaderName::from_static;
    let response = HeaderEdits {
        remove: vec![name("server")],
        set: vec![(name("x-path"), template(path))],
        add: vec![(name("vary"), template("x-a"))],
    };
    Changes { response, ..Changes::default() }
}

fn pattern(text: &str) -> PathPattern {
    text.parse().expect("it is a pattern")
}

fn text(text: &str) -> TextPattern {
    text.parse().expect("it is a pattern")
}

fn host(text: &str) -> HostPattern {
    text.parse().expect("it is a pattern")
}

fn template(text: &str) -> Template {
    Template::parse(text).expect("it is a template")
}

/// The route that asks who the client is, and the one that takes all the others.
const FIRST: usize = 0;
const LAST: usize = 9;
