//! HTTP/1 as a test speaks it: any text goes out, and what comes in is read by rules of its own, so
//! that a mistake of the program's libraries is not one of the test.

use std::net::SocketAddr;

use crate::peer::Peer;

/// The head of a request, as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub target: String,
    /// The minor version: 0 or 1.
    pub version: u8,
    pub headers: Headers,
}

/// A response, as it came.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub version: u8,
    pub headers: Headers,
    pub body: Vec<u8>,
    pub trailers: Headers,
}

/// Header lines, in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(String, String)>);

/// What a body is.
#[derive(Clone, Debug, Default)]
pub struct Body {
    pub bytes: Vec<u8>,
    pub trailers: Headers,
}

/// Asks `address` for `path`, on a connection of its own.
#[track_caller]
pub fn get(address: SocketAddr, path: &str) -> Response {
    let mut peer = Peer::connect(address);
    peer.send(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"));
    peer.response()
}

/// The answer to a request of this text, on a connection of its own.
#[track_caller]
pub fn ask(address: SocketAddr, text: &str) -> Response {
    let mut peer = Peer::connect(address);
    peer.send(text);
    peer.response()
}

impl Headers {
    /// The value of the only header of this name.
    ///
    /// # Panics
    /// When there are several.
    #[track_caller]
    pub fn get(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} is there {} times: {all:?}", all.len());
        all.first().copied()
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        let named = self.0.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }

    pub fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }

    fn is_chunked(&self) -> bool {
        self.get("transfer-encoding").is_some_and(|it| it.eq_ignore_ascii_case("chunked"))
    }

    fn length(&self) -> Option<usize> {
        self.get("content-length").map(|it| it.parse().expect("a length is a number"))
    }
}

impl Response {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// That it has this status, with the whole answer shown when not.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{:?}: {}", self.headers, self.text());
        self
    }
}

impl Peer {
    /// The head of the next request; `None` at the end of the stream.
    #[track_caller]
    pub fn request(&mut self) -> Option<Request> {
        let head = self.take_until(HEAD_END)?;
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        request.parse(&head).unwrap_or_else(|error| panic!("{error} in {}", shown(&head)));
        Some(Request {
            method: request.method.expect("a request has a method").to_owned(),
            target: request.path.expect("a request has a target").to_owned(),
            version: request.version.expect("a request has a version"),
            headers: owned(request.headers),
        })
    }

    /// The head of the next response, its body not read.
    #[track_caller]
    pub fn response_head(&mut self) -> Response {
        let head = self.take_until(HEAD_END).expect("a response, not the end");
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        response.parse(&head).unwrap_or_else(|error| panic!("{error} in {}", shown(&head)));
        Response {
            status: response.code.expect("a response has a status"),
            version: response.version.expect("a response has a version"),
            headers: owned(response.headers),
            body: Vec::new(),
            trailers: Headers::default(),
        }
    }

    /// The next response to a GET or its like, whole.
    #[track_caller]
    pub fn response(&mut self) -> Response {
        let mut response = self.response_head();
        let has_none = matches!(response.status, 100..=199 | 204 | 304);
        let body = match (has_none, response.headers.is_chunked(), response.headers.length()) {
            (true, ..) => Body::default(),
            (_, false, None) => Body { bytes: self.rest(), trailers: Headers::default() },
            _ => self.body(&response.headers),
        };
        response.body = body.bytes;
        response.trailers = body.trailers;
        response
    }

    /// The body behind a head with these headers: chunked, of a length, or none.
    #[track_caller]
    pub fn body(&mut self, headers: &Headers) -> Body {
        if !headers.is_chunked() {
            let bytes = self.take(headers.length().unwrap_or(0));
            return Body { bytes, trailers: Headers::default() };
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk() {
            bytes.extend(chunk);
        }
        Body { bytes, trailers: self.trailers() }
    }

    /// The next chunk of a chunked body; `None` is the last one, behind which are the trailers.
    #[track_caller]
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = self.take_until(b"\r\n").expect("a chunk, not the end");
        let size = String::from_utf8_lossy(&line).trim().to_owned();
        let size = usize::from_str_radix(&size, 16).unwrap_or_else(|_| panic!("chunk {size:?}"));
        if size == 0 {
            return None;
        }
        let chunk = self.take(size);
        assert_eq!(self.take(2), b"\r\n", "behind a chunk");
        Some(chunk)
    }

    /// The trailers behind the last chunk.
    #[track_caller]
    pub fn trailers(&mut self) -> Headers {
        let mut block = Vec::new();
        while !block.ends_with(HEAD_END) && block != b"\r\n" {
            block.extend(self.take_until(b"\r\n").expect("trailers, not the end"));
        }
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let parsed = httparse::parse_headers(&block, &mut headers);
        let Ok(httparse::Status::Complete((_, trailers))) = parsed else {
            panic!("trailers {}", shown(&block));
        };
        owned(trailers)
    }

    /// Sends a chunk.
    #[track_caller]
    pub fn send_chunk(&mut self, chunk: &[u8]) {
        self.send([format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
    }
}

fn owned(headers: &[httparse::Header<'_>]) -> Headers {
    let owned = |header: &httparse::Header<'_>| {
        (header.name.to_owned(), String::from_utf8_lossy(header.value).into_owned())
    };
    Headers(headers.iter().map(owned).collect())
}

fn shown(bytes: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(bytes))
}

const HEAD_END: &[u8] = b"\r\n\r\n";
const HEADERS: usize = 128;
