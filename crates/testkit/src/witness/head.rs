//! The head of a request, read as strictly as any server might, by rules of its own: what two
//! servers could read in two ways is a [`Doubt`].
//!
//! Written without the product's code and without hyper's, so that no mistake is made on both
//! sides.

/// A head in which there is nothing to doubt.
#[derive(Clone, Debug)]
pub struct Head {
    pub method: String,
    pub target: String,
    /// In the order in which they came.
    pub headers: Fields,
    pub framing: Framing,
}

/// Names and values, the names in lower case.
pub type Fields = Vec<(String, String)>;

/// What follows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Length(usize),
    Chunked,
}

/// Why a head or a body could be read in two ways, with the line in question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    pub why: &'static str,
    pub line: String,
}

impl Doubt {
    pub(super) fn new(why: &'static str, line: &[u8]) -> Self {
        let line = String::from_utf8_lossy(&line[..line.len().min(LINE_SHOWN)]);
        Self { why, line: format!("{line:?}") }
    }
}

impl Head {
    /// Reads a head, with the empty line behind it.
    pub fn parse(bytes: &[u8]) -> Result<Self, Doubt> {
        let mut lines = lines(bytes)?.into_iter();
        let first = lines.next().ok_or_else(|| Doubt::new("no request line", bytes))?;
        let (method, target) = request_line(first)?;
        let headers = lines.map(field).collect::<Result<Vec<_>, _>>()?;
        let framing = framing(&headers)?;
        let head = Self { method, target, headers, framing };
        head.check_host()?;
        head.check_hop()?;
        head.check_claims()?;
        Ok(head)
    }

    /// The value of the only header of this name, which is in lower case.
    #[track_caller]
    pub fn get(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} is there {} times: {all:?}", all.len());
        all.first().copied()
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        let named = self.headers.iter().filter(|(known, _)| known == name);
        named.map(|(_, value)| value.as_str()).collect()
    }

    pub fn is_handshake(&self) -> bool {
        !self.all("upgrade").is_empty()
    }

    fn check_host(&self) -> Result<(), Doubt> {
        let hosts = self.all("host");
        let [host] = hosts.as_slice() else {
            return Err(Doubt::new("not one Host", hosts.join(" | ").as_bytes()));
        };
        let is_allowed =
            |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:[]%".contains(&byte);
        if host.bytes().all(is_allowed) {
            Ok(())
        } else {
            Err(Doubt::new("a Host that is none", host.as_bytes()))
        }
    }

    /// What is of one hop ends there, and `websocket` is all that there is to upgrade to.
    fn check_hop(&self) -> Result<(), Doubt> {
        for name in ["http2-settings", "keep-alive", "proxy-connection", "proxy", "expect"] {
            if let Some(value) = self.all(name).first() {
                return Err(Doubt::new("a header of another hop", value.as_bytes()));
            }
        }
        let te = self.all("te").join(",");
        if !matches!(te.as_str(), "" | "trailers") {
            return Err(Doubt::new("a TE that is not trailers", te.as_bytes()));
        }
        let connection = self.all("connection").join(",").to_ascii_lowercase();
        let upgrade = self.all("upgrade").join(",");
        let is_handshake = self.method == "GET"
            && self.framing == Framing::Length(0)
            && self.all("sec-websocket-version") == ["13"]
            && self.all("sec-websocket-key").len() == 1;
        match (connection.as_str(), upgrade.as_str()) {
            ("" | "close" | "keep-alive", "") => Ok(()),
            ("upgrade", "websocket") if is_handshake => Ok(()),
            _ => {
                let said = format!("Connection: {connection}, Upgrade: {upgrade}");
                Err(Doubt::new("no clean handshake", said.as_bytes()))
            }
        }
    }

    /// Who the client is, is said once.
    fn check_claims(&self) -> Result<(), Doubt> {
        for name in ["forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"] {
            let all = self.all(name);
            if all.len() != 1 {
                return Err(Doubt::new("not one line of who the client is", name.as_bytes()));
            }
        }
        Ok(())
    }
}

/// The fields of a trailer section, with the empty line behind it.
pub fn trailers(bytes: &[u8]) -> Result<Fields, Doubt> {
    let fields = lines(bytes)?.into_iter().map(field).collect::<Result<Vec<_>, _>>()?;
    let framing = ["content-length", "transfer-encoding", "host", "connection", "upgrade"];
    match fields.iter().find(|(name, _)| framing.contains(&name.as_str())) {
        Some((name, _)) => Err(Doubt::new("a trailer that frames", name.as_bytes())),
        None => Ok(fields),
    }
}

/// The size that a chunk's line says, without its line end.
pub fn chunk_size(line: &[u8]) -> Result<usize, Doubt> {
    let is_hex = !line.is_empty() && line.len() <= 8 && line.iter().all(u8::is_ascii_hexdigit);
    let size = std::str::from_utf8(line).ok().filter(|_| is_hex);
    size.and_then(|size| usize::from_str_radix(size, 16).ok())
        .ok_or_else(|| Doubt::new("a chunk's size that is none", line))
}

/// Lines that end in CR LF, and hold neither; the last, empty one is left away.
fn lines(bytes: &[u8]) -> Result<Vec<&[u8]>, Doubt> {
    let mut lines = Vec::new();
    let mut rest = bytes;
    loop {
        let end = rest.iter().position(|byte| *byte == b'\n');
        let end = end.ok_or_else(|| Doubt::new("a line without its end", rest))?;
        let Some(line) = rest[..end].strip_suffix(b"\r") else {
            return Err(Doubt::new("a bare LF", &rest[..end]));
        };
        if line.iter().any(|byte| matches!(byte, b'\r' | 0..=8 | 11..=31 | 127)) {
            return Err(Doubt::new("a control character", line));
        }
        rest = &rest[end + 1..];
        match (line.is_empty(), rest.is_empty()) {
            (true, true) => return Ok(lines),
            (true, false) => return Err(Doubt::new("an empty line in between", rest)),
            _ => lines.push(line),
        }
    }
}

