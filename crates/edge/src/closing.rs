//! The end of a tunnel that the edge decides on: both sides are told why, and no more passes.
//!
//! ```text
//!   client ──frames──> X   cut at the end of a frame; the server gets a Close
//!   client <──Close──< X   cut at the end of a frame
//! ```
//!
//! From then on what either side says is dropped, also when it does not care for the Close. The two
//! are still followed, to see their Closes: the tunnel is over when both have said theirs or are
//! gone, or when `client_fin` has passed (`server_fin`, if it is the server's doing).
//!
//! To add a cause: a variant, and its arm in each of the three matches.

use std::fmt;

use bytes::BytesMut;
use tidewire_auth::live::Lapse;
use tidewire_runtime::socket::Socket;
use tidewire_wire::Violation;
use tidewire_wire::ws::close::{CloseCode, encode_close};

use crate::end::{End, Party, Reason};
use crate::flow::Flow;

/// Why the edge ends a tunnel in good order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The client's identity does not hold any more.
    Lapsed(Lapse),
    ClientBroke(Violation),
    ServerBroke(Violation),
    /// It is as old as it may become.
    Lifetime,
    /// Its client is to come again, to another server.
    Rebalance,
    ServerDown,
}

/// A tunnel on its way out.
#[derive(Debug)]
pub(crate) struct Closing {
    cause: Cause,
    /// Whether this is why it ends: it was not closing before.
    is_reason: bool,
    is_up_cut: bool,
    is_down_cut: bool,
}

impl Closing {
    pub(crate) fn new(cause: Cause) -> Self {
        Self { cause, is_reason: true, is_up_cut: false, is_down_cut: false }
    }

    /// Of a tunnel that was closing already, for another reason; `is_down_cut` when the client has
    /// had a Close of ours.
    pub(crate) fn on_the_way_out(self, is_down_cut: bool) -> Self {
        Self { is_reason: false, is_down_cut, ..self }
    }

    /// Whether a direction that has ended may be told so: its Close is out, if there was a place
    /// for one. Upward, downward.
    pub(crate) fn may_tell(&self) -> (bool, bool) {
        (self.is_up_cut, self.is_down_cut)
    }

    /// Whose answer is waited for longest.
    pub(crate) fn waits_for(&self) -> Party {
        match self.cause {
            Cause::Lapsed(_) | Cause::ClientBroke(_) | Cause::Lifetime => Party::Client,
            Cause::Rebalance | Cause::ServerDown => Party::Client,
            Cause::ServerBroke(_) => Party::Server,
        }
    }

    /// Cuts each direction that is between two frames. True when one was cut by that.
    pub(crate) fn cut(
        &mut self,
        (up, server): (&mut Flow, &mut Socket),
        (down, client): (&mut Flow, &mut Socket),
    ) -> Result<bool, End> {
        let before = (self.is_up_cut, self.is_down_cut);
        let (to_client, to_server) = self.cause.words();
        if !self.is_up_cut {
            let close = to_server.frame(Some(fastrand::u32(..).to_ne_bytes()));
            let cut = up.cut(server, &close);
            self.is_up_cut = cut.map_err(|_| self.end_or(Party::Server))?;
        }
        if !self.is_down_cut {
            let cut = down.cut(client, &to_client.frame(None));
            self.is_down_cut = cut.map_err(|_| self.end_or(Party::Client))?;
        }
        // Where frames end cannot be told any more, so there is no place for a Close.
        let (up, down) = (&up.frames.cursor, &down.frames.cursor);
        if up.is_lost() && !self.is_up_cut || down.is_lost() && !self.is_down_cut {
            return Err(self.end_or(Party::Client));
        }
        Ok(before != (self.is_up_cut, self.is_down_cut))
    }

    /// Whether the client has had its Close, and has said its own or is gone.
    pub(crate) fn has_client_left(&self, up: &Flow, (down, client): (&Flow, &Socket)) -> bool {
        self.is_down_cut && !down.pump.is_backed_up(client) && up.has_source_left()
    }

