//! An endpoint that says back what it hears.

use std::future::poll_fn;
use std::task::{Poll, ready};

use tidewire_runtime::conn::Upgraded;
use tidewire_runtime::connections::Signal;

use crate::end::{End, Party, Reason};
use crate::endpoint::{Admission, AdmitFuture, Arrival, Ended, Endpoint, Passed, Refused};

/// Where WebSockets end that go to no server.
pub struct Stub;

/// The subprotocol that it names, by which its clients are told from those of servers.
pub const SUBPROTOCOL: &str = "stub";

struct Admitted;

impl Endpoint for Stub {
    fn admit<'a>(&'a self, arrival: Arrival<'a>) -> AdmitFuture<'a> {
        let is_full = arrival.captures.iter().any(|(_, topic)| topic == "full");
        Box::pin(async move {
            if is_full {
                let status = http::StatusCode::SERVICE_UNAVAILABLE;
                return Err(Refused { status, detail: "full".to_owned() });
            }
            Ok(Box::new(Admitted) as Box<dyn Admission>)
        })
    }
}

impl Admission for Admitted {
    fn subprotocol(&self) -> Option<&'static str> {
        Some(SUBPROTOCOL)
    }

    fn start(self: Box<Self>, upgraded: Upgraded, ended: Ended) {
        tokio::task::spawn_local(async move {
            let end = echo(upgraded).await;
            ended(end, Passed::default());
        });
    }
}

/// Until the client ends, or says nothing for a while.
async fn echo(upgraded: Upgraded) -> End {
    let Upgraded { mut conn, leftover } = upgraded;
    let _ = conn.socket.try_write(&leftover);
    conn.watch.expire_after(QUIET_TICKS);
    let mut buffer = [0; 256];
    let reason = poll_fn(|cx| {
        loop {
            if let Poll::Ready(signal) = conn.watch.poll_signal(cx) {
                return Poll::Ready(match signal {
                    Signal::Expired => Reason::IdleTimeout,
                    Signal::Drain | Signal::Stop => Reason::Drain,
                });
            }
            match ready!(conn.socket.poll_read(cx, &mut buffer)) {
                Ok(0) => return Poll::Ready(Reason::Eof),
                // What does not fit now is lost; it is only a stub.
                Ok(length) => drop(conn.socket.try_write(&buffer[..length])),
                Err(_) => return Poll::Ready(Reason::Broken),
            }
        }
    });
    End::by(Party::Client, reason.await)
}

const QUIET_TICKS: u32 = 20;
