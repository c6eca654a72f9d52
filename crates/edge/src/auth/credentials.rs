//! Credentials that are taken out of a request once they have been looked at: a token is for this
//! edge, and what a server does not get, it cannot log, leak or use.

use std::ops::Range;

use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::uri::{PathAndQuery, Uri};
use tidewire_auth::method::Found;
use tidewire_wire::http::{cookies, query};
use tidewire_wire::ws::handshake::{Classified, Offer};

/// Takes credentials out of a request. What the 101 has to name if they were offered as
/// subprotocols.
pub fn take_all_out(
    found: &[Found],
    parts: &mut Parts,
    classified: &mut Classified,
) -> Option<HeaderValue> {
    found.iter().for_each(|found| take_out(parts, found));
    let Classified::WebSocket(offer) = classified else { return None };
    let offers = found.iter().filter_map(|found| match found {
        Found::Subprotocol { offers, answer } => Some((offers.clone(), answer)),
        _ => None,
    });
    let (taken, answers): (Vec<_>, Vec<_>) = offers.unzip();
    take_offers_out(&mut parts.headers, offer, &taken);
    answers.first().and_then(|answer| HeaderValue::from_str(answer).ok())
}

/// Has the 101 name `name`, unless it names a subprotocol already.
pub fn name_subprotocol(headers: &mut HeaderMap, name: Option<HeaderValue>) {
    if let Some(name) = name
        && !headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL)
    {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, name);
    }
}

/// Takes one out. Of subprotocols nothing is changed yet, as their indexes count what the client
/// has offered: see [`take_offers_out`].
fn take_out(parts: &mut Parts, found: &Found) {
    match found {
        Found::Header(name) => drop(parts.headers.remove(name)),
        Found::Cookie(name) => take_cookie_out(&mut parts.headers, name),
        Found::Query(name) => parts.uri = without_parameter(&parts.uri, name),
        Found::Subprotocol { .. } | Found::Certificate => {}
    }
}

/// Takes offers out of a handshake, so that no server can choose them.
fn take_offers_out(headers: &mut HeaderMap, offer: &mut Offer, taken: &[Range<usize>]) {
    if taken.is_empty() {
        return;
    }
    let mut index = 0;
    offer.subprotocols.retain(|_| {
        let is_taken = taken.iter().any(|range| range.contains(&index));
        index += 1;
        !is_taken
    });
    headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
    let left: Vec<&[u8]> = offer.subprotocols.iter().map(HeaderValue::as_bytes).collect();
    if let Ok(line) = HeaderValue::from_bytes(&left.join(&b", "[..]))
        && !left.is_empty()
    {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, line);
    }
}

/// Takes the cookies of this name out of a request.
pub(crate) fn take_cookie_out(headers: &mut HeaderMap, name: &str) {
    let header::Entry::Occupied(entry) = headers.entry(header::COOKIE) else { return };
    let (cookie, lines) = entry.remove_entry_mult();
    let left: Vec<HeaderValue> = lines
        .filter_map(|line| cookies::without(line.as_bytes(), name.as_bytes()))
        .filter_map(|line| HeaderValue::from_bytes(&line).ok())
        .collect();
    for line in left {
        headers.append(&cookie, line);
    }
}

fn without_parameter(uri: &Uri, name: &str) -> Uri {
    let Some(query) = uri.query() else { return uri.clone() };
    let target = match query::without(query, name) {
        Some(left) => format!("{}?{left}", uri.path()),
        None => uri.path().to_owned(),
    };
    let mut parts = uri.clone().into_parts();
    // What is left of a target is one; if it were not, there is none: rather no query than one
    // with the token in it.
    let bare = || uri.path().parse().unwrap_or_else(|_| PathAndQuery::from_static("/"));
    parts.path_and_query = Some(target.parse().unwrap_or_else(|_| bare()));
    Uri::from_parts(parts).unwrap_or_else(|_| Uri::from(bare()))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn parts(uri: &str, head: &[(&str, &str)]) -> Parts {
        let mut request = Request::get(uri);
        for (name, value) in head {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_parameter_goes_and_the_rest_of_the_target_stays() {
        let check = |uri: &str, expected: &str| {
            let mut parts = parts(uri, &[]);
            take_out(&mut parts, &Found::Query("token".into()));
            assert_eq!(parts.uri.to_string(), expected);
        };
        check("/ws?token=x", "/ws");
        check("/ws?a=%20b+c&token=x&d", "/ws?a=%20b+c&d");
        check("/w%20s?%74oken=x&tokens=y", "/w%20s?tokens=y");
        check("http://a.test/ws?token=x", "http://a.test/ws");
        check("/ws", "/ws");
    }

    #[test]
    fn a_cookie_goes_and_the_others_stay() {
        let check = |lines: &[&str], expected: &[&str]| {
            let head: Vec<_> = lines.iter().map(|line| ("cookie", *line)).collect();
            let mut parts = parts("/", &head);
            take_out(&mut parts, &Found::Cookie("t".into()));
            let left: Vec<_> = parts.headers.get_all("cookie").iter().collect();
            assert_eq!(left, expected, "{lines:?}");
        };
        check(&["t=secret"], &[]);
        check(&["a=\"x,y\"; t=secret; tt=1"], &["a=\"x,y\"; tt=1"]);
        check(&["a=1", "t=secret", "b=2; t=also"], &["a=1", "b=2"]);
    }

    #[test]
    fn taken_offers_are_neither_sent_nor_accepted() {
        let check = |offers: &[&str], taken: &[(usize, usize)], expected: Option<&str>| {
            let ranges = taken.iter().map(|&(from, to)| from..to);
            let taken: Vec<Range<usize>> = ranges.collect();
            let mut headers = HeaderMap::new();
            for line in offers {
                headers.append(header::SEC_WEBSOCKET_PROTOCOL, line.parse().unwrap());
            }
            let mut offer = Offer::plain([b'A'; 24]);
            let all = offers.iter().flat_map(|line| line.split(", "));
            offer.subprotocols = all.map(|one| one.parse().unwrap()).collect();
            take_offers_out(&mut headers, &mut offer, &taken);
            let left = headers.get(header::SEC_WEBSOCKET_PROTOCOL);
            assert_eq!(left.map(|it| it.to_str().unwrap()), expected, "{offers:?} {taken:?}");
            let shown: Vec<_> = offer.subprotocols.iter().map(|it| it.to_str().unwrap()).collect();
            assert_eq!(shown.join(", "), expected.unwrap_or_default());
        };
        check(&["bearer, x"], &[(0, 2)], None);
        check(&["a, bearer, x, b"], &[(1, 3)], Some("a, b"));
        check(&["a, bearer", "x, b"], &[(1, 3)], Some("a, b"));
        check(&["a, bearer, x, b"], &[(1, 3), (1, 3)], Some("a, b"));
        check(&["a, bearer.x, key, y"], &[(1, 2), (2, 4)], Some("a"));
    }
}
