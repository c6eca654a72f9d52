//! What the edge reads of requests, one piece at a time, against readings that are written for
//! plainness.

use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Request, Uri};
use tidewire_auth::secret::Secret;

use crate::cors::{Cors, Ruled};
use crate::hygiene;
use crate::origin::{OriginConfig, Transport, Verdict};
use crate::path::{self, PathPattern};
use crate::server::{Server, ServerConfig};
use crate::stick::cookie::{InsertConfig, Inserted, Prefixed};
use crate::stick::token::Signer;

/// Whoever is asked who they are at `/admin/*` does not get past it by a spelling that some server
/// takes for the same path; and what is normalised once stays so.
pub fn paths(input: &[u8]) {
    let Ok(Ok(uri)) = std::str::from_utf8(input).map(str::parse::<Uri>) else { return };
    let request = Request::get(uri).header(header::HOST, "a.test").body(());
    let Ok(parts) = request.map(|request| request.into_parts().0) else { return };
    if hygiene::check(&parts).is_err() {
        return;
    }
    let path = parts.uri.path();
    let lenient = path::lenient(path);
    for lenient in &lenient {
        assert!(lenient.starts_with('/') && !lenient.contains(['\\', ';']), "{lenient:?}");
        // The last one may be empty.
        let inner = lenient[1..].rsplit('/').skip(1);
        assert!(!inner.into_iter().any(|it| ["", ".", ".."].contains(&it)), "{lenient:?}");
    }
    let pattern: PathPattern = "/admin/*".parse().expect("it is a pattern");
    let is_asked = pattern.captures(path).is_some()
        || lenient.iter().any(|lenient| pattern.captures_decoded(lenient).is_some());
    for reading in readings(path) {
        assert!(is_asked || !reading.starts_with("/admin/"), "{path:?} is read as {reading:?}");
    }
    for (name, value) in pattern_of_two().captures(path).unwrap_or_default() {
        assert!(["a", "b"].contains(&name.as_str()) && !value.is_empty());
    }
}

/// The path as servers read it: as it is, decoded, and decoded with what is done to it before or
/// after.
fn readings(path: &str) -> Vec<String> {
    let cut = |path: &str| {
        let kept: Vec<_> = path.split('/').map(|it| it.split(';').next().unwrap_or("")).collect();
        kept.join("/")
    };
    let merge = |path: &str| {
        let mut merged = path.replace('\\', "/");
        while merged.contains("//") {
            merged = merged.replace("//", "/");
        }
        merged
    };
    let decode = |path: &str| path::decode(path).unwrap_or_else(|| path.to_owned());
    let (plain, decoded) = (path.to_owned(), decode(path));
    let parameters_first = decode(&cut(path));
    let parameters_last = cut(&decoded);
    let mut readings = vec![plain, decoded, parameters_first, parameters_last];
    readings.extend(readings.clone().iter().map(|reading| merge(reading)));
    readings
}

fn pattern_of_two() -> PathPattern {
    "/{a}/x/{b}".parse().expect("it is a pattern")
}

/// A page is taken for one of the site, or for one that is listed, only when a browser would write
/// its origin so; and what CORS says of it is about nobody else.
///
/// A line for the `Host`, one for the method, the rest are headers of the request.
pub fn origins(input: &[u8]) {
    let mut lines = input.splitn(3, |&byte| byte == b'\n');
    let (Some(host), Some(method), Some(rest)) = (lines.next(), lines.next(), lines.next()) else {
        return;
    };
    let Ok(host) = HeaderValue::from_bytes(host) else { return };
    let Ok(method) = http::Method::from_bytes(method) else { return };
    let mut parts = Request::new(()).into_parts().0;
    (parts.method, parts.headers) = (method, headers(rest));
    parts.headers.insert(header::HOST, host.clone());
    if hygiene::check(&parts).is_err() {
        return;
    }
    let host = host.to_str().ok();
    let (config, cors) = site();
    for transport in [Transport::Plain, Transport::Tls] {
        let verdict = config.judge(&parts.headers, host, transport);
        check_verdict(verdict, &parts, host, transport);
        check_cors(cors.rule(&parts, verdict, &config), verdict, &parts);
    }
}

fn check_verdict(verdict: Verdict, parts: &Parts, host: Option<&str>, transport: Transport) {
    let mut origins = parts.headers.get_all(header::ORIGIN).iter();
    let (origin, second) = (origins.next(), origins.next());
    let origin = origin.and_then(|origin| origin.to_str().ok()).map(str::to_ascii_lowercase);
    match verdict {
        Verdict::Absent => assert_eq!(origin, None),
        Verdict::Refused(_) => {}
        Verdict::Same | Verdict::Allowed => {
            assert!(second.is_none(), "two origins are refused");
            let origin = origin.expect("what is taken is text");
            let is_plain =
                |c: char| c.is_ascii_alphanumeric() || "-._:/[]~!$&'()*+,;=%".contains(c);
            assert!(origin.chars().all(is_plain), "{origin:?}");
            let (scheme, site) = origin.split_once("://").expect("it has a scheme");
            let is_tls = transport == Transport::Tls;
            if verdict == Verdict::Same {
                assert!(scheme == "https" || scheme == "http" && !is_tls, "{origin:?}");
                let name = |text: &str| text.rsplit_once(':').map_or(text, |it| it.0).to_owned();
                let host = host.expect("it is the same as something").to_ascii_lowercase();
                // An IPv6 address has more than one spelling.
                assert!(
                    site.starts_with('[') || name(site) == name(&host),
                    "{origin:?} of {host:?}"
                );
            } else {
                assert!(scheme == "https" && site.ends_with(".app.test"), "{origin:?}");
                assert!(!site.starts_with('.') && !site.contains(['/', ':']), "{origin:?}");
            }
        }
    }
}

