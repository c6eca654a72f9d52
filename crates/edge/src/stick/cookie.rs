//! Cookies that name a server: one of the edge's own, or the beginning of one of the application's.

use std::fmt;

use http::header::{CACHE_CONTROL, COOKIE, HeaderMap, HeaderValue, SET_COOKIE};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidewire_runtime::units::Period;
use tidewire_wire::http::cookies;

use super::token::{TOKEN_BYTES, Token, is_token};
use crate::auth::credentials::take_cookie_out;
use crate::server::ServerId;

/// A cookie that the edge gives to clients. Its value says nothing about the server, and nobody can
/// make one up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct InsertConfig {
    /// Its name.
    pub cookie: String,
    /// The paths that it is sent with.
    pub path: String,
    /// The domain whose hosts it is sent to, all of them. Without it, it is sent to the host that
    /// it came from.
    pub domain: Option<String>,
    /// How long a client keeps it, from its first answer. Without it, until the browser is closed.
    pub max_age: Option<Period>,
    /// Whether it is sent only where TLS is.
    pub secure: Secure,
    /// Whether it is sent with requests that pages of other sites make. A WebSocket that a page of
    /// another site opens sends it with `none` only.
    pub same_site: SameSite,
    /// Whether scripts of a page cannot read it.
    pub http_only: bool,
}

/// A cookie of the application that the edge puts a mark in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrefixConfig {
    /// Its name, such as `JSESSIONID`.
    pub cookie: String,
}

/// When a cookie is `Secure`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Secure {
    /// For clients that have come by TLS.
    #[default]
    Auto,
    /// For all, also where TLS ends before this edge.
    Always,
    /// For none.
    Never,
}

/// What a cookie is sent with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SameSite {
    /// With requests of pages of its own site.
    Strict,
    /// With those, and when a link leads here.
    #[default]
    Lax,
    /// With all. Browsers take such a cookie only if it is `Secure`.
    None,
}

impl Default for InsertConfig {
    fn default() -> Self {
        Self {
            cookie: "tidewire".to_owned(),
            path: "/".to_owned(),
            domain: None,
            max_age: None,
            secure: Secure::Auto,
            same_site: SameSite::Lax,
            http_only: true,
        }
    }
}

impl fmt::Display for SameSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Strict => "Strict",
            Self::Lax => "Lax",
            Self::None => "None",
        })
    }
}

/// The edge's own cookie.
#[derive(Debug)]
pub struct Inserted {
    name: Box<str>,
    /// What stands behind its value.
    attributes: String,
    secure: Secure,
}

impl Inserted {
    pub fn new(config: &InsertConfig) -> Self {
        let mut attributes = format!("; Path={}", config.path);
        if let Some(domain) = &config.domain {
            attributes += &format!("; Domain={domain}");
        }
        if let Some(max_age) = config.max_age {
            attributes += &format!("; Max-Age={}", max_age.0.as_secs());
        }
        if config.http_only {
            attributes += "; HttpOnly";
        }
        attributes += &format!("; SameSite={}", config.same_site);
        Self { name: config.cookie.as_str().into(), attributes, secure: config.secure }
    }

    /// Takes it out of a request: the server that it is of, if it is one of ours.
    pub fn take_out(
        &self,
        headers: &mut HeaderMap,
        server_of: impl Fn(&[u8]) -> Option<ServerId>,
    ) -> Option<ServerId> {
        let lines = headers.get_all(COOKIE).iter();
        let pairs = lines.flat_map(|line| cookies::pairs(line.as_bytes()));
        let mut named = pairs.filter(|(name, _)| *name == self.name.as_bytes()).peekable();
        named.peek()?;
        let server = named.find_map(|(_, value)| server_of(value));
        drop(named);
        take_cookie_out(headers, &self.name);
        server
    }

