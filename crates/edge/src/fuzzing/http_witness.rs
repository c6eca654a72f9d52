//! A strict reader of HTTP/1.1, written for plainness and independent of what it watches.
//!
//! It refuses whatever two readers could read in two ways: heads of requests that reach servers and
//! heads of answers that reach clients must be such that it does not.

use tidewire_wire::ws::handshake::accept_key;

/// The messages of one direction of a connection.
#[derive(Debug, Default)]
pub struct Read {
    pub heads: Vec<Head>,
    /// What follows a handshake or its 101.
    pub tunnel: Vec<u8>,
    /// Whether the last message was cut off, in its head or in its body.
    pub is_cut_off: bool,
}

/// A head, its names in lower case.
#[derive(Debug)]
pub struct Head {
    /// The first line.
    pub line: String,
    pub headers: Vec<(String, Vec<u8>)>,
}

/// Reads what a server got.
pub fn requests(stream: &[u8]) -> Result<Read, String> {
    let mut read = Read::default();
    let mut rest = stream;
    while let Some((head, after)) = take_head(rest, &mut read)? {
        check_request(&head)?;
        let is_handshake = head.has("upgrade", b"websocket");
        let framing = head.framing()?;
        read.heads.push(head);
        if is_handshake {
            if framing != Framing::None {
                return Err("a handshake with a body".into());
            }
            read.tunnel = after.to_vec();
            return Ok(read);
        }
        match take_body(after, framing)? {
            Some(after) => rest = after,
            None => {
                read.is_cut_off = true;
                break;
            }
        }
    }
    Ok(read)
}

/// Reads what a client got. Whether an answer is one to HEAD cannot be told by it, so both ways are
/// tried: `may_head` says whether the client has asked for one.
pub fn responses(stream: &[u8], may_head: bool) -> Result<Read, String> {
    let mut read = Read::default();
    let mut rest = stream;
    while let Some((head, after)) = take_head(rest, &mut read)? {
        let status = check_response(&head)?;
        let framing = match status {
            100..=199 | 204 | 304 => Framing::None,
            _ => match head.framing() {
                Ok(Framing::None) => Framing::ToEnd,
                framing => framing?,
            },
        };
        read.heads.push(head);
        if status == 101 {
            read.tunnel = after.to_vec();
            return Ok(read);
        }
        let as_head = || {
            let follows = may_head.then(|| responses(after, may_head).ok())??;
            (after.is_empty() || !follows.heads.is_empty()).then_some(follows)
        };
        match take_body(after, framing) {
            Ok(Some(next)) if framing == Framing::None => rest = next,
            Ok(Some(next)) => {
                // The body may have been none: what it would be is then the next answer.
                if after.starts_with(b"HTTP/1.")
                    && let Some(follows) = as_head()
                {
                    return Ok(read.and(follows));
                }
                rest = next;
            }
            broken => {
                if let Some(follows) = as_head() {
                    return Ok(read.and(follows));
                }
                broken?;
                read.is_cut_off = true;
                return Ok(read);
            }
        }
    }
    Ok(read)
}

impl Read {
    fn and(mut self, follows: Self) -> Self {
        self.heads.extend(follows.heads);
        Self { heads: self.heads, ..follows }
    }

