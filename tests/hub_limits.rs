//! What a client of the hub may send, by the limits of its route.

use std::time::{Duration, Instant};

use tidewire_testkit::raw_frame::{BINARY, CONTINUATION, PING, PONG, RawFrame, Side, TEXT};
use tidewire_testkit::tidewire::{Tidewire, hub};
use tidewire_testkit::websocket::{Got, Opcode, WebSocket};

/// A hub node whose only route has these limits.
#[track_caller]
fn limited(limits: &str, more: &str) -> Tidewire {
    Tidewire::run(&format!("{}limits = {{ {limits} }}\n", hub("server1", more)))
}

/// Opens a WebSocket, and says who it is in the log.
#[track_caller]
fn open(node: &Tidewire) -> (WebSocket, String) {
    let socket = WebSocket::connect(node.address(), "/ws/room");
    let client = format!("client={} ", socket.peer.local_address());
    (socket, client)
}

/// The next Close, whatever comes before it.
#[track_caller]
fn close_of(socket: &mut WebSocket) -> (Option<u16>, String) {
    loop {
        match socket.next() {
            Got::Close(code, reason) => return (code, reason),
            Got::End => panic!("the end without a Close"),
            _ => {}
        }
    }
}

fn bytes(frames: &[RawFrame]) -> Vec<u8> {
    frames.iter().flat_map(|frame| frame.bytes(Side::Client)).collect()
}

/// A client of such a route sends `frames` and is closed with `code`, which says `says`, and is
/// `reason` in the log.
#[track_caller]
fn check_closed(
    (limits, more): (&str, &str),
    frames: &[RawFrame],
    code: u16,
    says: &str,
    reason: &str,
) {
    let mut node = limited(limits, more);
    let (mut socket, client) = open(&node);
    socket.peer.send(bytes(frames));
    let (found, why) = close_of(&mut socket);
    assert_eq!(found, Some(code), "{limits}: {why}");
    assert!(why.contains(says), "{limits}: {why}");
    assert_eq!(socket.next(), Got::End);
    drop(socket);
    let reason = format!("reason=\"{reason}\"");
    node.log_line(&["websocket", &client, "by=\"client\"", &reason, &format!("code={code}")]);
}

fn text(length: usize) -> RawFrame {
    RawFrame::new(TEXT, vec![b'x'; length])
}

// Sizes and kinds.

#[test]
fn of_two_limits_on_messages_the_smaller_one_holds() {
    let big = [text(1).announcing(2000)];
    check_closed(("client.max_message = \"1KiB\"", ""), &big, 1009, "limit is 1024", "too_big");
    let hubs = "max_message = \"1KiB\"";
    let limits = "client.max_message = \"1MiB\"";
    check_closed((limits, hubs), &big, 1009, "limit is 1024", "too_big");
    check_closed(("profile = \"off\"", hubs), &big, 1009, "limit is 1024", "too_big");
    check_closed(("client.max_frame = \"1KiB\"", ""), &big, 1009, "limit is 1024", "too_big");
}

#[test]
fn of_two_limits_on_fragments_the_smaller_one_holds() {
    let part = |opcode| RawFrame::new(opcode, "").unfinished();
    let fragments = [part(TEXT), part(CONTINUATION), part(CONTINUATION), part(CONTINUATION)];
    let limits = "client.max_fragments = 3";
    check_closed((limits, ""), &fragments, 1009, "more than 3 fragments", "too_big");
    let limits = "client.max_fragments = 100";
    let hubs = "max_fragments = 3";
    check_closed((limits, hubs), &fragments, 1009, "more than 3 fragments", "too_big");
}

#[test]
fn kinds_of_messages_that_are_not_taken_are_a_1003() {
    let only_text = "client.opcodes = [\"text\"]";
    let binary = [RawFrame::new(BINARY, "x")];
    check_closed((only_text, ""), &binary, 1003, "a binary message", "opcode");
    check_closed(("client.opcodes = [\"binary\"]", ""), &[text(1)], 1003, "a text", "opcode");
    let node = limited(only_text, "");
    let (mut socket, _) = open(&node);
    socket.send("taken");
    assert_eq!(socket.text(), "Received: taken");
    socket.send_frame(Opcode::Ping, b"too");
    assert_eq!(socket.next(), Got::Pong(b"too".to_vec()));
}

