//! What no answer of a server may have: what hyper lets pass, and two readers could read in two
//! ways.

use http::header::{self, HeaderMap};
use http::{Response, StatusCode, Version};
use tidewire_wire::http::hop::strip_hop_by_hop;
use tidewire_wire::http::tokens::tokens;

/// Why an answer is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAnswer {
    #[error("Content-Length is there more than once, or is not a number")]
    Length,
    #[error("Content-Length and Transfer-Encoding are both there")]
    LengthAndCoding,
    #[error("Transfer-Encoding is not chunked, once")]
    Coding,
    #[error("an HTTP/1.0 answer has a Transfer-Encoding")]
    CodingInHttp10,
}

/// Checks how the body of an answer is framed (RFC 9112, section 6.3), and takes out of its head
/// what is of this hop.
pub fn cleanse<B>(response: &mut Response<B>) -> Result<(), BadAnswer> {
    let (status, version) = (response.status(), response.version());
    let headers = response.headers_mut();
    check_framing(version, headers)?;
    if status.is_informational() || status == StatusCode::NO_CONTENT {
        // There is no body, whatever it says (RFC 9110, section 8.6).
        headers.remove(header::CONTENT_LENGTH);
    }
    strip_hop_by_hop(headers);
    Ok(())
}

fn check_framing(version: Version, headers: &HeaderMap) -> Result<(), BadAnswer> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let (length, another) = (lengths.next(), lengths.next());
    let is_number = |value: &[u8]| !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    if another.is_some() || length.is_some_and(|it| !is_number(it.as_bytes())) {
        return Err(BadAnswer::Length);
    }
    if !headers.contains_key(header::TRANSFER_ENCODING) {
        return Ok(());
    }
    let mut codings = tokens(headers, &header::TRANSFER_ENCODING);
    match (codings.next(), codings.next()) {
        _ if length.is_some() => Err(BadAnswer::LengthAndCoding),
        _ if version != Version::HTTP_11 => Err(BadAnswer::CodingInHttp10),
        (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(BadAnswer::Coding),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(headers: &[(&str, &str)], expected: Result<(), BadAnswer>) {
        let mut response = Response::new(());
        for (name, value) in headers {
            let name = name.parse::<header::HeaderName>().unwrap();
            response.headers_mut().append(name, value.parse().unwrap());
        }
        assert_eq!(cleanse(&mut response), expected, "{headers:?}");
    }

    #[test]
    fn an_answer_says_once_how_long_it_is() {
        check(&[], Ok(()));
        check(&[("content-length", "5")], Ok(()));
        check(&[("transfer-encoding", "Chunked")], Ok(()));
        for odd in ["", "+5", "5, 5", "0x5", "-1"] {
            check(&[("content-length", odd)], Err(BadAnswer::Length));
        }
        check(&[("content-length", "5"), ("content-length", "5")], Err(BadAnswer::Length));
        let both = [("content-length", "5"), ("transfer-encoding", "chunked")];
        check(&both, Err(BadAnswer::LengthAndCoding));
        for other in ["gzip", "gzip, chunked", "chunked, chunked", ""] {
            check(&[("transfer-encoding", other)], Err(BadAnswer::Coding));
        }
    }

    #[test]
    fn an_answer_without_a_body_has_no_length() {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::NO_CONTENT;
        response.headers_mut().insert(header::CONTENT_LENGTH, 5.into());
        assert_eq!(cleanse(&mut response), Ok(()));
        assert!(response.headers().is_empty());
    }
}
