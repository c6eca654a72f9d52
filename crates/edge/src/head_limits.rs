//! How large the heads of requests may be on a listener.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidewire_runtime::units::Size;
use tidewire_wire::http::framing::HeadLimits;

/// How large the head of a request may be. A proxy holds a whole head before it can do anything
/// with it, so there is no key without a limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// The longest request line: method, target and version. A longer one is answered 414. At most
    /// 63KiB.
    pub max_request_line: Size,
    /// The largest head: request line and all headers. A larger one is answered 431. At most 1MiB.
    pub max_head: Size,
    /// The most headers; more are answered 431.
    pub max_headers: u32,
    /// The largest header, its name and its value; a larger one is answered 431. Tokens in cookies
    /// may need more.
    pub max_header: Size,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            max_request_line: Size(8 << 10),
            max_head: Size(16 << 10),
            max_headers: 100,
            max_header: Size(8 << 10),
        }
    }
}

impl HttpConfig {
    pub fn limits(&self) -> HeadLimits {
        let bytes = |size: Size| u32::try_from(size.0).unwrap_or(u32::MAX);
        HeadLimits {
            request_line: bytes(self.max_request_line),
            head: bytes(self.max_head),
            headers: self.max_headers,
            header: bytes(self.max_header),
        }
    }
}

/// hyper for clients with heads within `limits`. It has bounds of its own for what it holds; they
/// must not be reached first.
pub(crate) fn server(limits: &HeadLimits) -> hyper::server::conn::http1::Builder {
    let mut http = hyper::server::conn::http1::Builder::new();
    let head = usize::try_from(limits.head).unwrap_or(usize::MAX);
    let headers = usize::try_from(limits.headers).unwrap_or(usize::MAX);
    http.max_buf_size(head.saturating_add(SLACK).max(HYPER_LEAST));
    http.max_headers(headers).half_close(false);
    http
}

/// The longest line that the library reads a target from.
pub const REQUEST_LINE_MOST: Size = Size(63 << 10);

/// The largest head: each client may have one in memory.
pub const HEAD_MOST: Size = Size(1 << 20);

/// For the line ends around a head, which it does not count.
const SLACK: usize = 16;

/// It takes no smaller buffer.
const HYPER_LEAST: usize = 8192;
