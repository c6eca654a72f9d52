//! What a client can do wrong in the framing of HTTP/1, and the status that says so.

/// The one thing that was wrong with a request; nothing is read after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FramingFault {
    #[error("this listener speaks plain HTTP and the client began a TLS handshake")]
    Tls,
    #[error("more than one empty line came before the request")]
    EmptyLines,
    #[error("the method has the byte {0:#04x}; it is a word such as GET, and one space follows")]
    Method(u8),
    #[error("the method has more than {max} bytes")]
    MethodTooLong { max: u32 },
    #[error("the target begins with the byte {0:#04x}; it is a path such as /chat")]
    TargetForm(u8),
    #[error("the target has the byte {0:#04x}; it is to be percent-encoded")]
    Target(u8),
    #[error("the target has a `#`; a fragment stays with the client")]
    Fragment,
    #[error("the target is neither a path nor begins with http:// or https://")]
    Scheme,
    #[error("the request line has no HTTP version; it ends in HTTP/1.1")]
    NoVersion,
    #[error("the request line does not end in HTTP/1.1 or HTTP/1.0")]
    NotHttp,
    #[error("only HTTP/1.1 and HTTP/1.0 are spoken here")]
    Version,
    #[error("the request line has more than {max} bytes")]
    LineTooLong { max: u32 },
    #[error("the head has more than {max} bytes")]
    HeadTooLarge { max: u32 },
    #[error("a header has more than {max} bytes")]
    HeaderTooLarge { max: u32 },
    #[error("there are more than {max} headers")]
    TooManyHeaders { max: u32 },
    #[error("a CR stands alone; lines end in CR and LF")]
    BareCr,
    #[error("an LF stands alone; lines end in CR and LF")]
    BareLf,
    #[error("a header line begins with white space; a header is one line")]
    Folded,
    #[error("a header has no name")]
    NameMissing,
    #[error("a header's name has the byte {0:#04x}; it is letters, digits and hyphens")]
    Name(u8),
    #[error("there is white space between a header's name and its colon")]
    SpaceBeforeColon,
    #[error("a header line has no colon")]
    NoColon,
    #[error("a header's value has the byte {0:#04x}")]
    Value(u8),
    #[error("Content-Length is there more than once")]
    LengthRepeated,
    #[error("Content-Length is not a number: only digits may be in it")]
    LengthNotNumber,
    #[error("Content-Length is beyond any body")]
    LengthTooLarge,
    #[error("Content-Length and Transfer-Encoding are both there; a body has one or the other")]
    LengthAndCoding,
    #[error("HTTP/1.0 has no Transfer-Encoding")]
    CodingInHttp10,
    #[error("Transfer-Encoding is not a list of names")]
    CodingNotName,
    #[error("Transfer-Encoding has chunked more than once")]
    CodingRepeated,
    #[error("no transfer coding but chunked is served")]
    CodingUnknown,
    #[error("a WebSocket handshake has no body")]
    BodyInHandshake,
    #[error("a chunk's size has the byte {0:#04x}; it is hexadecimal digits alone")]
    ChunkSize(u8),
    #[error("a chunk's size has more than {max} digits")]
    ChunkSizeTooLong { max: u32 },
    #[error("the extensions of chunks have more than {max} bytes")]
    ExtensionsTooLong { max: u32 },
    #[error("an extension of a chunk has the byte {0:#04x}")]
    Extension(u8),
    #[error("a chunk is longer than its size says; CR and LF follow its last byte")]
    ChunkEnd,
    #[error("the trailers have a header that says where a message ends")]
    TrailerFrames,
}

impl FramingFault {
    /// The status of the answer.
    pub fn status(self) -> http::StatusCode {
        use http::StatusCode;
        match self {
            Self::LineTooLong { .. } => StatusCode::URI_TOO_LONG,
            Self::HeadTooLarge { .. }
            | Self::HeaderTooLarge { .. }
            | Self::TooManyHeaders { .. } => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::CodingUnknown | Self::MethodTooLong { .. } => StatusCode::NOT_IMPLEMENTED,
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}