    /// Puts it into an answer.
    pub fn put_in(&self, headers: &mut HeaderMap, token: &Token, is_tls: bool) {
        let secure = match self.secure {
            Secure::Auto if is_tls => "; Secure",
            Secure::Always => "; Secure",
            Secure::Auto | Secure::Never => "",
        };
        let line = format!("{}={}{}{secure}", self.name, token.as_str(), self.attributes);
        let Ok(line) = HeaderValue::from_str(&line) else { return };
        headers.append(SET_COOKIE, line);
    }

    /// Has an answer with the cookie be for this client alone: no cache may give it to others.
    pub fn keep_private(headers: &mut HeaderMap) {
        let said = |word: &str| {
            let lines = headers.get_all(CACHE_CONTROL).iter().filter_map(|line| line.to_str().ok());
            lines.flat_map(|line| line.split(',')).any(|it| it.trim().eq_ignore_ascii_case(word))
        };
        if !said("private") && !said("no-store") {
            headers.append(CACHE_CONTROL, HeaderValue::from_static("private"));
        }
    }
}

/// A cookie of the application, with a token in front of its value: `JSESSIONID=TOKEN~abc`.
#[derive(Debug)]
pub struct Prefixed {
    name: Box<str>,
}

impl Prefixed {
    pub fn new(name: &str) -> Self {
        Self { name: name.into() }
    }

    /// Takes the mark off in a request, also one of a server that there is no more: what is behind
    /// it is the application's. The server that it is of, if it is one of ours.
    pub fn take_off(
        &self,
        headers: &mut HeaderMap,
        server_of: impl Fn(&[u8]) -> Option<ServerId>,
    ) -> Option<ServerId> {
        let is_ours =
            |pair: &(&[u8], &[u8])| pair.0 == self.name.as_bytes() && split(pair.1).is_some();
        let lines = headers.get_all(COOKIE).iter();
        if !lines.flat_map(|line| cookies::pairs(line.as_bytes())).any(|pair| is_ours(&pair)) {
            return None;
        }
        let mut server = None;
        let lines: Vec<HeaderValue> = headers.get_all(COOKIE).iter().cloned().collect();
        headers.remove(COOKIE);
        for line in lines {
            let mut left = Vec::with_capacity(line.len());
            for (name, value) in cookies::pairs(line.as_bytes()) {
                let marked = split(value).filter(|_| name == self.name.as_bytes());
                let value = marked.map_or(value, |(_, value)| value);
                server = server.or_else(|| server_of(marked?.0));
                if !left.is_empty() {
                    left.extend_from_slice(b"; ");
                }
                // A value without a name keeps its `=` where it would become one with a name.
                if !name.is_empty() || value.contains(&b'=') {
                    left.extend_from_slice(name);
                    left.push(b'=');
                }
                left.extend_from_slice(value);
            }
            headers.extend(HeaderValue::from_bytes(&left).ok().map(|line| (COOKIE, line)));
        }
        server
    }

    /// Puts the mark on wherever an answer sets the cookie. One that is taken away is left alone.
    pub fn put_on(&self, headers: &mut HeaderMap, token: &Token) {
        let lines: Vec<HeaderValue> = headers.get_all(SET_COOKIE).iter().cloned().collect();
        headers.remove(SET_COOKIE);
        for line in lines {
            let marked = self.marked(&line, token).unwrap_or(line);
            headers.append(SET_COOKIE, marked);
        }
    }

    fn marked(&self, line: &HeaderValue, token: &Token) -> Option<HeaderValue> {
        let bytes = line.as_bytes();
        let (name, value) = bytes.split_at(bytes.iter().position(|byte| *byte == b'=')?);
        let value = value[1..].trim_ascii_start();
        let is_empty = value.is_empty() || value.starts_with(b";") || value.starts_with(b"\"\"");
        if name.trim_ascii() != self.name.as_bytes() || is_empty {
            return None;
        }
        let marked = [self.name.as_bytes(), b"=", token.as_str().as_bytes(), b"~", value];
        HeaderValue::from_bytes(&marked.concat()).ok()
    }
}

