//! What proxies have said of a client, as a server reads it: `X-Forwarded-For` and its like, and
//! `Forwarded` (RFC 7239). Which of them is to be believed is for the caller to know.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::header::{HeaderMap, HeaderName};

use super::forwarded::is_token_byte;

/// One hop, as `Forwarded` has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element<'v> {
    /// Where its client was: `for`.
    pub node: Option<Cow<'v, str>>,
    pub proto: Option<Cow<'v, str>>,
    pub host: Option<Cow<'v, str>>,
}

/// A value that does not follow its grammar: who has said what in it is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what proxies have said cannot be read")]
pub struct Unreadable;

/// The members of a comma list in all lines of a header, the last first. `Err` stands for a line
/// that is not text.
pub fn from_the_right<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = Result<&'h str, Unreadable>> + use<'h> {
    headers.get_all(name).into_iter().rev().flat_map(|line| {
        let line = line.to_str();
        let wrong = line.is_err().then_some(Err(Unreadable));
        let members = line.unwrap_or_default().rsplit(',').map(trim).filter(|it| !it.is_empty());
        members.map(Ok).chain(wrong)
    })
}

/// The elements of `Forwarded` in all lines, in their order.
///
/// Whoever wants the last ones must read from the first: a comma in a quoted string ends nothing.
/// A quote that a client leaves open makes the line unreadable, and not what a proxy has added part
/// of what the client said.
pub fn elements<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
) -> Result<Vec<Element<'h>>, Unreadable> {
    let mut all = Vec::new();
    for line in headers.get_all(name) {
        let mut rest = line.to_str().map_err(|_| Unreadable)?;
        while !rest.is_empty() {
            let element;
            (element, rest) = take_element(rest)?;
            all.extend(element);
            if all.len() > ELEMENTS_MAX {
                return Err(Unreadable);
            }
        }
    }
    Ok(all)
}

/// An address as proxies write it: bare, with a port, in brackets. The port is 0 when none is there.
pub fn node(text: &str) -> Result<SocketAddr, Unreadable> {
    let bare = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 0));
    let in_brackets = || {
        let inside = text.strip_prefix('[')?.strip_suffix(']')?;
        Some(SocketAddr::new(inside.parse::<Ipv6Addr>().ok()?.into(), 0))
    };
    let address = bare.ok().or_else(|| text.parse().ok()).or_else(in_brackets);
    // It is nobody's, and rules could take it for anybody's.
    let is_somebody = |it: &SocketAddr| !it.ip().to_canonical().is_unspecified();
    address.filter(is_somebody).ok_or(Unreadable)
}

/// An element, if it is not empty, and what is behind its comma.
fn take_element(text: &str) -> Result<(Option<Element<'_>>, &str), Unreadable> {
    let mut element = Element::default();
    let mut is_empty = true;
    let mut rest = trim_start(text);
    loop {
        match rest.as_bytes().first() {
            None => break,
            Some(b',') => {
                rest = &rest[1..];
                break;
            }
            Some(b';') => rest = trim_start(&rest[1..]),
            Some(_) => {
                let (name, value, behind) = take_pair(rest)?;
                is_empty = false;
                let slot = match name {
                    _ if name.eq_ignore_ascii_case("for") => Some(&mut element.node),
                    _ if name.eq_ignore_ascii_case("proto") => Some(&mut element.proto),
                    _ if name.eq_ignore_ascii_case("host") => Some(&mut element.host),
                    _ => None,
                };
                if slot.is_some_and(|slot| slot.replace(value).is_some()) {
                    return Err(Unreadable);
                }
                rest = trim_start(behind);
                if !rest.is_empty() && !rest.starts_with([',', ';']) {
                    return Err(Unreadable);
                }
            }
        }
    }
    Ok(((!is_empty).then_some(element), rest))
}