    /// Whether nothing more is to be waited for.
    pub(crate) fn is_over(
        &self,
        (up, server): (&Flow, &Socket),
        (down, client): (&Flow, &Socket),
    ) -> bool {
        let is_up_written = self.is_up_cut && !up.pump.is_backed_up(server);
        self.has_client_left(up, (down, client)) && is_up_written && down.has_source_left()
    }

    /// The end that it is, if this is why it ends.
    pub(crate) fn end(&self) -> Option<End> {
        self.is_reason.then(|| self.cause.end())
    }

    /// What the log line says besides, if this is why it ends.
    pub(crate) fn violation(&self) -> Option<Violation> {
        match self.cause {
            Cause::ClientBroke(violation) | Cause::ServerBroke(violation) => {
                Some(violation).filter(|_| self.is_reason)
            }
            Cause::Lapsed(_) | Cause::Lifetime | Cause::Rebalance | Cause::ServerDown => None,
        }
    }

    fn end_or(&self, broken: Party) -> End {
        self.end().unwrap_or(End::by(broken, Reason::Broken))
    }
}

impl Cause {
    fn end(&self) -> End {
        let (to_client, to_server) = self.words();
        let (by, reason, words) = match self {
            Self::Lapsed(Lapse::Expired) => (Party::Edge, Reason::Expired, to_client),
            Self::Lapsed(Lapse::Revoked) => (Party::Edge, Reason::Revoked, to_client),
            Self::Lifetime => (Party::Edge, Reason::Lifetime, to_client),
            Self::Rebalance => (Party::Edge, Reason::Rebalance, to_client),
            Self::ServerDown => (Party::Edge, Reason::ServerDown, to_client),
            Self::ClientBroke(violation) => (Party::Client, reason(violation), to_client),
            Self::ServerBroke(violation) => (Party::Server, reason(violation), to_server),
        };
        End::by(by, reason).with_code(Some(words.code.as_u16()))
    }

    /// What is said to the client, and to the server.
    fn words(&self) -> (Words, Words) {
        let text = |code, text| Words { code, why: Why::Text(text) };
        let blame = |violation: Violation| Words {
            code: violation.close_code(),
            why: Why::Violation(violation),
        };
        let leaving = text(CloseCode::GOING_AWAY, "");
        match *self {
            Self::Lapsed(Lapse::Expired) => {
                (text(CloseCode::UNAUTHORIZED, "token expired"), leaving)
            }
            Self::Lapsed(Lapse::Revoked) => (text(CloseCode::FORBIDDEN, "revoked"), leaving),
            Self::ClientBroke(violation) => (blame(violation), leaving),
            Self::ServerBroke(violation) => (leaving, blame(violation)),
            Self::Lifetime => (text(CloseCode::GOING_AWAY, "lifetime"), leaving),
            // What clients that know the code take for: come again, at once or soon.
            Self::Rebalance => (text(CloseCode::SERVICE_RESTART, "rebalance"), leaving),
            Self::ServerDown => (text(CloseCode::SERVICE_RESTART, "server down"), leaving),
        }
    }
}

/// What one side is told.
#[derive(Clone, Copy, Debug)]
struct Words {
    code: CloseCode,
    why: Why,
}

#[derive(Clone, Copy, Debug)]
enum Why {
    Text(&'static str),
    Violation(Violation),
}

impl Words {
    fn frame(&self, mask: Option<[u8; 4]>) -> BytesMut {
        let mut frame = BytesMut::new();
        encode_close(self.code, &self.why.to_string(), mask, &mut frame);
        frame
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Violation(violation) => violation.fmt(f),
        }
    }
}

/// The name that a violation has in the log and in metrics.
fn reason(violation: &Violation) -> Reason {
    match violation {
        Violation::FrameTooBig { .. }
        | Violation::MessageTooBig { .. }
        | Violation::TooManyFragments { .. } => Reason::TooBig,
        Violation::OpcodeRefused(_) => Reason::Opcode,
        Violation::TooFast(_) => Reason::Rate,
        _ => Reason::BadFrame,
    }
}
