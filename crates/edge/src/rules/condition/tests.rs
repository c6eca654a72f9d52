//! The conditions, one by one, and all of them against an evaluator that is written to be obvious.

use fastrand::Rng;
use http::HeaderMap;

use super::*;
use crate::network::Network;
use crate::path::lenient;

/// A request that can be asked about.
#[derive(Clone, Debug)]
struct Sample {
    listener: usize,
    client: IpAddr,
    is_tls: bool,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    offer: Option<Offer>,
}

impl Sample {
    fn get(uri: &str) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, "a.test".parse().unwrap());
        Self {
            listener: 0,
            client: "192.0.2.1".parse().unwrap(),
            is_tls: false,
            method: Method::GET,
            uri: uri.parse().unwrap(),
            headers,
            offer: None,
        }
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.append(name, value.parse().unwrap());
        self
    }

    fn offering(mut self, subprotocols: &[&str]) -> Self {
        let subprotocols = subprotocols.iter().map(|it| it.parse().unwrap()).collect();
        self.offer =
            Some(Offer { key: *b"dGhlIHNhbXBsZSBub25jZQ==", subprotocols, extensions: Vec::new() });
        self
    }

    fn asked(&self) -> Asked<'_> {
        Asked {
            listener: self.listener,
            client: self.client,
            is_tls: self.is_tls,
            method: &self.method,
            uri: &self.uri,
            headers: &self.headers,
            is_websocket: self.offer.is_some(),
            offer: self.offer.as_ref(),
        }
    }

    fn meets(&self, condition: &Condition) -> bool {
        condition.holds(&self.asked(), Reading::Written(self.uri.path()))
    }
}

fn patterns(written: &[&str]) -> Vec<TextPattern> {
    written.iter().map(|it| it.parse().unwrap()).collect()
}

fn named(name: &str, any_of: &[&str]) -> NameMatcher {
    NameMatcher { name: name.into(), any_of: patterns(any_of) }
}

#[test]
fn any_of_the_offered_subprotocols_matches() {
    let mqtt = Condition { subprotocols: patterns(&["mqtt", "graphql-*"]), ..<_>::default() };
    let check = |offered: &[&str], expected| {
        assert_eq!(Sample::get("/").offering(offered).meets(&mqtt), expected, "{offered:?}");
    };
    check(&["mqtt"], true);
    check(&["chat", "graphql-transport-ws"], true);
    check(&["MQTT"], false);
    check(&["chat"], false);
    check(&[], false);
    // Without a handshake nothing is offered, whatever a header says.
    assert!(!Sample::get("/").with("sec-websocket-protocol", "mqtt").meets(&mqtt));
}

#[test]
fn each_of_repeated_values_counts() {
    let header = |value: &str| HeaderMatcher {
        name: HeaderName::from_static("x-a"),
        any_of: patterns(&[value]),
    };
    let condition = |value| Condition { headers: vec![header(value)], ..<_>::default() };
    let twice = Sample::get("/").with("x-a", "1").with("x-a", "2");
    assert!(twice.meets(&condition("1")) && twice.meets(&condition("2")));
    assert!(!twice.meets(&condition("3")) && !Sample::get("/").meets(&condition("*")));
    let both = Condition { headers: vec![header("1"), header("2")], ..<_>::default() };
    assert!(twice.meets(&both));
}

#[test]
fn parameters_and_cookies_are_found_however_they_are_written() {
    let query = Condition { query: vec![named("room", &["a b", "x*"])], ..<_>::default() };
    for (uri, expected) in [
        ("/?room=a%20b", true),
        ("/?%72oom=%61%20b", true),
        ("/?a=1&room=1&room=xy", true),
        ("/?room=x%zz", true),
        ("/?room=a+b", true),
        ("/?Room=x", false),
        ("/?rooms=x", false),
        ("/?room", false),
        ("/", false),
    ] {
        assert_eq!(Sample::get(uri).meets(&query), expected, "{uri}");
    }
    let cookie = Condition { cookies: vec![named("canary", &["*"])], ..<_>::default() };
    for (line, expected) in
        [("canary=1", true), ("a=b; canary=", true), ("a=canary", false), ("Canary=1", false)]
    {
        assert_eq!(Sample::get("/").with("cookie", line).meets(&cookie), expected, "{line}");
    }
    assert!(Sample::get("/").with("cookie", "a=1").with("cookie", "canary=2").meets(&cookie));
}

#[test]
fn a_host_is_the_same_however_it_is_written() {
    let condition = Condition { hosts: vec!["www.example.com".parse().unwrap()], ..<_>::default() };
    let check = |host: &str, expected| {
        let mut sample = Sample::get("/");
        sample.headers.insert(header::HOST, host.parse().unwrap());
        assert_eq!(sample.meets(&condition), expected, "{host}");
    };
    check("www.example.com", true);
    check("WWW.Example.COM:80", true);
    check("www.example.com:8443", true);
    check("www.example.com.", true);
    check("www.example.com.evil.test", false);
    check("example.com", false);
    let absolute = |uri: &str| Sample::get(uri).meets(&condition);
    assert!(absolute("http://www.example.com/x") && !absolute("http://a.test/x"));
}