/// A value as token and what the application has set.
fn split(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let (token, rest) = value.split_at_checked(TOKEN_BYTES)?;
    Some((token, rest.strip_prefix(b"~")?)).filter(|(token, _)| is_token(token))
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;
    use crate::stick::token::Signer;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        headers
    }

    fn lines(headers: &HeaderMap) -> Vec<(&str, &str)> {
        headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect()
    }

    fn token() -> Token {
        Signer::new(None).token("nodes", "a")
    }

    #[test]
    fn the_edge_s_cookie_goes_and_the_others_stay() {
        let check = |before: &[&str], after: &[&str], shown: &[&str]| {
            let before: Vec<_> = before.iter().map(|line| ("cookie", *line)).collect();
            let mut headers = headers(&before);
            let asked = std::cell::RefCell::new(Vec::new());
            Inserted::new(&InsertConfig::default()).take_out(&mut headers, |token| {
                asked.borrow_mut().push(String::from_utf8_lossy(token).into_owned());
                None
            });
            let left: Vec<_> = lines(&headers).into_iter().map(|(_, line)| line).collect();
            assert_eq!(
                (left.as_slice(), asked.borrow().as_slice()),
                (after, &shown.map_owned()[..])
            );
        };
        check(&["tidewire=1"], &[], &["1"]);
        check(&["a=b; tidewire=1;c"], &["a=b; c"], &["1"]);
        check(&["tidewire=1; tidewire=2", "x=y; tidewire=3"], &["x=y"], &["1", "2", "3"]);
        check(&["a=b;c"], &["a=b;c"], &[]);
    }

    trait MapOwned {
        fn map_owned(&self) -> Vec<String>;
    }

    impl MapOwned for &[&str] {
        fn map_owned(&self) -> Vec<String> {
            self.iter().map(|text| (*text).to_owned()).collect()
        }
    }

    #[test]
    fn a_cookie_has_the_attributes_that_were_asked_for() {
        let check = |config: &str, is_tls: bool, expected: &str| {
            let inserted = Inserted::new(&serde_json::from_str(config).unwrap());
            let mut headers = HeaderMap::new();
            inserted.put_in(&mut headers, &token(), is_tls);
            let line = headers[SET_COOKIE].to_str().unwrap().replace(token().as_str(), "T");
            assert_eq!(line, expected, "{config}");
        };
        let usual = "tidewire=T; Path=/; HttpOnly; SameSite=Lax";
        check("{}", false, usual);
        check("{}", true, &format!("{usual}; Secure"));
        check(r#"{ "secure": "always" }"#, false, &format!("{usual}; Secure"));
        check(r#"{ "secure": "never" }"#, true, usual);
        check(
            r#"{ "cookie": "s", "path": "/ws", "domain": "a.test", "max_age": "1h",
                 "same_site": "none", "http_only": false }"#,
            true,
            "s=T; Path=/ws; Domain=a.test; Max-Age=3600; SameSite=None; Secure",
        );
    }

    #[test]
    fn an_answer_with_a_cookie_is_for_one_client() {
        let check = |before: &[&str], after: &[&str]| {
            let before: Vec<_> = before.iter().map(|line| ("cache-control", *line)).collect();
            let mut headers = headers(&before);
            Inserted::keep_private(&mut headers);
            let said: Vec<_> = headers.get_all(CACHE_CONTROL).iter().collect();
            assert_eq!(said, after);
        };
        check(&[], &["private"]);
        check(&["max-age=60"], &["max-age=60", "private"]);
        check(&["max-age=60, Private"], &["max-age=60, Private"]);
        check(&["no-store"], &["no-store"]);
    }

    #[test]
    fn a_prefix_is_put_on_and_taken_off() {
        let prefixed = Prefixed::new("SID");
        let mark = token();
        let mark = mark.as_str();
        let check_out = |set: &str, expected: &str| {
            let mut headers = headers(&[("set-cookie", set)]);
            prefixed.put_on(&mut headers, &token());
            let expected = expected.replace('@', &format!("{mark}~"));
            assert_eq!(lines(&headers), [("set-cookie", expected.as_str())]);
        };
        check_out("SID=abc; Path=/", "SID=@abc; Path=/");
        check_out("SID=\"abc\"", "SID=@\"abc\"");
        check_out("SID = abc", "SID=@abc");
        check_out("SID=; Max-Age=0", "SID=; Max-Age=0");
        check_out("SID=", "SID=");
        check_out("XSID=abc", "XSID=abc");
        check_out("sid=abc", "sid=abc");
        check_out("SID", "SID");
        let check_in = |cookie: &str, expected: &str, is_shown: bool| {
            let cookie = cookie.replace('@', &format!("{mark}~"));
            let mut headers = headers(&[("cookie", &cookie)]);
            let shown = std::cell::Cell::new(false);
            prefixed.take_off(&mut headers, |token| {
                shown.set(token == mark.as_bytes());
                None
            });
            let expected = expected.replace('@', &format!("{mark}~"));
            assert_eq!(lines(&headers), [("cookie", expected.as_str())]);
            assert_eq!(shown.get(), is_shown, "{cookie}");
        };
        check_in("SID=@abc", "SID=abc", true);
        check_in("a=b;SID=@abc;c", "a=b; SID=abc; c", true);
        check_in("SID=@\"abc\"", "SID=\"abc\"", true);
        check_in("SID=@", "SID=", true);
        check_in("SID=abc", "SID=abc", false);
        check_in("SID=short~abc", "SID=short~abc", false);
        check_in("=SID=@x; SID=@abc; ==", "=SID=@x; SID=abc; ==", true);
        check_in("a=b;SID=abc", "a=b;SID=abc", false);
        check_in("SID=AAAAAAAAAAAAAAAAAAAAAA~abc", "SID=abc", false);
    }

    #[test]
    fn no_cookie_of_a_client_gets_past_with_a_mark_on() {
        let mut random = fastrand::Rng::with_seed(0x71de);
        let mark = format!("{}~", token().as_str());
        let pieces = ["SID", "=", ";", " ", ",", "~", "\"", "a", "SID=", &mark, "\t", "\u{e9}"];
        for _ in 0..5000 {
            let mut left = HeaderMap::new();
            for _ in 0..random.usize(1..3) {
                let parts = (0..random.usize(0..8)).map(|_| *random.choice(&pieces).unwrap());
                let line = parts.collect::<String>();
                left.extend(HeaderValue::from_bytes(line.as_bytes()).map(|line| (COOKIE, line)));
            }
            let before = left.clone();
            Prefixed::new("SID").take_off(&mut left, |_| None);
            let values = |headers: &HeaderMap| {
                let lines = headers.get_all(COOKIE).iter().map(|it| it.as_bytes().to_vec());
                let pairs = |line: &[u8]| {
                    // A `=` with nothing around it says nothing.
                    cookies::pairs(line)
                        .filter(|(name, value)| !name.is_empty() || !value.is_empty())
                        .map(|(name, value)| (name.to_vec(), value.to_vec()))
                        .collect::<Vec<_>>()
                };
                lines.flat_map(|line| pairs(&line)).collect::<Vec<_>>()
            };
            let unmarked = |(name, value): (Vec<u8>, Vec<u8>)| {
                let rest = split(&value).filter(|_| name == b"SID");
                // White space around a value is not of it, also behind a mark.
                let rest = rest.map(|(_, rest)| rest.trim_ascii().to_vec());
                (name, rest.unwrap_or(value))
            };
            let expected: Vec<_> = values(&before).into_iter().map(unmarked).collect();
            assert_eq!(values(&left), expected, "{before:?}");
        }
    }
}
