//! An OCSP response from a file: whether it is one, about which certificate, good until when
//! (RFC 6960, section 4.2.1). Whether its signature is right is for clients to say.

use x509_parser::der_parser::asn1_rs::{Any, Class, Enumerated, FromDer, GeneralizedTime, Tag};

use super::date::Date;
use super::fault::Fault;

/// What an OCSP response says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Staple {
    /// When it must be replaced, if it says so.
    pub next_update: Option<Date>,
}

/// Reads a response that should be about the certificate of `serial` (without leading zeros).
pub fn check(bytes: &[u8], serial: &[u8]) -> Result<Staple, Fault> {
    let response = sequence(bytes)?;
    let (rest, status) = Enumerated::from_der(response).map_err(|_| Fault::NotOcsp)?;
    match status.0 {
        0 => {}
        1 => return Err(Fault::OcspFailed("malformed request")),
        2 => return Err(Fault::OcspFailed("internal error")),
        3 => return Err(Fault::OcspFailed("try later")),
        5 => return Err(Fault::OcspFailed("signature required")),
        6 => return Err(Fault::OcspFailed("unauthorized")),
        _ => return Err(Fault::NotOcsp),
    }
    // ResponseBytes ::= SEQUENCE { responseType, response OCTET STRING }, tagged [0].
    let bytes = sequence(element(rest)?.1.data)?;
    let (rest, _kind) = element(bytes)?;
    let basic = element(rest)?.1.data;
    single_responses(basic)?
        .find_map(|single| about(single.ok()?, serial))
        .unwrap_or(Err(Fault::OcspForAnother))
}

/// The responses in a BasicOCSPResponse, each about one certificate.
fn single_responses(
    basic: &[u8],
) -> Result<impl Iterator<Item = Result<&[u8], Fault>> + use<'_>, Fault> {
    let mut rest = sequence(sequence(basic)?)?;
    // ResponseData: [0] version, [1] or [2] responderID, producedAt, responses.
    let responses = loop {
        let (after, part) = element(rest)?;
        if part.tag() == Tag::Sequence && part.class() == Class::Universal {
            break part.data;
        }
        rest = after;
    };
    let mut rest = responses;
    Ok(std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let single = element(rest);
        rest = single.as_ref().map_or(&[], |(after, _)| after);
        Some(single.map(|(_, single)| single.data))
    }))
}

/// What a SingleResponse says if it is about the certificate of `serial`.
fn about(single: &[u8], serial: &[u8]) -> Option<Result<Staple, Fault>> {
    let read = || {
        let (rest, id) = element(single)?;
        // CertID: hashAlgorithm, issuerNameHash, issuerKeyHash, serialNumber.
        let (after, _) = element(id.data)?;
        let (after, _) = element(after)?;
        let (after, _) = element(after)?;
        let named = element(after)?.1.data;
        let (rest, status) = element(rest)?;
        let (rest, _this_update) = element(rest)?;
        let next_update = match element(rest) {
            Ok((_, next)) if next.class() == Class::ContextSpecific && next.tag() == Tag(0) => {
                let (_, time) = GeneralizedTime::from_der(next.data).map_err(|_| Fault::NotOcsp)?;
                let time = time.utc_datetime().map_err(|_| Fault::NotOcsp)?;
                Some(Date(time.unix_timestamp()))
            }
            _ => None,
        };
        Ok((named, status.tag(), next_update))
    };
    let (named, status, next_update) = match read() {
        Ok(read) => read,
        Err(fault) => return Some(Err(fault)),
    };
    let zeros = named.iter().take_while(|&&byte| byte == 0).count();
    if named[zeros..] != *serial {
        return None;
    }
    // CertStatus ::= CHOICE { good [0], revoked [1], unknown [2] }
    Some(match status {
        Tag(0) => Ok(Staple { next_update }),
        Tag(1) => Err(Fault::OcspRevoked),
        _ => Err(Fault::OcspFailed("unknown certificate")),
    })
}

fn sequence(bytes: &[u8]) -> Result<&[u8], Fault> {
    let (_, any) = element(bytes)?;
    if any.tag() == Tag::Sequence { Ok(any.data) } else { Err(Fault::NotOcsp) }
}

/// The next element of DER, and what is behind it.
fn element(bytes: &[u8]) -> Result<(&[u8], Any<'_>), Fault> {
    Any::from_der(bytes).map_err(|_| Fault::NotOcsp)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A successful response about serial 0x83ED by openssl, without its signature's bytes.
    fn response(status: u8, next_update: bool) -> Vec<u8> {
        let der = |tag: u8, parts: &[&[u8]]| {
            let content = parts.concat();
            assert!(content.len() < 0x10000);
            let length = u16::try_from(content.len()).unwrap().to_be_bytes();
            [&[tag, 0x82][..], &length, &content].concat()
        };
        let time = der(0x18, &[b"20300101000000Z"]);
        let id = der(
            0x30,
            &[&der(0x30, &[]), &der(4, &[b"n"]), &der(4, &[b"k"]), &der(2, &[&[0, 0x83, 0xED]])],
        );
        let next = if next_update { der(0xA0, &[&time]) } else { Vec::new() };
        let single = der(0x30, &[&id, &der(status, &[]), &time, &next]);
        let data = der(0x30, &[&der(0xA2, &[&der(4, &[b"h"])]), &time, &der(0x30, &[&single])]);
        let basic = der(0x30, &[&data, &der(0x30, &[]), &der(3, &[&[0]])]);
        let bytes = der(0x30, &[&der(6, &[&[0x2A]]), &der(4, &[&basic])]);
        der(0x30, &[&[10, 1, 0], &der(0xA0, &[&bytes])])
    }

    #[test]
    fn a_response_is_about_one_certificate_and_good_until_a_time() {
        let check = |status, next, serial: &[u8], expected| {
            assert_eq!(super::check(&response(status, next), serial), expected);
        };
        let serial = [0x83, 0xED];
        let good = |next_update| Ok(Staple { next_update });
        check(0x80, true, &serial, good(Some(Date(1_893_456_000))));
        check(0x80, false, &serial, good(None));
        check(0x80, true, &[0x83], Err(Fault::OcspForAnother));
        check(0xA1, true, &serial, Err(Fault::OcspRevoked));
        check(0x82, true, &serial, Err(Fault::OcspFailed("unknown certificate")));
        assert_eq!(
            super::check(&[0x30, 3, 10, 1, 6], &serial),
            Err(Fault::OcspFailed("unauthorized"))
        );
    }

    #[test]
    fn a_response_that_is_cut_is_none() {
        let whole = response(0x80, true);
        for end in 0..whole.len() {
            assert!(super::check(&whole[..end], &[0x83, 0xED]).is_err(), "{end}");
        }
    }
}