    /// Answers that are not on the way to another one.
    pub fn finals(&self) -> usize {
        let is_final =
            |head: &&Head| !head.line[9..].starts_with('1') || head.line[9..].starts_with("101");
        self.heads.iter().filter(is_final).count()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    None,
    Length(usize),
    Chunked,
    ToEnd,
}

impl Head {
    pub fn all<'h>(&'h self, name: &str) -> impl Iterator<Item = &'h [u8]> {
        let found = self.headers.iter().filter(|(there, _)| there == name);
        found.map(|(_, value)| &value[..]).collect::<Vec<_>>().into_iter()
    }

    pub fn has(&self, name: &str, value: &[u8]) -> bool {
        self.all(name).any(|there| there.eq_ignore_ascii_case(value))
    }

    fn only(&self, name: &str) -> Result<Option<&[u8]>, String> {
        let mut all = self.all(name);
        match (all.next(), all.next()) {
            (first, None) => Ok(first),
            _ => Err(format!("{name} is there twice in {self:?}")),
        }
    }

    fn framing(&self) -> Result<Framing, String> {
        match (self.only("content-length")?, self.only("transfer-encoding")?) {
            (None, None) => Ok(Framing::None),
            (Some(_), Some(_)) => Err(format!("length and coding in {self:?}")),
            (None, Some(b"chunked")) => Ok(Framing::Chunked),
            (None, Some(_)) => Err(format!("another coding in {self:?}")),
            (Some(length), None) => {
                if length.is_empty() || !length.iter().all(u8::is_ascii_digit) {
                    return Err(format!("no length in {self:?}"));
                }
                // One that is longer than any memory is cut off in any case.
                let length = std::str::from_utf8(length).ok().and_then(|text| text.parse().ok());
                Ok(Framing::Length(length.unwrap_or(usize::MAX)))
            }
        }
    }
}

/// The next head and what follows it; `None` at the end, or when it is cut off.
fn take_head<'s>(rest: &'s [u8], read: &mut Read) -> Result<Option<(Head, &'s [u8])>, String> {
    if rest.is_empty() {
        return Ok(None);
    }
    let Some(end) = rest.windows(4).position(|four| four == b"\r\n\r\n") else {
        read.is_cut_off = true;
        return Ok(None);
    };
    let (text, after) = (&rest[..end], &rest[end + 4..]);
    let mut lines = text.split(|&byte| byte == b'\n').map(|line| match line.strip_suffix(b"\r") {
        Some(line) => line,
        None => line,
    });
    let is_bare = text.iter().enumerate().any(|(at, &byte)| {
        byte == b'\n' && (at == 0 || text[at - 1] != b'\r')
            || byte == b'\r' && text.get(at + 1) != Some(&b'\n')
    });
    if is_bare {
        return Err(format!("a bare line end in {:?}", text.escape_ascii().to_string()));
    }
    let first = lines.next().unwrap_or_default();
    // A reason may have tabs in it.
    if first.iter().any(|&byte| byte < b' ' && byte != b'\t' || byte == 0x7F) {
        return Err(format!("a control character in {:?}", first.escape_ascii().to_string()));
    }
    let mut headers = Vec::new();
    for line in lines {
        headers.push(header(line)?);
    }
    let line = String::from_utf8_lossy(first).into_owned();
    Ok(Some((Head { line, headers }, after)))
}

fn header(line: &[u8]) -> Result<(String, Vec<u8>), String> {
    let wrong = |why: &str| Err(format!("{why}: {:?}", line.escape_ascii().to_string()));
    let Some(colon) = line.iter().position(|&byte| byte == b':') else {
        return wrong("no header");
    };
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    if name.is_empty() || !name.iter().all(is_name) {
        return wrong("no name");
    }
    let value = value.strip_prefix(b" ").unwrap_or(value);
    if value.trim_ascii() != value {
        return wrong("a blank at the end of a value");
    }
    if value.iter().any(|&byte| byte < b' ' && byte != b'\t' || byte == 0x7F) {
        return wrong("a control character");
    }
    Ok((String::from_utf8_lossy(name).to_ascii_lowercase(), value.to_vec()))
}

/// What follows a body; `None` when it is cut off.
fn take_body(rest: &[u8], framing: Framing) -> Result<Option<&[u8]>, String> {
    match framing {
        Framing::None => Ok(Some(rest)),
        Framing::ToEnd => Ok(Some(&[])),
        Framing::Length(length) => Ok(rest.get(length..)),
        Framing::Chunked => take_chunks(rest),
    }
}