#[test]
fn framing_is_strict_in_the_hub_whatever_the_profile() {
    let frames = [text(1).rsv(0b100)];
    check_closed(("profile = \"off\"", ""), &frames, 1002, "reserved bits", "bad_frame");
}

// Rates.

#[test]
fn who_sends_faster_than_it_may_is_slowed_down_and_loses_nothing() {
    let node = limited("client.messages = \"20/s\"", "");
    let (mut socket, _) = open(&node);
    let start = Instant::now();
    let texts: Vec<_> = (0..50).map(|number| RawFrame::new(TEXT, number.to_string())).collect();
    let answered = |socket: &mut WebSocket, numbers: std::ops::Range<u32>| {
        numbers.for_each(|number| assert_eq!(socket.text(), format!("Received: {number}")));
    };
    // What a second has may come at once. Behind the last of it nothing is read for a while.
    socket.peer.send(bytes(&texts[..19]));
    answered(&mut socket, 0..19);
    assert_eq!(node.metric("hub_rate_pauses_total", &[]), 0.0);
    socket.peer.send(bytes(&texts[19..]));
    answered(&mut socket, 19..50);
    let taken = start.elapsed();
    assert!(taken > Duration::from_millis(1300), "{taken:?}");
    assert!(taken < Duration::from_secs(15), "{taken:?}");
    node.expect_metric_at_least("hub_rate_pauses_total", &[], 2.0);
}

#[test]
fn who_sends_more_bytes_than_it_may_is_slowed_down_and_loses_nothing() {
    let node = limited("client.bytes = \"64KiB/s\"", "");
    let (mut socket, _) = open(&node);
    let start = Instant::now();
    socket.peer.send(bytes(&vec![text(8000); 20]));
    for _ in 0..20 {
        assert_eq!(socket.text().len(), 8000 + "Received: ".len());
    }
    // 160 KB, of which the first 64 KiB may come at once, and the last read is paid for later.
    assert!(start.elapsed() > Duration::from_millis(400), "{:?}", start.elapsed());
}

#[test]
fn pings_faster_than_they_may_be_are_answered_later() {
    let node = limited("client.control = \"20/s\"", "");
    let (mut socket, _) = open(&node);
    let start = Instant::now();
    socket.peer.send(bytes(&vec![RawFrame::new(PING, "p"); 50]));
    for _ in 0..50 {
        assert_eq!(socket.next(), Got::Pong(b"p".to_vec()));
    }
    assert!(start.elapsed() > Duration::from_millis(1300), "{:?}", start.elapsed());
}

#[test]
fn one_client_s_pace_is_not_that_of_others() {
    let node = limited("client.messages = \"2/m\"", "");
    let (mut slow, _) = open(&node);
    slow.peer.send(bytes(&vec![text(1); 100]));
    for _ in 0..5 {
        let mut other = WebSocket::connect(node.address(), "/ws/elsewhere");
        other.send("prompt");
        assert_eq!(other.text(), "Received: prompt");
    }
}

#[test]
fn who_may_be_closed_for_its_rate_is_told_what_was_too_fast() {
    let check = |rate: &str, frames: &[RawFrame], says| {
        let limits = format!("client.over_rate = \"close\", {rate}");
        check_closed((&limits, ""), frames, 1008, says, "rate");
    };
    check("client.messages = \"5/s\"", &vec![text(1); 20], "messages came faster");
    check("client.bytes = \"1KiB/s\"", &vec![text(1000); 5], "bytes came faster");
    check("client.control = \"5/s\"", &vec![RawFrame::new(PING, ""); 20], "control frames came");
}

