//! The TLS handshake of a client's connection: on its own task, within `client_hs`, and with an end
//! of its own when it comes to nothing.

use std::future::Future;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use tidewire_runtime::conn::Conn;
use tidewire_runtime::connections::Signal;
use tidewire_runtime::deadline::ticks;
use tidewire_runtime::socket::Refused;
use tidewire_runtime::tls::Secured;
use tidewire_runtime::tls::error::TlsError;
use x509_parser::parse_x509_certificate;

use super::Tls;
use super::date::Date;
use super::failure::Failure;
use crate::access_log::ConnectionRecord;
use crate::challenge;
use crate::client_address::ClientAddress;
use crate::end::{End, Party, Phase, Reason};
use crate::linger::linger;
use crate::service::EdgeShard;

/// Makes the handshake. `None` when it came to nothing: the connection is over, and has its line.
pub async fn handshake(
    shard: &Rc<EdgeShard>,
    conn: Conn,
    listener: usize,
    tls: &Tls,
) -> Option<(Conn, Secured)> {
    let Conn { socket, watch, peer, local } = conn;
    let begun = Instant::now();
    let config = tls.config();
    watch.expire_after(ticks(shard.edge.timeouts.client_hs.0));
    let mut accepting = std::pin::pin!(socket.accept_tls(&config));
    let outcome = std::future::poll_fn(|cx| {
        if let Poll::Ready(accepted) = accepting.as_mut().poll(cx) {
            return Poll::Ready(Ok(accepted));
        }
        watch.poll_signal(cx).map(|signal| match signal {
            Signal::Expired => Err(Failure::Timeout),
            // Nothing was asked yet, so nothing is lost.
            Signal::Drain | Signal::Stop => Err(Failure::Drain),
        })
    });
    let log = |failure, error| {
        let record = ConnectionRecord {
            client: ClientAddress::direct(peer),
            listener,
            begun,
            requests: 0,
            bytes_in: 0,
            bytes_out: 0,
            tls: None,
            error,
        };
        if let Some(failure) = failure {
            shard.metrics.tls.failed.add(1);
            shard.metrics.tls.failures[failure as usize].add(1);
        }
        record.log(shard, end(failure), Phase::Tls);
    };
    match outcome.await {
        Ok(Ok((_, secured))) if has_expired_since(&secured) => {
            let error = "the client's certificate has expired since its session began";
            log(Some(Failure::ClientCertificate), Some(error.to_owned()));
        }
        // An authority has seen what it came for (RFC 8737, section 3).
        Ok(Ok((mut socket, secured))) if secured.alpn.as_deref() == Some(challenge::ALPN) => {
            log(None, None);
            linger(&mut socket, &watch).await;
        }
        Ok(Ok((socket, secured))) => {
            let counts = &shard.metrics.tls;
            if secured.resumed { &counts.resumed } else { &counts.full }.add(1);
            watch.expire_never();
            return Some((Conn { socket, watch, peer, local }, secured));
        }
        Ok(Err(Refused { error, mut socket })) => {
            if error.is_ours() {
                tracing::error!(client = %peer, %error, "TLS: a handshake failed by our doing");
            }
            let is_gone = matches!(error, TlsError::Silent | TlsError::Eof | TlsError::Io(_));
            let failure = Failure::of(&error);
            log(failure, failure.map(|_| error.to_string()));
            if !is_gone {
                linger(&mut socket, &watch).await;
            }
        }
        Err(failure) => log(Some(failure), None),
    }
    None
}

/// Who ended it, and why.
fn end(failure: Option<Failure>) -> End {
    match failure {
        None => End::by(Party::Client, Reason::Eof),
        Some(Failure::Timeout) => End::by(Party::Client, Reason::ClientHsTimeout),
        Some(Failure::Drain) => End::by(Party::Edge, Reason::Drain),
        Some(Failure::Internal) => End::by(Party::Edge, Reason::Internal),
        Some(Failure::Broken) => End::by(Party::Client, Reason::Broken),
        Some(_) => End::by(Party::Client, Reason::TlsHandshake),
    }
}

/// A session that is resumed is not asked for its certificate again, which was good for as long as
/// it says. (What revokes it makes a new configuration, which takes no older session.)
fn has_expired_since(secured: &Secured) -> bool {
    let Some(certificate) = secured.certificates.first().filter(|_| secured.resumed) else {
        return false;
    };
    parse_x509_certificate(certificate)
        .map_or(true, |(_, it)| Date::from(it.validity().not_after) < Date::now())
}
