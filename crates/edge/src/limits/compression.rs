//! Whether clients and servers may agree on compressed messages.

use std::borrow::Cow;

use http::header::{self, HeaderMap};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidewire_wire::ws::handshake::Offer;

/// Whether clients and servers may agree on compressed messages, or on any other extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// They may. Limits on sizes hold for what is on the wire, not for what becomes of it.
    Allow,
    /// Servers do not hear that a client offers it, so messages are as big as they are.
    Refuse,
}

impl Compression {
    /// The offer that goes on to a server, in the `headers` of the request, too.
    pub(crate) fn restrict<'o>(self, offer: &'o Offer, headers: &mut HeaderMap) -> Cow<'o, Offer> {
        match self {
            Self::Allow => Cow::Borrowed(offer),
            Self::Refuse => {
                headers.remove(header::SEC_WEBSOCKET_EXTENSIONS);
                Cow::Owned(Offer { extensions: Vec::new(), ..offer.clone() })
            }
        }
    }
}
