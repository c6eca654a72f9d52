//! The PROXY protocol towards servers: whose each connection to one is, said in front of all else.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidewire_runtime::conn::is_unix;
use tidewire_wire::proxy_protocol::header::HeaderVersion;
use tidewire_wire::proxy_protocol::{Ends, Said};

use crate::caller::Way;

/// The version of the PROXY protocol by which servers are told where clients are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SendProxy {
    /// A line of text.
    V1,
    /// Bytes of a fixed form, which most servers read as well and faster.
    V2,
}

/// Whose a connection to a server is, as the server is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The edge's own, such as a probe's.
    Edge,
    /// That of the client at the source of these ends.
    Client(Ends),
    /// That of a client without an address.
    Unknown,
}

impl Whose {
    /// Whose the connection is that is made because of a client's; `None` is the edge itself.
    pub fn of(way: Option<Way>) -> Self {
        match way {
            None => Self::Edge,
            Some(Way { client, .. }) if is_unix(client) => Self::Unknown,
            Some(Way { client, local }) => {
                Self::Client(Ends { source: client, destination: local })
            }
        }
    }

    /// What says so.
    pub fn header(self, version: SendProxy) -> Vec<u8> {
        let said = match self {
            Self::Client(ends) => Said::Client(ends),
            Self::Edge | Self::Unknown => Said::Nothing,
        };
        said.header(match version {
            SendProxy::V1 => HeaderVersion::V1,
            SendProxy::V2 => HeaderVersion::V2,
        })
    }

    /// Whether all whose connections are said to be this are one: others get none that was used for
    /// it. Clients without a port may be many behind one address.
    pub fn is_one(self) -> bool {
        match self {
            Self::Edge => true,
            Self::Client(ends) => ends.source.port() != 0,
            Self::Unknown => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use tidewire_runtime::conn::UNIX;

    use super::*;

    #[test]
    fn a_connection_is_somebody_s() {
        let way = |client: &str| {
            Some(Way { client: client.parse().unwrap(), local: "192.0.2.9:80".parse().unwrap() })
        };
        let check = |way: Option<Way>, header: &str, is_one: bool| {
            let whose = Whose::of(way);
            assert_eq!(String::from_utf8(whose.header(SendProxy::V1)).unwrap(), header);
            assert_eq!(whose.is_one(), is_one, "{whose:?}");
        };
        check(None, "PROXY UNKNOWN\r\n", true);
        check(way("192.0.2.1:5"), "PROXY TCP4 192.0.2.1 192.0.2.9 5 80\r\n", true);
        check(way("192.0.2.1:0"), "PROXY TCP4 192.0.2.1 192.0.2.9 0 80\r\n", false);
        check(Some(Way { client: UNIX, local: UNIX }), "PROXY UNKNOWN\r\n", false);
    }
}
