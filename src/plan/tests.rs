//! Whatever a file says, the answer is a plan or a report: no panic, no secret, no silence.

use std::fs;
use std::path::Path;

use super::*;
use crate::config::diagnostic::Paint;
use crate::config::{schema, starting, tree};

fn plan(text: &str, lookup: Lookup<'_>) -> Result<(Plan, Report), Report> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    Plan::from_source(&Source { name: "test.toml", text, dir, environment: lookup })
}

/// All that is said about a text, in each of its forms.
fn said(text: &str, lookup: Lookup<'_>) -> String {
    let report = match plan(text, lookup) {
        Ok((_, warnings)) => {
            assert_eq!(warnings.count(Severity::Error), 0);
            warnings
        }
        Err(report) => {
            assert!(report.count(Severity::Error) > 0, "refused without a reason:\n{text}");
            report
        }
    };
    let records: Vec<_> = report.records().collect();
    for record in &records {
        let lines = text.split('\n').count();
        assert!(record.line.is_none_or(|line| (1..=lines).contains(&line)), "{record:?}\n{text}");
    }
    let records = serde_json::to_string(&records).unwrap();
    format!("{}{}{records}", report.render(Paint::Plain), report.render(Paint::Colour))
}

/// The starting file and every case of the tests, right and wrong.
fn texts() -> Vec<String> {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config");
    let files = fs::read_dir(cases).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|it| it == "toml")).collect();
    files.sort();
    let mut texts = vec![starting::text(schema::Schema::of_config())];
    texts.extend(files.iter().map(|path| fs::read_to_string(path).unwrap()));
    texts
}

const NOTHING: Lookup<'static> = &|_| None;

#[test]
fn more_routes_or_rules_than_records_can_number_are_refused() {
    let text = |rules: usize, routes: usize| {
        let rules = "[[rule]]\nthen.deny = 403\n".repeat(rules);
        let routes = "[[route]]\nrespond.status = 200\n".repeat(routes);
        format!("[[listen]]\nname = 'a'\nbind = '127.0.0.1:0'\n{rules}{routes}")
    };
    for (kind, text) in [("rule", text(65_536, 1)), ("route", text(1, 65_536))] {
        let report = plan(&text, NOTHING).expect_err("it cannot be run").render(Paint::Plain);
        let message = format!("65536 tables of `[[{kind}]]` are too many");
        assert!(report.contains(&message) && report.contains("at most 65535"), "{report}");
    }
}

#[test]
fn a_plan_resolves_names_and_defaults() {
    let text = r#"
        workers = 3
        [[listen]]
        name = "a"
        bind = "127.0.0.1:0"
        [[listen]]
        name = "b"
        bind = ["127.0.0.1:0", "[::1]:0"]
        [[route]]
        listen = "b"
        host = "example.com"
        backend = "second"
        [[route]]
        path = "/x"
        respond = { status = 404 }
        [[route]]
        path = "/x"
        websocket = true
        listen = ["b", "a"]
        respond = { status = 404 }
        [[backend]]
        name = "first"
        server = [{ name = "s", address = "10.0.0.2:80" }]
        [[backend]]
        name = "second"
        server = [{ name = "s", address = "10.0.0.2:80" }]
        [timeout]
        connect = "1s"
    "#;
    let (plan, _) = plan(text, NOTHING).unwrap();
    assert_eq!(plan.workers.get(), 3);
    assert_eq!(plan.listeners[1].bind.len(), 2);
    let names: Vec<&str> = plan.routes.iter().map(|route| route.name.as_str()).collect();
    assert_eq!(names, ["example.com/*", "/x", "/x#2"]);
    assert!(matches!(plan.routes[0].target, TargetPlan::Backend(1)));
    assert_eq!(plan.routes[0].matcher.condition.listeners, Some(vec![1]));
    assert_eq!(plan.routes[2].matcher.condition.listeners, Some(vec![1, 0]));
    assert_eq!(plan.routes[1].matcher.condition.listeners, None);
    assert_eq!(plan.timeouts.connect, Period::from_secs(1));
    assert_eq!(plan.drain_deadline, Period::from_secs(30));
    assert!(plan.hub.is_none() && plan.admin.is_none());
}

#[test]
fn a_value_of_the_environment_is_a_number_where_one_is_needed() {
    let text = "workers = '${N}'\n[[listen]]\nname = '${A}'\nbind = '${B}:${N}'\n";
    let lookup = |name: &str| match name {
        "N" => Some("7".to_owned()),
        "A" => Some("public".to_owned()),
        _ => Some("127.0.0.1".to_owned()),
    };
    let (plan, _) = plan(text, &lookup).unwrap();
    assert_eq!(plan.workers.get(), 7);
    assert_eq!(plan.listeners[0].name, "public");
    assert_eq!(plan.listeners[0].bind[0].tcp().unwrap().port(), 7);
}

#[test]
fn every_beginning_of_a_text_is_refused_or_planned() {
    for text in texts().iter().skip(1) {
        for end in (0..text.len()).filter(|&end| text.is_char_boundary(end)).step_by(3) {
            said(&text[..end], NOTHING);
        }
    }
}