fn take_chunks(mut rest: &[u8]) -> Result<Option<&[u8]>, String> {
    loop {
        let Some(end) = rest.windows(2).position(|two| two == b"\r\n") else { return Ok(None) };
        let (size, after) = (&rest[..end], &rest[end + 2..]);
        let is_hex = !size.is_empty() && size.len() <= 8 && size.iter().all(u8::is_ascii_hexdigit);
        if !is_hex {
            return Err(format!("no chunk size: {:?}", size.escape_ascii().to_string()));
        }
        let text = std::str::from_utf8(size).unwrap_or_default();
        let size = usize::from_str_radix(text, 16).map_err(|error| error.to_string())?;
        if size == 0 {
            return take_trailers(after);
        }
        let (Some(end), after) = (after.get(size..), after.get(size + 2..)) else {
            return Ok(None);
        };
        if !b"\r\n".starts_with(&end[..end.len().min(2)]) {
            return Err("a chunk goes on beyond its size".into());
        }
        let Some(after) = after else { return Ok(None) };
        rest = after;
    }
}

fn take_trailers(mut rest: &[u8]) -> Result<Option<&[u8]>, String> {
    loop {
        let Some(end) = rest.windows(2).position(|two| two == b"\r\n") else { return Ok(None) };
        let (line, after) = (&rest[..end], &rest[end + 2..]);
        if line.is_empty() {
            return Ok(Some(after));
        }
        let (name, _) = header(line)?;
        let framing = ["content-length", "transfer-encoding", "host", "x-user", "x-forwarded-for"];
        if framing.contains(&name.as_str()) || name.contains(['_', '.']) {
            return Err(format!("the trailer {name}"));
        }
        rest = after;
    }
}

fn check_request(head: &Head) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("{why}: {head:?}"));
    let words: Vec<&str> = head.line.split(' ').collect();
    let [method, target, "HTTP/1.1"] = words[..] else { return wrong("no request line") };
    if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_graphic()) {
        return wrong("no method");
    }
    let is_target = (target.starts_with('/') || target == "*") && !target.contains('#');
    if !is_target || !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return wrong("no target");
    }
    if head.only("host")?.is_none() {
        return wrong("no host");
    }
    let is_plain =
        |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if !head.headers.iter().all(|(name, _)| is_plain(name)) {
        return wrong("a name with an alias");
    }
    for name in ["keep-alive", "proxy-connection", "http2-settings", "proxy-authorization"] {
        if head.all(name).next().is_some() {
            return wrong(name);
        }
    }
    let (upgrade, connection) = (head.only("upgrade")?, head.only("connection")?);
    match (upgrade, connection) {
        (None, None) => Ok(()),
        (Some(b"websocket"), Some(b"Upgrade")) if method == "GET" => {
            let key = head.only("sec-websocket-key")?.map_or(0, <[u8]>::len);
            let version = head.only("sec-websocket-version")?;
            if key == 24 && version == Some(b"13") { Ok(()) } else { wrong("no handshake") }
        }
        _ => wrong("an upgrade"),
    }
}

fn check_response(head: &Head) -> Result<u16, String> {
    let line = head.line.as_bytes();
    let is_line = line.len() >= 13
        && (line.starts_with(b"HTTP/1.1 ") || line.starts_with(b"HTTP/1.0 "))
        && line[12] == b' ';
    let status = head.line.get(9..12).and_then(|status| status.parse().ok());
    match status {
        Some(status @ 100..=999) if is_line => {
            if status == 101 && head.framing()? != Framing::None {
                return Err(format!("a 101 with a body: {head:?}"));
            }
            Ok(status)
        }
        _ => Err(format!("no status line: {head:?}")),
    }
}

/// The only `Accept` that answers the handshake at the end of a server's stream.
pub fn accept(read: &Read) -> Option<String> {
    let key = read.heads.last()?.all("sec-websocket-key").next()?;
    Some(String::from_utf8_lossy(&accept_key(key)).into_owned())
}
