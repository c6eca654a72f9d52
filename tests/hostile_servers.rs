//! What a server may answer that no server should: the client gets a 502, a 504, or what the
//! server meant; whoever comes next gets an answer of their own, and nobody else notices.

use std::time::Duration;

use tidewire_testkit::attack::{Delivery, Outcome, strike, try_each};
use tidewire_testkit::deadline::until;
use tidewire_testkit::peer::Peer;
use tidewire_testkit::tidewire::{Tidewire, edge};
use tidewire_testkit::websocket::{WebSocket, switch};
use tidewire_testkit::witness::{Act, Witness, numbered};

/// What a server does with a request, and what may come of it.
struct Row {
    name: &'static str,
    request: String,
    acts: Vec<Act>,
    expected: Expected,
    /// Whether the connection may serve the next request.
    pool: Pool,
}

#[derive(Clone, Copy, Debug)]
enum Expected {
    /// The edge's own word.
    Refused,
    /// 504.
    TimedOut,
    /// The server's answer, with this body.
    Meant(&'static str),
    /// The one or the other: what it means is clear.
    RefusedOr(&'static str),
    /// The head has come, so that the end of the connection is all that can say it.
    CutOff,
    /// It depends on how far the head has gone before.
    RefusedOrCutOff,
    /// 502 or 504: it does not come to an end.
    RefusedOrTimedOut,
}
use Expected::{CutOff, Meant, Refused, RefusedOr, RefusedOrCutOff, RefusedOrTimedOut, TimedOut};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pool {
    Never,
    Maybe,
}

const GET: &str = "GET /row HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
const HEAD: &str = "HEAD /row HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
const POST: &str = "POST /row HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\
     Content-Length: 5\r\n\r\nhello";

fn row(name: &'static str, answer: impl AsRef<[u8]>, expected: Expected) -> Row {
    let acts = vec![Act::Body, Act::send(answer)];
    Row { name, request: GET.to_owned(), acts, expected, pool: Pool::Never }
}

/// As [`row`], with the rest of what the server does.
fn then(name: &'static str, answer: impl AsRef<[u8]>, acts: &[Act], expected: Expected) -> Row {
    let mut row = row(name, answer, expected);
    row.acts.extend_from_slice(acts);
    row
}

/// An answer of 200 with these lines and this body.
fn ok(lines: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{lines}\r\n{body}")
}

/// An answer of these chunks.
fn chunked(body: &str) -> String {
    ok("Transfer-Encoding: chunked\r\n", body)
}

/// An answer for somebody else.
const STRAY: &str = "HTTP/1.1 200 OK\r\nX-Stray: 1\r\nContent-Length: 5\r\n\r\nstray";

#[test]
fn an_answer_with_two_ends_has_none() {
    let length = |value: &str| ok(&format!("Content-Length: {value}\r\n"), "hello");
    let coding =
        |value: &str| ok(&format!("Transfer-Encoding: {value}\r\n"), "5\r\nhello\r\n0\r\n\r\n");
    try_all(vec![
        Row { pool: Pool::Maybe, ..row("a length, as it should be", length("5"), Meant("hello")) },
        Row {
            pool: Pool::Maybe,
            ..row("chunks, as they should be", coding("chunked"), Meant("hello"))
        },
        row(
            "CL.TE",
            ok("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
            Refused,
        ),
        row(
            "TE.CL",
            ok("Transfer-Encoding: chunked\r\nContent-Length: 90\r\n", "5\r\nhello\r\n0\r\n\r\n"),
            Refused,
        ),
        row(
            "two lengths",
            ok("Content-Length: 5\r\nContent-Length: 50\r\n", &format!("hello{STRAY}")),
            Refused,
        ),
        Row {
            pool: Pool::Maybe,
            ..row(
                "the same length twice",
                ok("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
                RefusedOr("hello"),
            )
        },
        Row { pool: Pool::Maybe, ..row("a list of lengths", length("5, 5"), Refused) },
        row("a list of two lengths", length("5, 6"), Refused),
        row("a length with a plus", length("+5"), Refused),
        row("a length with a minus", length("-5"), Refused),
        row("a length in hexadecimal", length("0x5"), Refused),
        row("a length with a letter", length("5x"), Refused),
        row("a length of nothing", length(""), Refused),
        row("a length beyond all", length("99999999999999999999"), Refused),
        then("a length that is not met", length("50"), &[Act::Close], CutOff),
        then("a length that is not met, in silence", length("50"), &[Act::Hold], CutOff),
        row("another coding", coding("gzip"), RefusedOrCutOff),
        row("another coding before chunked", coding("gzip, chunked"), Refused),
        row("chunked and another coding", coding("chunked, gzip"), RefusedOrCutOff),
        row("chunked twice", coding("chunked, chunked"), Refused),
        row(
            "chunked in two lines",
            ok(
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                "5\r\nhello\r\n0\r\n\r\n",
            ),
            Refused,
        ),
        row("almost chunked", coding("xchunked"), RefusedOrCutOff),
        row(
            "chunks in HTTP/1.0",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            RefusedOr("hello"),
        ),
        then(
            "no length in HTTP/1.0",
            "HTTP/1.0 200 OK\r\n\r\nhello",
            &[Act::Close],
            Meant("hello"),
        ),
    ]);
}

#[test]
fn a_chunk_that_is_none_breaks_the_answer_off() {
    let mut rows = Vec::new();
    for (name, body) in [
        ("a size of no digit", "zz\r\nhello\r\n0\r\n\r\n"),
        ("a size with a minus", "-5\r\nhello\r\n0\r\n\r\n"),
        ("a size with a plus", "+5\r\nhello\r\n0\r\n\r\n"),
        ("a size in hexadecimal with its mark", "0x5\r\nhello\r\n0\r\n\r\n"),
        ("a size of nothing", "\r\nhello\r\n0\r\n\r\n"),
        ("a size beyond all", "fffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
        ("a size that overflows to five", "10000000000000005\r\nhello\r\n0\r\n\r\n"),
        ("a size before a bare LF", "5\nhello\r\n0\r\n\r\n"),
        ("a chunk that is longer than it says", "5\r\nhello world\r\n0\r\n\r\n"),
        ("a chunk before a bare LF", "5\r\nhello\n0\r\n\r\n"),
        ("a chunk of another protocol", "220 mail.test ESMTP\r\n"),
    ] {
        rows.push(row(name, chunked(body), RefusedOrCutOff));
    }
    rows.push(then("half a chunk", chunked("50\r\nhello"), &[Act::Close], RefusedOrCutOff));
    rows.push(then("half a chunk, in silence", chunked("50\r\nhello"), &[Act::Hold], CutOff));
    rows.push(then(
        "half a chunk and a reset",
        chunked("50\r\nhello"),
        &[Act::Reset],
        RefusedOrCutOff,
    ));
    rows.push(then("no last chunk", chunked("5\r\nhello\r\n"), &[Act::Close], RefusedOrCutOff));
    let endless = Act::Flood(b"X: 1\r\n".repeat(1_000), 4 << 20);
    rows.push(then(
        "trailers without end",
        chunked("5\r\nhello\r\n0\r\n"),
        &[endless],
        RefusedOrCutOff,
    ));
    let endless = Act::Flood(vec![b'x'; 16 << 10], 4 << 20);
    rows.push(then("an extension without end", chunked("5;"), &[endless], RefusedOrCutOff));
    try_all(rows);
}

#[test]
fn a_head_that_is_none_is_a_502() {
    let field = |line: &[u8]| {
        [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", line, b"\r\n\r\nhello"].concat()
    };
    let status = |line: &str| format!("{line}\r\nContent-Length: 5\r\n\r\nhello");
    let mut rows = vec![
        row("a folded line", field(b"X: 1\r\n 2"), Refused),
        row("a folded length", ok("Content-Length:\r\n 5\r\n", "hello"), Refused),
        row("a NUL", field(b"X: a\0b"), Refused),
        row("an ESC", field(b"X: a\x1b[2Jb"), Refused),
        row("a DEL", field(b"X: a\x7fb"), Refused),
        row("a bare CR", field(b"X: a\rb"), Refused),
        row("a bare CR before a cookie", field(b"X: a\rSet-Cookie: a=b"), Refused),
        row("a space before the colon", field(b"X : 1"), Refused),
        row("a space before the length's colon", ok("Content-Length : 5\r\n", "hello"), Refused),
        row("no colon", field(b"NoColon"), Refused),
        row("an empty name", field(b": x"), Refused),
        row("a name that is no token", field(b"X(1): x"), Refused),
        row("a status of two digits", status("HTTP/1.1 99 No"), Refused),
        row("a status of four digits", status("HTTP/1.1 2000 OK"), Refused),
        row("a status of letters", status("HTTP/1.1 abc OK"), Refused),
        row("a status of nothing", status("HTTP/1.1  OK"), Refused),
        row("a status of 000", status("HTTP/1.1 000 No"), Refused),
        row("another version", status("HTTP/2.0 200 OK"), Refused),
        row("a version of letters", status("HTTP/x.y 200 OK"), Refused),
        row("another protocol", "220 mail.test ESMTP\r\n\r\n", Refused),
        row("a request", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", Refused),
        row("only line ends", "\r\n\r\n\r\n\r\n".repeat(8), RefusedOrTimedOut),
        row("a NUL in the reason", status("HTTP/1.1 200 O\0K"), RefusedOr("hello")),
        row("a bare CR in the reason", status("HTTP/1.1 200 OK\rX: 1"), RefusedOr("hello")),
        row(
            "a head of 200,000 bytes",
            field(&[b"X: ".as_slice(), &[b'x'; 200_000]].concat()),
            Refused,
        ),
        row("a thousand fields", field(&b"X: 1\r\n".repeat(1_000)[..5_998]), Refused),
        then(
            "a field without end",
            "HTTP/1.1 200 OK\r\nX: ",
            &[Act::Flood(vec![b'x'; 16 << 10], 8 << 20)],
            Refused,
        ),
        then(
            "fields without end",
            "HTTP/1.1 200 OK\r\n",
            &[Act::Flood(b"X: 1\r\n".repeat(2_000), 8 << 20)],
            Refused,
        ),
        then(
            "a status line without end",
            "HTTP/1.1 200 ",
            &[Act::Flood(vec![b'x'; 16 << 10], 8 << 20)],
            Refused,
        ),
        then("half a head", "HTTP/1.1 200 OK\r\nContent-", &[Act::Close], Refused),
        then("half a head and a reset", "HTTP/1.1 200 OK\r\nContent-", &[Act::Reset], Refused),
        then("half a head, in silence", "HTTP/1.1 200 OK\r\nContent-", &[Act::Hold], TimedOut),
        then("nothing", "", &[Act::Close], Refused),
        then("nothing but a reset", "", &[Act::Reset], Refused),
        then("nothing, in silence", "", &[Act::Hold], TimedOut),
    ];
    for row in &mut rows[..] {
        if matches!(row.name, "half a head" | "nothing") {
            row.request = POST.to_owned();
        }
    }
    try_all(rows);
}

#[test]
fn a_bare_lf_in_an_answer_does_not_move_its_end() {
    try_all(
        vec![
            row(
                "bare LFs for line ends",
                "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
                RefusedOr("hello"),
            ),
            row(
                "a bare LF behind a field",
                ok("X: 1\nContent-Length: 5\r\n", "hello"),
                RefusedOr("hello"),
            ),
            row(
                "a bare LF for the empty line",
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\nhello",
                RefusedOr("hello"),
            ),
        ]
        .into_iter()
        .map(|row| Row { pool: Pool::Maybe, ..row })
        .collect(),
    );
}

#[test]
fn an_answer_is_for_who_asked_and_nobody_else() {
    let whole = ok("Content-Length: 5\r\n", "hello");
    let glued = format!("{whole}{STRAY}");
    let pause = || Act::Wait(Duration::from_millis(30));
    let early =
        |acts: Vec<Act>| Row { request: POST.to_owned(), acts, ..row("", "", Meant("hello")) };
    try_all(
        vec![
            row("an answer glued to the answer", &glued, Meant("hello")),
            row("garbage glued to the answer", format!("{whole}garbage"), Meant("hello")),
            row(
                "an answer glued to chunks",
                chunked("5\r\nhello\r\n0\r\n\r\n") + STRAY,
                Meant("hello"),
            ),
            then(
                "an answer after the answer",
                &whole,
                &[pause(), Act::send(STRAY), pause()],
                Meant("hello"),
            ),
            then(
                "a byte after the answer",
                &whole,
                &[pause(), Act::send("x"), pause()],
                Meant("hello"),
            ),
            then(
                "a timeout after the answer",
                &whole,
                &[
                    pause(),
                    Act::send("HTTP/1.1 408 Timeout\r\nContent-Length: 0\r\n\r\n"),
                    Act::Close,
                ],
                Meant("hello"),
            ),
            row("a body behind 204", format!("HTTP/1.1 204 No\r\n\r\n{STRAY}"), Meant("")),
            row(
                "a length behind 204",
                "HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\nhello",
                RefusedOr(""),
            ),
            row(
                "a body behind 304",
                format!("HTTP/1.1 304 No\r\nContent-Length: 40\r\n\r\n{STRAY}"),
                Meant(""),
            ),
            Row {
                request: HEAD.to_owned(),
                ..row("a body for a HEAD", ok("Content-Length: 68\r\n", STRAY), Meant(""))
            },
            Row {
                request: HEAD.to_owned(),
                ..row("chunks for a HEAD", chunked("5\r\nstray\r\n0\r\n\r\n"), Meant(""))
            },
            Row { name: "an answer before the body", ..early(vec![Act::send(&whole), Act::Body]) },
            Row {
                name: "an answer before the body, which is never read",
                request: format!("POST /row HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nContent-Length: {LARGE}\r\n\r\n{}", "x".repeat(LARGE)),
                ..early(vec![Act::send(&whole), Act::Wait(Duration::from_secs(5)), Act::Close])
            },
        ]
        .into_iter()
        .map(|row| match row.name {
            // The body was on its way all the same, and whole.
            "an answer before the body" => Row { pool: Pool::Maybe, ..row },
            _ => row,
        })
        .collect(),
    );
}

#[test]
fn what_is_not_the_answer_yet_does_not_go_on_for_ever() {
    let hello = ok("Content-Length: 5\r\n", "hello");
    let maybe = |row: Row| Row { pool: Pool::Maybe, ..row };
    try_all(vec![
        maybe(row(
            "continue that nobody waits for",
            format!("HTTP/1.1 100 Continue\r\n\r\n{hello}"),
            Meant("hello"),
        )),
        maybe(row(
            "hints",
            format!("HTTP/1.1 103 Hints\r\nLink: </x>\r\n\r\n{hello}"),
            Meant("hello"),
        )),
        maybe(row(
            "ten hints",
            "HTTP/1.1 103 Hints\r\n\r\n".repeat(10) + &hello,
            RefusedOr("hello"),
        )),
        row(
            "a hint with a length, which has no body",
            format!("HTTP/1.1 103 Hints\r\nContent-Length: 73\r\n\r\n{STRAY}{hello}"),
            RefusedOr("stray"),
        ),
        then(
            "hints without end",
            "",
            &[Act::Flood(b"HTTP/1.1 103 Hints\r\n\r\n".repeat(500), 64 << 20)],
            RefusedOrTimedOut,
        ),
        row(
            "a switch",
            "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            Refused,
        ),
        row("a switch with the Accept of a handshake", switch("dGhlIHNhbXBsZSBub25jZQ=="), Refused),
        row(
            "a switch to h2c",
            format!("HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n{STRAY}"),
            Refused,
        ),
        row("a switch with an answer behind it", format!("HTTP/1.1 101 S\r\n\r\n{hello}"), Refused),
        maybe(row(
            "a status of 199",
            format!("HTTP/1.1 199 What\r\n\r\n{hello}"),
            RefusedOr("hello"),
        )),
        maybe(row(
            "a status of 999",
            "HTTP/1.1 999 What\r\nContent-Length: 5\r\n\r\nhello",
            RefusedOr("hello"),
        )),
    ]);
}

#[test]
fn headers_of_the_hop_do_not_reach_the_client() {
    let rig = Rig::start(vec![
        Act::Body,
        Act::send(ok(
            "Connection: keep-alive, X-Hop, Content-Length\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n\
             Proxy-Connection: close\r\nUpgrade: h2c\r\nContent-Length: 5\r\n",
            "hello",
        )),
    ]);
    let outcome = strike(rig.edge.address(), GET.as_bytes(), Delivery::Whole, PATIENCE);
    let [answer] = outcome.answers.as_slice() else { panic!("{outcome:?}") };
    assert_eq!(answer.text(), "hello");
    for gone in ["x-hop", "keep-alive", "proxy-connection", "upgrade"] {
        assert!(!answer.headers.has(gone), "{gone} in {:?}", answer.headers);
    }
}

/// An edge before a server that does as told when `/row` is asked for, and as it should otherwise.
struct Rig {
    witness: Witness,
    edge: Tidewire,
}

impl Rig {
    fn start(acts: Vec<Act>) -> Self {
        let witness = Witness::acting(move |head, number| {
            if head.is_handshake() {
                let key = head.get("sec-websocket-key").expect("a clean handshake has a key");
                return vec![Act::send(switch(key)), Act::Echo];
            }
            if head.target == "/row" {
                return acts.clone();
            }
            vec![Act::Body, Act::Send(numbered(head, number))]
        });
        // More than a server takes that is well, on a busy machine.
        let timeouts = "[timeout]\nserver = \"3s\"";
        let config = format!("workers = 1\n{}", edge(&[witness.address()], timeouts));
        let edge = Tidewire::run(&config);
        Self { witness, edge }
    }
}

#[track_caller]
fn try_all(rows: Vec<Row>) {
    try_each(&rows, LANES, |row| try_row(row).map_err(|wrong| format!("{}: {wrong}", row.name)));
}

fn try_row(row: &Row) -> Result<(), String> {
    let rig = Rig::start(row.acts.clone());
    let address = rig.edge.address();
    let mut neighbour = WebSocket::connect(address, "/ws");
    let mut kept = Peer::connect(address);
    // So that there is a connection to use again.
    check_answer(&mut kept, "/before")?;
    let memory = rig.edge.child.memory();
    let outcome = strike(address, row.request.as_bytes(), Delivery::Whole, PATIENCE);
    let taken = rig.edge.child.memory().saturating_sub(memory);
    if taken > MEMORY_MOST {
        return Err(format!("{taken} bytes of memory for an answer"));
    }
    judge(row, &outcome)?;
    let holds = |act: &Act| matches!(act, Act::Hold | Act::Flood(..));
    if !row.acts.iter().any(holds) {
        // Whatever comes behind the answer has come: until then it could be the next one's.
        let is_over = || rig.witness.seen().iter().any(|it| it.head.target == "/row" && it.is_over);
        until("the server has said all", || is_over().then_some(()));
    }
    neighbour.expect_echo("not disturbed");
    for count in 0..3 {
        check_answer(&mut kept, &format!("/after/{count}"))?;
        check_answer(&mut Peer::connect(address), &format!("/anew/{count}"))?;
    }
    let seen = rig.witness.seen();
    let asked: Vec<usize> =
        seen.iter().filter(|it| it.head.target == "/row").map(|it| it.connection).collect();
    let is_reused = seen
        .iter()
        .skip_while(|it| it.head.target != "/row")
        .any(|it| it.head.target != "/row" && asked.contains(&it.connection));
    if is_reused && row.pool == Pool::Never {
        return Err("its connection is used again".into());
    }
    match rig.witness.doubts().first() {
        Some(doubt) => Err(format!("the server was left in doubt: {doubt:?}")),
        None => Ok(()),
    }
}

/// Whether the client got what it may get.
fn judge(row: &Row, outcome: &Outcome) -> Result<(), String> {
    let rest = String::from_utf8_lossy(&outcome.rest).into_owned();
    if !outcome.has_ended {
        return Err(format!("the connection is still there, after {rest:?}"));
    }
    if rest.to_ascii_lowercase().contains("x-stray") || outcome.answers.len() > 1 {
        return Err(format!("more than one answer: {:?} {rest:?}", outcome.answers));
    }
    // What has an end that does not come, and what is the answer to a HEAD, is no answer by itself.
    let is_head = row.request == HEAD;
    let is_cut = outcome.answers.is_empty() && rest.starts_with("HTTP/1.1 200");
    // hyper keeps a head until the body has begun; a body that is wrong from the start takes it away.
    let is_silent = outcome.answers.is_empty() && rest.is_empty();
    let answer = outcome.answers.first();
    let status = answer.map_or(0, |answer| answer.status);
    let means = |body: &str| answer.is_some_and(|it| status != 502 && it.text() == body);
    let fits = match row.expected {
        Meant("") if is_head => is_cut && rest.ends_with("\r\n\r\n") || means(""),
        Refused => status == 502,
        TimedOut => status == 504,
        Meant(body) => means(body),
        RefusedOr(body) => status == 502 || means(body),
        CutOff => is_cut,
        RefusedOrCutOff => status == 502 || is_cut || is_silent,
        RefusedOrTimedOut => matches!(status, 502 | 504),
    };
    if fits { Ok(()) } else { Err(format!("{:?}, but {:?} {rest:?}", row.expected, answer)) }
}

fn check_answer(peer: &mut Peer, path: &str) -> Result<(), String> {
    peer.send(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
    let answer = peer.response();
    if answer.status == 200 && answer.text().ends_with(&format!(" GET {path}")) {
        return Ok(());
    }
    Err(format!("{path} was answered with {} {}", answer.status, answer.text()))
}

/// More than sockets hold.
const LARGE: usize = 16 << 20;
const LANES: usize = 10;
const PATIENCE: Duration = Duration::from_secs(20);
/// For a head at its largest, and what the allocator takes with it.
const MEMORY_MOST: u64 = 3 << 20;