#[test]
fn arbitrary_changes_of_a_text_are_refused_or_planned() {
    let texts = texts();
    // Run with another seed to look further: SEED=7 cargo test arbitrary_changes
    let seed = std::env::var("SEED").ok().and_then(|it| it.parse().ok()).unwrap_or(1);
    let mut random = fastrand::Rng::with_seed(seed);
    for round in 0..4000 {
        let mut text = random.choice(&texts).unwrap().clone();
        for _ in 0..random.usize(1..5) {
            change(&mut text, &texts, &mut random);
        }
        let outcome = std::panic::catch_unwind(|| said(&text, &|_| Some("x".into())));
        assert!(outcome.is_ok(), "seed {seed}, round {round}:\n{text}");
    }
}

/// Cuts a piece out, doubles a line, puts something in, or changes a value.
fn change(text: &mut String, texts: &[String], random: &mut fastrand::Rng) {
    let at =
        |text: &str, random: &mut fastrand::Rng| tree::boundary(text, random.usize(0..=text.len()));
    let from = at(text, random);
    match random.u8(0..5) {
        0 => {
            let to = tree::boundary(text, from + random.usize(0..20));
            text.replace_range(from..to, "");
        }
        1 => {
            let other = random.choice(texts).unwrap();
            let line = random.choice(other.lines().collect::<Vec<_>>()).unwrap_or_default();
            let start = text[..from].rfind('\n').map_or(0, |newline| newline + 1);
            text.insert_str(start, &format!("{line}\n"));
        }
        2 => text.insert_str(from, random.choice(PIECES).unwrap()),
        3 => {
            let Some(equals) = text[from..].find("= ").map(|offset| from + offset + 2) else {
                return;
            };
            let end = text[equals..].find('\n').map_or(text.len(), |offset| equals + offset);
            text.replace_range(equals..end, random.choice(VALUES).unwrap());
        }
        _ => {
            let lines: Vec<&str> = text.lines().collect();
            let mut lines = lines.clone();
            random.shuffle(&mut lines);
            *text = lines.join("\n");
        }
    }
}

const PIECES: &[&str] = &[
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "=",
    "\"",
    "'",
    "\"\"\"",
    "#",
    ",",
    ".",
    "\n",
    "\r",
    "\r\n",
    "\t",
    "\0",
    "\u{feff}",
    "é",
    "\u{202e}",
    "日本",
    "${A}",
    "${",
    "$$",
    "\\u001b",
    "\\",
    "1e999",
    "0x",
    "-",
    "[hub]\n",
    "[[route]]\n",
    "[[backend.server]]\n",
    "hub.broker.x = 1\n",
    "\u{1f469}\u{200d}",
];

const VALUES: &[&str] = &[
    "0",
    "-1",
    "1.5",
    "nan",
    "true",
    "\"\"",
    "\"x\"",
    "[]",
    "[[]]",
    "[1, \"a\"]",
    "{}",
    "{ a = 1 }",
    "1979-05-27",
    "99999999999999999999999999999999999999999",
    "0xffffffff",
    "'''\nx\n'''",
    "\"${A}\"",
    "\"\\u0000\"",
    "[{ name = \"a\" }]",
    "9223372036854775807",
];

/// Every value of every text is read from the environment, alone and all together.
#[test]
fn what_the_environment_says_is_never_shown() {
    // All have `2717` in them, which nothing else has.
    let secrets = [
        "s2717",
        "s2717:99999",
        "redis://s2717:s2717@h:s2717",
        "/s2717/{s2717}",
        "{s2717}",
        "s2717 \u{1}",
        "${s2717}",
        "https://s2717/{s2717",
        "s2717\u{7f}\n",
        "2717",
        "-2717",
        "271727172717",
        "2717s",
        "2717KiB",
        "27.17.27.17:2717",
    ];
    for text in texts() {
        let spans = scalar_spans(&text);
        let all = spans.iter().rev().fold(text.clone(), |text, span| {
            [&text[..span.start], "\"${S}\"", &text[span.end..]].concat()
        });
        let with =
            |span: &tree::Span, value| [&text[..span.start], value, &text[span.end..]].concat();
        let whole = spans.iter().map(|span| with(span, "\"${S}\"")).chain([all]);
        let part = spans.iter().map(|span| with(span, "\"a${S}\""));
        let whole = whole.map(|text| (text, &secrets[..]));
        for (text, secrets) in whole.chain(part.map(|text| (text, &secrets[..3]))) {
            for secret in secrets {
                let said = said(&text, &|name| (name == "S").then(|| (*secret).to_owned()));
                assert!(!said.contains("2717"), "{said}\n{text}");
            }
        }
    }
}

fn scalar_spans(text: &str) -> Vec<tree::Span> {
    let mut spans = Vec::new();
    let (mut tree, errors) = Node::parse(text);
    tree.for_each_scalar(&mut |node| spans.push(node.span.clone()));
    spans.sort_by_key(|span| span.start);
    // What is made of a broken text may overlap.
    if errors.is_empty() { spans } else { Vec::new() }
}

#[test]
fn a_password_is_not_in_the_summary() {
    let text =
        "[hub]\nbroker = 'redis://u:hunter2@h:1'\n[[listen]]\nname = 'a'\nbind = '0.0.0.0:0'\n";
    let (plan, _) = plan(text, NOTHING).unwrap();
    let summary = plan.to_string();
    assert!(summary.contains("redis://u:***@h:1") && !summary.contains("hunter2"), "{summary}");
}