/// A condition made at random, out of few words, so that it holds about as often as not.
fn condition(random: &mut Rng, depth: u32) -> Condition {
    let mut made = Condition::default();
    for _ in 0..random.usize(0..3) {
        match random.u8(0..if depth == 0 { 11 } else { 14 }) {
            0 => made.listeners = Some(some(random, &[0, 1])),
            1 => made.hosts = some(random, HOSTS).iter().map(|it| it.parse().unwrap()).collect(),
            2 => made.paths = some(random, PATHS).iter().map(|it| it.parse().unwrap()).collect(),
            3 => made.methods = some(random, &[Method::GET, Method::POST]),
            4 => {
                let name = HeaderName::from_static(random.choice(["x-a", "x-b"]).unwrap());
                made.headers.push(HeaderMatcher { name, any_of: texts(random) });
            }
            5 => made.query.push(name_matcher(random)),
            6 => made.cookies.push(name_matcher(random)),
            7 => {
                let networks = some(random, NETWORKS);
                let networks = networks.iter().map(|it| it.parse::<Network>().unwrap());
                made.addresses = Some(networks.collect());
            }
            8 => made.tls = Some(random.bool()),
            9 => made.websocket = Some(random.bool()),
            10 => made.subprotocols = texts(random),
            11 => made.any = conditions(random, depth),
            12 => made.all = conditions(random, depth),
            _ => made.not = Some(Box::new(condition(random, depth - 1))),
        }
    }
    made
}

fn conditions(random: &mut Rng, depth: u32) -> Vec<Condition> {
    (0..random.usize(1..4)).map(|_| condition(random, depth - 1)).collect()
}

fn name_matcher(random: &mut Rng) -> NameMatcher {
    NameMatcher { name: random.choice(["a", "b"]).unwrap().into(), any_of: texts(random) }
}

fn texts(random: &mut Rng) -> Vec<TextPattern> {
    patterns(&some(random, TEXTS))
}

fn some<T: Clone>(random: &mut Rng, of: &[T]) -> Vec<T> {
    (0..random.usize(1..3)).map(|_| random.choice(of).unwrap().clone()).collect()
}

const HOSTS: &[&str] = &["a.test", "*.test", "b.a.test"];
const PATHS: &[&str] = &["/", "/*", "/a", "/a/*", "/{x}", "/{x}/b", "/a/{x}", "/%61/b"];
const NETWORKS: &[&str] = &["192.0.2.0/24", "10.0.0.0/8", "::1", "192.0.2.1"];
const TEXTS: &[&str] = &["1", "12", "1*", "*2", "*1*", "*", ""];
const VALUES: &[&str] = &["1", "12", "21", "2", "", "112"];

fn sample(random: &mut Rng) -> Sample {
    let uris = ["/", "/a", "/a/b", "/b", "/%61/b", "//a", "/a;x/b", "/a%2fb", "/a/", "/%ff/b"];
    let parameter = |random: &mut Rng| {
        format!("{}={}", random.choice(["a", "b", "%61"]).unwrap(), random.choice(VALUES).unwrap())
    };
    let query: Vec<String> = (0..random.usize(0..3)).map(|_| parameter(random)).collect();
    let uri = format!("{}?{}", random.choice(uris).unwrap(), query.join("&"));
    let mut made = Sample::get(&uri);
    let host = random.choice(["a.test", "A.TEST:80", "b.a.test.", "c.org"]).unwrap();
    made.headers.insert(header::HOST, host.parse().unwrap());
    for _ in 0..random.usize(0..4) {
        let value = *random.choice(VALUES).unwrap();
        made = match random.u8(0..3) {
            0 => made.with("x-a", value),
            1 => made.with("x-b", value),
            _ => made.with("cookie", &format!("a={value}; b=2")),
        };
    }
    if random.bool() {
        made = made.offering(&some(random, &["1", "12", "2"]));
    }
    made.listener = random.usize(0..3);
    made.is_tls = random.bool();
    let client = random.choice(["192.0.2.1", "192.0.2.9", "::ffff:10.0.0.1", "::1"]).unwrap();
    made.client = client.parse().unwrap();
    made.method = random.choice([Method::GET, Method::POST, Method::PUT]).unwrap();
    made
}