fn request_line(line: &[u8]) -> Result<(String, String), Doubt> {
    let doubt = |why| Err(Doubt::new(why, line));
    let Ok(text) = std::str::from_utf8(line) else { return doubt("a request line beyond ASCII") };
    let parts: Vec<&str> = text.split(' ').collect();
    let [method, target, version] = parts.as_slice() else {
        return doubt("a request line that is not three words");
    };
    if !is_token(method.as_bytes()) {
        return doubt("a method that is no token");
    }
    if *version != "HTTP/1.1" {
        return doubt("another version");
    }
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"#\"<>\\^`{|}".contains(&byte);
    if !(target.starts_with('/') || (*method == "OPTIONS" && *target == "*")) {
        return doubt("a target that is no path");
    }
    if !target.bytes().all(is_plain) {
        return doubt("a target with characters that a target has not");
    }
    Ok(((*method).to_owned(), (*target).to_owned()))
}

fn field(line: &[u8]) -> Result<(String, String), Doubt> {
    let doubt = |why| Err(Doubt::new(why, line));
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return doubt("a folded line");
    }
    let Some(colon) = line.iter().position(|byte| *byte == b':') else {
        return doubt("a line without a colon");
    };
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if !is_token(name) {
        return doubt("a name that is no token");
    }
    // `_` and `.` are `-` to who makes variables of names.
    if name.iter().any(|byte| !byte.is_ascii_alphanumeric() && *byte != b'-') {
        return doubt("a name that some take for another");
    }
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    Ok((name, String::from_utf8_lossy(value).trim_matches([' ', '\t']).to_owned()))
}

fn framing(headers: &[(String, String)]) -> Result<Framing, Doubt> {
    let all = |wanted: &str| -> Vec<&str> {
        let named = headers.iter().filter(|(name, _)| name == wanted);
        named.map(|(_, value)| value.as_str()).collect()
    };
    let (lengths, codings) = (all("content-length"), all("transfer-encoding"));
    match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Ok(Framing::Length(0)),
        ([], ["chunked"]) => Ok(Framing::Chunked),
        ([length], []) => {
            let is_canonical = !length.is_empty()
                && length.len() < 16
                && length.bytes().all(|byte| byte.is_ascii_digit())
                && (*length == "0" || !length.starts_with('0'));
            match length.parse() {
                Ok(length) if is_canonical => Ok(Framing::Length(length)),
                _ => Err(Doubt::new("a length that is none", length.as_bytes())),
            }
        }
        _ => {
            let said = format!("{lengths:?} and {codings:?}");
            Err(Doubt::new("a body framed twice, or in another way", said.as_bytes()))
        }
    }
}

fn is_token(bytes: &[u8]) -> bool {
    let is_tchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(is_tchar)
}

const LINE_SHOWN: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    /// `text` with what the edge says of the client, which a head is not whole without.
    fn parse(text: &str) -> Result<Head, Doubt> {
        let claims = "forwarded: for=a\r\nx-forwarded-for: a\r\nx-forwarded-proto: http\r\n\
             x-forwarded-host: a\r\n\r\n";
        Head::parse(text.replacen("END", claims, 1).as_bytes())
    }

    #[test]
    fn what_is_clear_is_read() {
        let head = parse("GET /a?b=%20 HTTP/1.1\r\nHost: a.test:81\r\nX: \t1 2 \r\nEND").unwrap();
        assert_eq!((head.method.as_str(), head.target.as_str()), ("GET", "/a?b=%20"));
        assert_eq!(head.get("x"), Some("1 2"));
        assert_eq!(head.framing, Framing::Length(0));
        let head = parse("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nEND").unwrap();
        assert_eq!(head.framing, Framing::Length(10));
        let head =
            parse("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nEND").unwrap();
        assert_eq!(head.framing, Framing::Chunked);
        let handshake = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\nEND";
        assert!(parse(handshake).unwrap().is_handshake());
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_doubted() {
        for text in [
            "GET / HTTP/1.1\nHost: a\r\nEND",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\nEND",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\nEND",
            "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\nEND",
            "GET  / HTTP/1.1\r\nHost: a\r\nEND",
            "GET / HTTP/1.0\r\nHost: a\r\nEND",
            "GET /#x HTTP/1.1\r\nHost: a\r\nEND",
            "GET http://a/ HTTP/1.1\r\nHost: a\r\nEND",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\nEND",
            "GET / HTTP/1.1\r\nEND",
            "GET / HTTP/1.1\r\nHost: a\r\nX : 1\r\nEND",
            "GET / HTTP/1.1\r\nHost: a\r\n: 1\r\nEND",
            "GET / HTTP/1.1\r\nHost: a\r\nX_Forwarded_For: 1\r\nEND",
            "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1\r\nEND",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\nEND",
            "GET / HTTP/1.1\r\nHost: a\r\nHTTP2-Settings: AAA\r\nEND",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Real-IP\r\nEND",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\nEND",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\nEND",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\nEND",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\nEND",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\nEND",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        for line in ["", "0x1", "+1", "-0", "1;a=b", "1 ", "fffffffff", "0_1"] {
            assert!(chunk_size(line.as_bytes()).is_err(), "{line:?}");
        }
        assert_eq!(chunk_size(b"1F"), Ok(31));
        assert!(trailers(b"Content-Length: 1\r\n\r\n").is_err());
        assert!(trailers(b"X: 1\r\n\r\n").is_ok());
    }
}