/// A name, its value, and what is behind them.
fn take_pair(text: &str) -> Result<(&str, Cow<'_, str>, &str), Unreadable> {
    let (name, rest) = text.split_once('=').ok_or(Unreadable)?;
    if name.is_empty() || !name.bytes().all(is_token_byte) {
        return Err(Unreadable);
    }
    let Some(quoted) = rest.strip_prefix('"') else {
        // Some proxies write a port or an IPv6 address without its quotes.
        let is_value = |byte: u8| is_token_byte(byte) || b"[]:".contains(&byte);
        let end = rest.bytes().position(|byte| !is_value(byte)).unwrap_or(rest.len());
        let (value, rest) = rest.split_at(end);
        return if value.is_empty() { Err(Unreadable) } else { Ok((name, value.into(), rest)) };
    };
    let mut value = String::new();
    let mut is_escaped = false;
    for (at, char) in quoted.char_indices() {
        match char {
            _ if std::mem::take(&mut is_escaped) => value.push(char),
            '\\' => is_escaped = true,
            '"' => return Ok((name, value.into(), &quoted[at + 1..])),
            _ => value.push(char),
        }
    }
    Err(Unreadable)
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

fn trim_start(text: &str) -> &str {
    text.trim_start_matches([' ', '\t'])
}

/// Of the elements in a header: each is a proxy.
const ELEMENTS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use http::header::{FORWARDED, HeaderValue};

    use super::*;

    fn headers(lines: &[&str]) -> HeaderMap {
        let value = |line: &&str| (FORWARDED, HeaderValue::from_str(line).unwrap());
        lines.iter().map(value).collect()
    }

    #[test]
    fn an_address_is_read_in_each_of_its_forms() {
        let check = |text, expected: &str| {
            let found = node(text).map_or("-".to_owned(), |it| it.to_string());
            assert_eq!(found, expected, "{text}");
        };
        check("192.0.2.1", "192.0.2.1:0");
        check("192.0.2.1:8080", "192.0.2.1:8080");
        check("2001:db8::1", "[2001:db8::1]:0");
        check("[2001:db8::1]", "[2001:db8::1]:0");
        check("[2001:db8::1]:8080", "[2001:db8::1]:8080");
        for odd in [
            "",
            "unknown",
            "_hidden",
            "192.0.2.01",
            "192.0.2.1:",
            "192.0.2.1:x",
            "192.0.2.1:99999",
            "[192.0.2.1]",
            "[2001:db8::1",
            "2001:db8::1]",
            "localhost",
            "192.0.2.1 ",
            "192.0.2.0/24",
            "0.0.0.0",
            "::",
            "::ffff:0.0.0.0",
            "0.0.0.0:80",
            "127.1",
            "0x7f000001",
        ] {
            check(odd, "-");
        }
    }

    #[test]
    fn a_list_in_several_lines_is_one_and_is_read_from_its_end() {
        let headers = headers(&["a, b", ",c ,\t d,, "]);
        let found: Vec<_> = from_the_right(&headers, &FORWARDED).map(Result::unwrap).collect();
        assert_eq!(found, ["d", "c", "b", "a"]);
    }

    #[track_caller]
    fn check(lines: &[&str], expected: &str) {
        let headers = headers(lines);
        let part = |name, it: &Option<Cow<'_, str>>| {
            it.as_ref().map(|it| format!("{name}={it};")).unwrap_or_default()
        };
        let one = |it: &Element<'_>| {
            part("for", &it.node) + &part("proto", &it.proto) + &part("host", &it.host)
        };
        let found = elements(&headers, &FORWARDED);
        let found = found.map(|all| all.iter().map(one).collect::<Vec<_>>().join(" | "));
        assert_eq!(found.unwrap_or("-".to_owned()), expected, "{lines:?}");
    }

    #[test]
    fn elements_are_read_by_their_grammar() {
        check(&["for=192.0.2.1;proto=https;by=203.0.113.4"], "for=192.0.2.1;proto=https;");
        check(&["For=\"[2001:db8::1]:80\" , for=b"], "for=[2001:db8::1]:80; | for=b;");
        check(&["for=a;host=\"x\\\"y, z;for=q\", for=b"], "for=a;host=x\"y, z;for=q; | for=b;");
        check(&["for=a", "for=b, , for=c"], "for=a; | for=b; | for=c;");
        check(&["for=192.0.2.1:80; host=a:81"], "for=192.0.2.1:80;host=a:81;");
        check(&["", " ", ";"], "");
    }

    #[test]
    fn what_a_client_leaves_open_does_not_take_in_what_a_proxy_adds() {
        for odd in [
            "for=\"6.6.6.6, for=192.0.2.1",
            "for=\", for=192.0.2.1;host=\"a:80\"",
            "x=\", for=192.0.2.1;host=\";y=\";proto=http",
            "for=6.6.6.6;for=192.0.2.1",
            "for=a b",
            "for",
            "for=",
            "=a",
            "for =a",
            "for=a\"b\"",
            "for=\"a\"b",
            "for=\"a\\\"",
        ] {
            check(&[odd], "-");
        }
        check(&["for=\"6.6.6.6", "for=192.0.2.1"], "-");
    }

    #[test]
    fn there_is_an_end_to_the_elements() {
        check(&[&"for=a,".repeat(65)], "-");
        check(&[&"for=a,".repeat(64)], &["for=a;"; 64].join(" | "));
    }
}
