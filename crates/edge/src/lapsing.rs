//! The end of a tunnel whose client's identity does not hold any more.
//!
//! ```text
//!   client ──frames──> X   cut at the end of a frame; the server gets a Close 1001
//!   client <──Close──< X   cut at the end of a frame; the client gets a Close 3000 or 3003
//! ```
//!
//! From then on what either side says is dropped, also when the client does not care for the
//! Close. The two are still followed, to see their Closes: the tunnel is over when both have said
//! theirs or are gone, or when `client_fin` has passed.

use bytes::BytesMut;
use tidewire_auth::live::Lapse;
use tidewire_runtime::socket::Socket;
use tidewire_wire::ws::close::{CloseCode, encode_close};
use tidewire_wire::ws::cursor::Cursor;

use crate::end::{End, Party, Reason};
use crate::flow::Flow;

/// A tunnel on its way out.
#[derive(Debug)]
pub(crate) struct Lapsing {
    lapse: Lapse,
    /// Whether this is why it ends: it was not closing before.
    is_reason: bool,
    is_up_cut: bool,
    is_down_cut: bool,
    /// What the client says that is not passed on.
    client: Cursor,
    /// What the server says that is not passed on.
    server: Cursor,
}

impl Lapsing {
    pub(crate) fn new(lapse: Lapse) -> Self {
        Self {
            lapse,
            is_reason: true,
            is_up_cut: false,
            is_down_cut: false,
            client: Cursor::new(),
            server: Cursor::new(),
        }
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

    /// Who follows what is dropped: of the client, of the server.
    pub(crate) fn dropped(&mut self) -> (&mut Cursor, &mut Cursor) {
        (&mut self.client, &mut self.server)
    }

    /// Cuts each direction that is between two frames. True when one was cut by that.
    pub(crate) fn cut(
        &mut self,
        (up, server): (&mut Flow, &mut Socket),
        (down, client): (&mut Flow, &mut Socket),
    ) -> Result<bool, End> {
        let before = (self.is_up_cut, self.is_down_cut);
        if !self.is_up_cut {
            let mut close = BytesMut::new();
            let mask = fastrand::u32(..).to_ne_bytes();
            encode_close(CloseCode::GOING_AWAY, "", Some(mask), &mut close);
            let cut = up.cut(server, &close);
            self.is_up_cut = cut.map_err(|_| self.end_or(Party::Server))?;
        }
        if !self.is_down_cut {
            let mut close = BytesMut::new();
            let (code, reason) = words(self.lapse);
            encode_close(code, reason, None, &mut close);
            let cut = down.cut(client, &close);
            self.is_down_cut = cut.map_err(|_| self.end_or(Party::Client))?;
        }
        // Where frames end cannot be told any more, so there is no place for a Close.
        if up.cursor.is_lost() && !self.is_up_cut || down.cursor.is_lost() && !self.is_down_cut {
            return Err(self.end_or(Party::Client));
        }
        Ok(before != (self.is_up_cut, self.is_down_cut))
    }

    /// Whether the client has had its Close, and has said its own or is gone.
    pub(crate) fn has_client_left(&self, up: &Flow, (down, client): (&Flow, &Socket)) -> bool {
        let has_left = up.pump.is_ended() || up.has_close() || self.client.has_close();
        self.is_down_cut && !down.pump.is_backed_up(client) && has_left
    }

    /// Whether nothing more is to be waited for.
    pub(crate) fn is_over(
        &self,
        (up, server): (&Flow, &Socket),
        (down, client): (&Flow, &Socket),
    ) -> bool {
        let has_server_left = down.pump.is_ended() || down.has_close() || self.server.has_close();
        let is_up_written = self.is_up_cut && !up.pump.is_backed_up(server);
        self.has_client_left(up, (down, client)) && is_up_written && has_server_left
    }

    /// The end that it is, if this is why it ends.
    pub(crate) fn end(&self) -> Option<End> {
        let reason = match self.lapse {
            Lapse::Expired => Reason::Expired,
            Lapse::Revoked => Reason::Revoked,
        };
        let code = words(self.lapse).0.as_u16();
        self.is_reason.then(|| End::by(Party::Edge, reason).with_code(Some(code)))
    }

    fn end_or(&self, broken: Party) -> End {
        self.end().unwrap_or(End::by(broken, Reason::Broken))
    }
}

fn words(lapse: Lapse) -> (CloseCode, &'static str) {
    match lapse {
        Lapse::Expired => (CloseCode::UNAUTHORIZED, "token expired"),
        Lapse::Revoked => (CloseCode::FORBIDDEN, "revoked"),
    }
}