/// As [`Condition::holds`], word for word from the manual, and as slow as it comes.
fn naive(condition: &Condition, sample: &Sample, path: Reading<'_>) -> bool {
    let mut holds = Vec::new();
    if let Some(listeners) = &condition.listeners {
        holds.push(listeners.contains(&sample.listener));
    }
    if !condition.hosts.is_empty() {
        let host = sample.headers[header::HOST].to_str().unwrap().to_lowercase();
        let host = host.split(':').next().unwrap().trim_end_matches('.').to_owned();
        let is = |pattern: &HostPattern| match pattern.to_string().strip_prefix('*') {
            Some(below) => host.ends_with(below) && host.len() > below.len(),
            None => host == pattern.to_string(),
        };
        holds.push(condition.hosts.iter().any(is));
    }
    if !condition.paths.is_empty() {
        holds.push(condition.paths.iter().any(|it| naive_path(&it.to_string(), path)));
    }
    if !condition.methods.is_empty() {
        holds.push(condition.methods.contains(&sample.method));
    }
    for header in &condition.headers {
        let values = sample.headers.iter().filter(|(name, _)| *name == header.name);
        let values: Vec<String> = values.map(|it| it.1.to_str().unwrap().to_owned()).collect();
        holds.push(naive_texts(&header.any_of, &values));
    }
    for one in &condition.query {
        let query = sample.uri.query().unwrap_or_default().replace("%61", "a");
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let values: Vec<String> =
            pairs.filter(|it| *it.0 == *one.name).map(|it| it.1.to_owned()).collect();
        holds.push(naive_texts(&one.any_of, &values));
    }
    for one in &condition.cookies {
        let lines: Vec<&str> =
            sample.headers.get_all(header::COOKIE).iter().map(|it| it.to_str().unwrap()).collect();
        let all = lines.join("; ");
        let pairs = all.split("; ").filter_map(|pair| pair.split_once('='));
        let values: Vec<String> =
            pairs.filter(|it| *it.0 == *one.name).map(|it| it.1.to_owned()).collect();
        holds.push(naive_texts(&one.any_of, &values));
    }
    if let Some(addresses) = &condition.addresses {
        let found = NETWORKS.iter().any(|text| {
            let one: NetworkSet = [text.parse::<Network>().unwrap()].into_iter().collect();
            // A network is in the set if the whole of it is: the words do not overlap otherwise.
            let first: IpAddr = text.split('/').next().unwrap().parse().unwrap();
            one.contains(sample.client) && (addresses.contains(first) || *addresses == one)
        });
        holds.push(found);
    }
    if let Some(tls) = condition.tls {
        holds.push(tls == sample.is_tls);
    }
    if let Some(websocket) = condition.websocket {
        holds.push(websocket == sample.offer.is_some());
    }
    if !condition.subprotocols.is_empty() {
        let offered = sample.offer.iter().flat_map(|offer| &offer.subprotocols);
        let offered: Vec<String> = offered.map(|it| it.to_str().unwrap().to_owned()).collect();
        holds.push(naive_texts(&condition.subprotocols, &offered));
    }
    if !condition.any.is_empty() {
        let of: Vec<bool> = condition.any.iter().map(|it| naive(it, sample, path)).collect();
        holds.push(of.contains(&true));
    }
    let of: Vec<bool> = condition.all.iter().map(|it| naive(it, sample, path)).collect();
    holds.push(!of.contains(&false));
    holds.extend(condition.not.iter().map(|it| !naive(it, sample, path)));
    !holds.contains(&false)
}

fn naive_texts(patterns: &[TextPattern], values: &[String]) -> bool {
    let is = |pattern: &TextPattern, value: &String| {
        let written = pattern.to_string();
        match written.as_str() {
            "*" => true,
            "1*" => value.starts_with('1'),
            "*2" => value.ends_with('2'),
            "*1*" => value.contains('1'),
            exact => value == exact,
        }
    };
    values.iter().any(|value| patterns.iter().any(|pattern| is(pattern, value)))
}

fn naive_path(pattern: &str, path: Reading<'_>) -> bool {
    let (is_written, text) = match path {
        Reading::Written(text) => (true, text),
        Reading::Decoded(text) => (false, text),
    };
    let decoded = |segment: &str| match is_written {
        true => crate::path::decode(segment),
        false => Some(segment.to_owned()),
    };
    let segments: Vec<&str> = text.split('/').collect();
    let mut wanted: Vec<&str> = pattern.split('/').collect();
    let is_prefix = wanted.last() == Some(&"*");
    if is_prefix {
        wanted.pop();
    }
    let is_long_enough = match is_prefix {
        true => segments.len() > wanted.len(),
        false => segments.len() == wanted.len(),
    };
    is_long_enough
        && wanted.iter().zip(&segments).all(|(wanted, segment)| match wanted.starts_with('{') {
            true => !segment.is_empty() && decoded(segment).is_some(),
            false => wanted == segment || crate::path::decode(wanted) == decoded(segment),
        })
}

#[test]
fn conditions_hold_when_the_manual_says_so() {
    let seed = std::env::var("SEED").map_or_else(|_| fastrand::u64(..), |it| it.parse().unwrap());
    let mut random = Rng::with_seed(seed);
    let mut held = 0;
    for _ in 0..20_000 {
        let (condition, sample) = (condition(&mut random, 3), sample(&mut random));
        let decoded = lenient(sample.uri.path());
        let written = Reading::Written(sample.uri.path());
        for path in decoded.iter().map(|it| Reading::Decoded(it)).chain([written]) {
            let expected = naive(&condition, &sample, path);
            let holds = condition.holds(&sample.asked(), path);
            assert_eq!(holds, expected, "seed {seed}: {path:?} of {sample:?} in {condition:#?}");
            held += u32::from(holds);
        }
    }
    assert!((2_000..40_000).contains(&held), "{held}: the sample says nothing");
}
