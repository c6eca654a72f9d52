//! The end of a tunnel that the edge decides on: who is told so, and who is waited for. Where a
//! timeout would end it too, that takes half a minute here.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};

use tidewire_testkit::deadline::DEADLINE;
use tidewire_testkit::http::Request;
use tidewire_testkit::peer::Peer;
use tidewire_testkit::rig::Rig;
use tidewire_testkit::script;
use tidewire_testkit::websocket::{Got, Opcode, WebSocket, client_frame, server_frame};

const PATIENT: &str = "[timeout]\nclient-fin = \"30s\"\nserver-fin = \"30s\"\n";
/// A frame of a length that no frame has: where it ends nobody can say.
const ENDLESS: [u8; 10] = [0x82, 0x7F, 0x80, 0, 0, 0, 0, 0, 0, 1];

/// A server whose side of a WebSocket is `act`, and what that finds.
fn finds<T: Send + 'static>(
    act: impl Fn(&mut WebSocket) -> T + Send + Sync + 'static,
) -> (impl Fn(&Request, &mut Peer) + Send + Sync + 'static, Receiver<T>) {
    let (sender, found) = channel();
    let sender = Mutex::new(sender);
    let script = move |request: &Request, peer: &mut Peer| {
        let mut socket = script::accepts(request, peer);
        let found = act(&mut socket);
        let _ = sender.lock().unwrap().send(found);
    };
    (script, found)
}

#[track_caller]
fn soon<T>(found: &Receiver<T>) -> T {
    found.recv_timeout(DEADLINE).expect("the server gets that far")
}

#[test]
fn who_hangs_up_within_a_frame_when_its_time_is_over_is_not_waited_for() {
    let (script, heard) = finds(|socket| socket.next());
    let rig = Rig::with(script, &format!("{PATIENT}[limits]\nlifetime = \"3s\""));
    let mut socket = rig.open();
    socket.peer.send(&client_frame(Opcode::Text, b"never finished")[..10]);
    assert_eq!(socket.next(), Got::Close(Some(1001), "lifetime".to_owned()));
    socket.peer.finish();
    assert_eq!(soon(&heard), Got::End);
    assert_eq!(socket.next(), Got::End);
}

#[test]
fn who_has_had_a_close_gets_no_second_one_when_the_other_side_breaks_a_rule() {
    let (script, heard) = finds(|socket| {
        let close = socket.peer.take(8);
        let mut wrong = server_frame(Opcode::Text, b"wrong");
        wrong[0] |= 0x40;
        socket.peer.send(wrong);
        (close[0], socket.peer.rest())
    });
    // It is the server's time to answer that counts.
    let more = PATIENT.replace("server-fin = \"30s\"", "server-fin = \"3s\"");
    let mut rig = Rig::with(script, &more);
    let mut socket = rig.open();
    socket.send_close(4000, "");
    assert_eq!(socket.next(), Got::Close(Some(1001), String::new()));
    assert_eq!(soon(&heard), (0x88, Vec::new()));
    // That was under way to its end before.
    let line = rig.edge.log_line(&["websocket", "by=\"client\"", "reason=\"close\"", "code=4000"]);
    assert!(!line.contains("reserved bits"), "{line}");
}

#[test]
fn who_sends_what_cannot_be_followed_is_not_waited_for() {
    let (script, heard) = finds(|socket| {
        let close = socket.next();
        socket.send_close(1001, "");
        close
    });
    let rig = Rig::with(script, PATIENT);
    let mut socket = rig.open();
    let mut endless = ENDLESS.to_vec();
    endless[1] |= 0x80;
    socket.peer.send([&endless[..], &[1, 2, 3, 4]].concat());
    assert!(matches!(socket.next(), Got::Close(Some(1002), _)));
    assert_eq!(soon(&heard), Got::Close(Some(1001), String::new()));
    assert_eq!(socket.next(), Got::End);
}

#[test]
fn a_server_that_cannot_be_followed_is_cut_off_when_the_time_is_over() {
    let (script, gone) = finds(|socket| {
        socket.peer.send(ENDLESS);
        socket.peer.expect_gone();
    });
    let more = format!("{PATIENT}[limits]\nprofile = \"off\"\nlifetime = \"3s\"");
    let mut rig = Rig::with(script, &more);
    let mut socket = rig.open();
    assert_eq!(socket.peer.take(10), ENDLESS);
    socket.peer.expect_gone();
    soon(&gone);
    rig.edge.log_line(&["websocket", "by=\"edge\"", "reason=\"lifetime\""]);
}

#[test]
fn who_waits_for_its_rate_is_heard_when_it_answers_its_close() {
    let limits = "[limits]\nlifetime = \"1s\"\nclient = { messages = \"1/h\" }";
    let rig = Rig::with(script::stalls_after_101, &format!("{PATIENT}{limits}"));
    let mut socket = rig.open();
    socket.peer.send(client_frame(Opcode::Text, b"too much").repeat(2));
    assert_eq!(socket.next(), Got::Close(Some(1001), "lifetime".to_owned()));
    socket.send_close(1001, "");
    assert_eq!(socket.next(), Got::End);
}