#[test]
fn what_was_within_the_rate_is_published_before_the_close() {
    let node = limited("client.messages = \"5/m\", client.over_rate = \"close\"", "");
    let mut hears = WebSocket::connect(node.address(), "/ws/room");
    let (mut socket, _) = open(&node);
    let texts: Vec<_> = (0..20).map(|number| RawFrame::new(TEXT, number.to_string())).collect();
    socket.peer.send(bytes(&texts));
    assert_eq!(close_of(&mut socket).0, Some(1008));
    for number in 0..5 {
        assert_eq!(hears.text(), format!("Received: {number}"));
    }
    hears.expect_silence(Duration::from_millis(200));
}

#[test]
fn answers_to_the_hubs_pings_are_no_flood() {
    let limits = "client.control = \"1/h\", client.over_rate = \"close\"";
    let node = limited(limits, "ping = \"200ms\"\npong = \"5s\"");
    let (mut socket, _) = open(&node);
    for _ in 0..6 {
        let Got::Ping(payload) = socket.next() else { panic!("no ping") };
        socket.send_frame(Opcode::Pong, &payload);
    }
    // Two of its own accord are one too many. One more may be taken for the answer to another ping.
    socket.peer.send(bytes(&vec![RawFrame::new(PONG, ""); 3]));
    assert_eq!(close_of(&mut socket).0, Some(1008));
}

#[test]
fn who_is_paused_is_not_taken_for_dead() {
    let limits = "client.messages = \"10/m\"";
    // A client that is late with its first messages is paused before it is pinged.
    let node = limited(limits, "ping = \"5s\"\npong = \"300ms\"");
    let (mut socket, _) = open(&node);
    socket.peer.send(bytes(&vec![text(1); 11]));
    // The last one may come six seconds later, and no pong is read before it.
    for _ in 0..11 {
        assert_eq!(socket.text(), "Received: x");
    }
    // Who is dead is found to be, all the same.
    let start = Instant::now();
    assert_eq!(close_of(&mut socket).0, Some(1001));
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
}

#[test]
fn who_is_paused_still_closes_in_good_order_when_the_node_drains() {
    let mut node = limited("client.messages = \"2/h\"", "close_timeout = \"30s\"");
    let (mut socket, client) = open(&node);
    socket.peer.send(bytes(&vec![text(1); 10]));
    assert_eq!(socket.text(), "Received: x");
    let start = Instant::now();
    node.terminate();
    assert_eq!(close_of(&mut socket).0, Some(1001));
    socket.send_close(1001, "");
    assert_eq!(socket.next(), Got::End);
    node.log_line(&["websocket", &client, "reason=\"drain\""]);
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
}

#[test]
fn being_closed_is_no_way_around_the_rate() {
    let node = limited("client.messages = \"2/h\"", "idle = \"500ms\"\nclose_timeout = \"2s\"");
    let mut hears = WebSocket::connect(node.address(), "/ws/room");
    let (mut socket, _) = open(&node);
    socket.peer.send(bytes(&vec![text(1); 50]));
    assert_eq!(close_of(&mut socket).0, Some(1001));
    socket.peer.send(bytes(&vec![text(1); 50]));
    socket.send_close(1001, "");
    let mut heard = 0;
    loop {
        match hears.next() {
            Got::Text(_) => heard += 1,
            Got::Close(..) | Got::End => break,
            _ => {}
        }
    }
    assert!(heard <= 2, "{heard} messages of 2 in an hour");
}

// Age.

#[test]
fn a_connection_becomes_no_older_than_it_may() {
    let mut node = limited("lifetime = \"2s\"", "");
    let start = Instant::now();
    let (mut socket, client) = open(&node);
    let (code, reason) = close_of(&mut socket);
    let taken = start.elapsed();
    assert_eq!(code, Some(1001), "{reason}");
    assert!(reason.contains("old"), "{reason}");
    // Up to a tenth earlier, and the worker's clock has ticks of 100 ms.
    assert!(taken > Duration::from_millis(1600), "{taken:?}");
    assert!(taken < Duration::from_secs(10), "{taken:?}");
    socket.send_close(1001, "");
    node.log_line(&["websocket", &client, "by=\"edge\"", "reason=\"lifetime\"", "code=1001"]);
}