fn check_cors(ruled: Ruled, verdict: Verdict, parts: &Parts) {
    let said = match ruled {
        Ruled::Answered(response) => response.headers().clone(),
        Ruled::GoesOn(marks) => {
            let mut said = HeaderMap::new();
            said.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            said.insert("access-control-allow-what", HeaderValue::from_static("x"));
            marks.write(&mut said);
            said
        }
    };
    assert!(!said.contains_key("access-control-allow-what"), "a server has no say in it");
    assert!(said.contains_key(header::VARY));
    let allowed = said.get(header::ACCESS_CONTROL_ALLOW_ORIGIN);
    match verdict {
        Verdict::Allowed => {
            assert!(allowed.is_none() || allowed == parts.headers.get(header::ORIGIN));
        }
        _ => assert_eq!(allowed, None, "{verdict:?}"),
    }
}

fn site() -> (OriginConfig, Cors) {
    let allow = vec!["https://*.app.test".parse().expect("it is a site")];
    let config = OriginConfig { allow, ..OriginConfig::default() };
    let cors =
        serde_json::json!({ "credentials": true, "headers": ["*"], "private_network": true });
    let cors = serde_json::from_value(cors).expect("the configuration is good");
    (config, Cors::new(&cors).expect("the configuration is good"))
}

/// What stands for a server in cookies is taken out of requests, whoever sent it, and nothing else
/// is; only the right one leads to the server; and what an application sets it gets back.
///
/// The first line is a cookie that the application sets, the others are those of a request.
pub fn stick(input: &[u8]) {
    let mut lines = input.split(|&byte| byte == b'\n').take(20).map(HeaderValue::from_bytes);
    let set = lines.next().and_then(Result::ok);
    let sent: HeaderMap = lines.filter_map(|line| Some((header::COOKIE, line.ok()?))).collect();
    let config = serde_json::json!({ "name": "a", "address": "127.0.0.1:1" });
    let config: ServerConfig = serde_json::from_value(config).expect("it is a server");
    let server = Server::new(&config, Duration::ZERO).id;
    let token = Signer::new(Some(&Secret::new(b"0123456789abcdef"))).token("nodes", "a");
    let mark = token.as_str().as_bytes();
    let server_of = |shown: &[u8]| token.is(shown).then_some(server);

    let mut left = sent.clone();
    let found = Inserted::new(&InsertConfig::default()).take_out(&mut left, server_of);
    let (ours, others): (Vec<_>, _) =
        pairs(&sent).into_iter().partition(|(name, _)| name == b"tidewire");
    assert_eq!(found.is_some(), ours.iter().any(|(_, value)| value == mark));
    assert_eq!(pairs(&left), others);

    let prefixed = Prefixed::new("SID");
    let unmarked = |value: &[u8]| -> Option<Vec<u8>> {
        let is_mark = |text: &[u8]| {
            text.iter().all(|&byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        let (_, rest) = value.split_at_checked(mark.len()).filter(|it| is_mark(it.0))?;
        Some(trim(rest.strip_prefix(b"~")?).to_vec())
    };
    let is_right = |(name, value): &Pair| {
        name == b"SID" && value.starts_with(mark) && value.get(mark.len()) == Some(&b'~')
    };
    let mut left = sent.clone();
    let found = prefixed.take_off(&mut left, server_of);
    assert_eq!(found.is_some(), pairs(&sent).iter().any(is_right));
    let without = |(name, value): Pair| {
        let bare = if name == b"SID" { unmarked(&value) } else { None };
        (name, bare.unwrap_or(value))
    };
    assert_eq!(pairs(&left), pairs(&sent).into_iter().map(without).collect::<Vec<_>>());

    let Some(set) = set else { return };
    let mut answer = HeaderMap::new();
    answer.insert(header::SET_COOKIE, set.clone());
    prefixed.put_on(&mut answer, &token);
    let given = answer.remove(header::SET_COOKIE).expect("no cookie is lost");
    if given == set {
        return;
    }
    let mut back = sent_back(&given);
    assert_eq!(prefixed.take_off(&mut back, server_of), Some(server), "{given:?}");
    assert_eq!(pairs(&back), pairs(&sent_back(&set)), "{set:?}");
}

/// What a client sends of a cookie that was set.
fn sent_back(set: &HeaderValue) -> HeaderMap {
    let pair = set.as_bytes().split(|&byte| byte == b';').next().unwrap_or_default();
    let line = HeaderValue::from_bytes(trim(pair)).expect("it is a part of a value");
    HeaderMap::from_iter([(header::COOKIE, line)])
}

/// Name and value of a cookie.
type Pair = (Vec<u8>, Vec<u8>);

/// The cookies of a request, in their order; a `=` with nothing around it says nothing.
fn pairs(headers: &HeaderMap) -> Vec<Pair> {
    let lines = headers.get_all(header::COOKIE).iter();
    let pieces = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b';'));
    let pair = |piece: &[u8]| match piece.iter().position(|&byte| byte == b'=') {
        Some(at) => (trim_vec(&piece[..at]), trim_vec(&piece[at + 1..])),
        None => (Vec::new(), trim_vec(piece)),
    };
    pieces.map(pair).filter(|(name, value)| !name.is_empty() || !value.is_empty()).collect()
}

fn trim_vec(text: &[u8]) -> Vec<u8> {
    trim(text).to_vec()
}

fn trim(text: &[u8]) -> &[u8] {
    text.trim_ascii()
}

/// Lines of `name: value`; what is not one is passed over.
fn headers(lines: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines.split(|&byte| byte == b'\n').take(100) {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        let name = header::HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii_start());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}
