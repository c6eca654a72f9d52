//! Servers on Unix sockets: requests, WebSockets and probes reach them, and what is in the way is
//! said.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;
use tidewire_testkit::backend::Backend;
use tidewire_testkit::deadline::until;
use tidewire_testkit::http::get;
use tidewire_testkit::nginx::Nginx;
use tidewire_testkit::peer::Peer;
use tidewire_testkit::script;
use tidewire_testkit::skip::{has, skip};
use tidewire_testkit::tidewire::{Tidewire, command};
use tidewire_testkit::unix_door::UnixDoor;
use tidewire_testkit::websocket::{WebSocket, handshake};
use tidewire_testkit::witness::Witness;

/// A directory that a server with another user may pass.
fn directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

/// An edge before a server on the socket at `address`.
fn config(address: &str, server: &str, backend: &str) -> String {
    format!(
        "[[listen]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\n\n[[route]]\nbackend = \"nodes\"\n\n\
         [[backend]]\nname = \"nodes\"\nretries = 0\n{backend}\n\
         server = [{{ name = \"app\", address = \"{address}\", {server} }}]\n"
    )
}

fn at(path: &Path) -> String {
    format!("unix:{}", path.display())
}

/// What `tidewire servers` prints.
fn servers(edge: &Tidewire) -> String {
    let address = format!("http://{}", edge.admin());
    let output: Output = command().args(["servers", "--admin", &address]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn until_servers_say(edge: &Tidewire, parts: &[&str]) {
    until(&format!("`servers` says {parts:?}"), || {
        let table = servers(edge);
        parts.iter().all(|part| table.contains(part)).then_some(())
    });
}

#[test]
fn requests_and_websockets_reach_a_server_by_its_socket() {
    let witness = Witness::start();
    let directory = directory();
    let path = directory.path().join("app.sock");
    let door = UnixDoor::open(&path, witness.address());
    // Relative paths start where the configuration is.
    let config = format!("workers = 1\n{}", config("unix:app.sock", "", ""));
    let mut edge = Tidewire::run_in(command(), directory, &config);
    for _ in 0..3 {
        get(edge.address(), "/").expect(200);
    }
    let mut socket = WebSocket::connect(edge.address(), "/ws");
    socket.expect_echo("by a file");
    assert_eq!(witness.doubts(), []);
    let seen = witness.seen();
    assert_eq!(seen[0].head.get("host"), Some("a.test"));
    // Connections are kept for the next request, as those of TCP are.
    assert_eq!(door.accepted(), 2, "one for all requests, one for the WebSocket");
    assert!(servers(&edge).contains(&at(&path)), "{}", servers(&edge));
    drop(socket);
    edge.log_line(&["websocket", "path=\"/ws\"", "reason=\"eof\""]);
}

#[test]
fn nodes_and_nginx_are_reached_by_theirs() {
    let directory = directory();
    let path = directory.path().join("node.sock");
    let node = "[[listen]]\nname = \"node\"\nbind = [\"127.0.0.1:0\", \"unix:node.sock\"]\n\
         [hub]\nnode = \"server1\"\n[[route]]\npath = \"/ws/{topic}\"\n\
         hub = { topic = \"{topic}\", reply = \"Received: {message}\" }\n";
    let _node = Tidewire::run_in(command(), directory, node);
    let check = "check = { type = \"websocket\", path = \"/ws/check\", interval = \"100ms\", \
                 timeout = \"20s\" }";
    let edge = Tidewire::run(&config(&at(&path), "check = true", check));
    until("a probe has succeeded", || {
        (edge.metric("edge_server_checks_total", &[]) >= 2.0).then_some(())
    });
    let mut client = WebSocket::connect(edge.address(), "/ws/room");
    client.send("hello");
    assert_eq!(client.text(), "Received: hello");
    assert_eq!(edge.metric("edge_server_check_failures_total", &[]), 0.0);

    let nginx = Nginx::start(
        "http { access_log off; server { listen 127.0.0.1:{port}; listen unix:{dir}/nginx.sock;\n\
         location / { return 200 \"by $server_addr\"; } } }",
    );
    let Some(nginx) = nginx else { return };
    let path = nginx.directory().join("nginx.sock");
    let edge = Tidewire::run(&config(&at(&path), "", ""));
    assert_eq!(get(edge.address(), "/").expect(200).text(), format!("by {}", at(&path)));
}

#[test]
fn probes_go_by_the_socket_and_say_what_is_in_the_way() {
    let backend = Backend::start(script::mirrors);
    let directory = directory();
    let path = directory.path().join("app.sock");
    let check = "check = { type = \"http\", interval = \"50ms\", timeout = \"20s\", rise = 1, \
                 fall = 1 }";
    let mut edge = Tidewire::run(&config(&at(&path), "check = true", check));
    until_servers_say(&edge, &["down", "app.sock: its server is not there, or listens elsewhere"]);
    edge.log_line(&["WARN", "server is down", "its server is not there"]);
    get(edge.address(), "/").expect(503);
    std::fs::write(&path, "text").unwrap();
    let mut edge = again(edge, &path, check);
    until_servers_say(&edge, &["down", "app.sock is not a socket"]);
    std::fs::remove_file(&path).unwrap();
    drop(UnixListener::bind(&path).unwrap());
    edge = again(edge, &path, check);
    until_servers_say(&edge, &["down", "a server that is gone has left it behind"]);
    std::fs::remove_file(&path).unwrap();
    let door = UnixDoor::open(&path, backend.address());
    until_servers_say(&edge, &[" up "]);
    get(edge.address(), "/").expect(200);
    let asked = backend.requests();
    let probe = asked.iter().find(|it| it.headers.get("user-agent") == Some("tidewire-check"));
    assert_eq!(probe.expect("it was probed").headers.get("host"), Some("localhost"));
    drop(door);
    until_servers_say(&edge, &["down"]);
}

/// An edge that knows nothing of what was before.
fn again(edge: Tidewire, path: &Path, check: &str) -> Tidewire {
    drop(edge);
    Tidewire::run(&config(&at(path), "check = true", check))
}

#[test]
fn a_client_is_told_that_no_server_could_be_reached_and_the_log_why() {
    let directory = directory();
    let path = directory.path().join("app.sock");
    let mut debug = command();
    debug.env("TIDEWIRE_LOG", "debug");
    let mut edge = Tidewire::run_by(debug, &config(&at(&path), "", ""));
    let answer = get(edge.address(), "/").expect(503);
    assert!(!answer.text().contains("app.sock"), "{}", answer.text());
    edge.log_line(&["cannot connect", "server=app", "there is no", "app.sock"]);
    edge.log_line(&["request", "fault=\"connect_failed\""]);
}

#[test]
fn another_server_takes_the_clients_of_one_that_is_not_there() {
    let backend = Backend::start(script::answers(200, "here"));
    let directory = directory();
    let paths = ["here.sock", "gone.sock"].map(|name| directory.path().join(name));
    let _door = UnixDoor::open(&paths[0], backend.address());
    let config = format!(
        "[[listen]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\n[[route]]\nbackend = \"nodes\"\n\
         [[backend]]\nname = \"nodes\"\neject = {{ connect_errors = 1 }}\n\
         server = [{{ name = \"here\", address = \"{}\" }}, {{ name = \"gone\", address = \"{}\" }}]\n",
        at(&paths[0]),
        at(&paths[1])
    );
    let edge = Tidewire::run(&config);
    for _ in 0..4 {
        assert_eq!(get(edge.address(), "/").expect(200).text(), "here");
    }
    // Found out once: it counts as one that cannot be connected to.
    edge.expect_metric("edge_server_connect_errors_total", &["server=\"gone\""], 1.0);
    edge.expect_metric("edge_server_ejections_total", &["server=\"gone\""], 1.0);
}

/// The program as a user for whom permissions count.
fn as_daemon() -> Option<Command> {
    if !has("setpriv") || !std::fs::metadata("/proc/self").is_ok_and(|it| it.uid() == 0) {
        skip("nobody else can be become");
        return None;
    }
    let mut by = Command::new("setpriv");
    by.args(["--reuid", "daemon", "--regid", "daemon", "--clear-groups"]);
    by.arg(command().get_program());
    Some(by)
}

#[test]
fn a_socket_that_may_not_be_opened_is_named_in_the_log_and_another_server_is_asked() {
    let backend = Backend::start(script::answers(200, "here"));
    let directory = directory();
    let paths = ["here.sock", "shut.sock"].map(|name| directory.path().join(name));
    let doors = paths.each_ref().map(|path| UnixDoor::open(path, backend.address()));
    for (path, mode) in paths.iter().zip([0o666, 0o600]) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let denied = format!("this process may not connect to {}", paths[1].display());
    let run = |servers: &str, check: &str| {
        let config = format!(
            "[[listen]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\n[[route]]\nbackend = \"nodes\"\n\
             [process]\ncore_dumps = true\n[[backend]]\nname = \"nodes\"\nserver = [{servers}]\n{check}"
        );
        Some(Tidewire::run_in(as_daemon()?, self::directory(), &config))
    };
    let shut = format!("{{ name = \"shut\", address = \"{}\" }}", at(&paths[1]));
    let both = format!("{{ name = \"here\", address = \"{}\" }}, {shut}", at(&paths[0]));
    let Some(mut edge) = run(&both, "") else { return };
    for _ in 0..4 {
        assert_eq!(get(edge.address(), "/").expect(200).text(), "here");
        WebSocket::try_upgrade(Peer::connect(edge.address()), &handshake("/ws")).unwrap_err();
    }
    edge.expect_metric_at_least("edge_backend_redispatches_total", &[], 2.0);
    let errors = "edge_server_connect_errors_total";
    edge.expect_metric_at_least(errors, &["server=\"shut\""], 2.0);
    assert_eq!(edge.metric(errors, &["server=\"here\""]), 0.0);
    // For operators, whatever becomes of clients.
    edge.log_line(&["WARN", "cannot connect", "backend=\"nodes\"", "server=\"shut\"", &denied]);

    let mut edge = run(&shut, "retries = 1\n").unwrap();
    let answer = get(edge.address(), "/").expect(503);
    assert!(!answer.text().contains("sock"), "{}", answer.text());
    edge.log_line(&["WARN", "cannot connect", "server=\"shut\"", &denied]);
    edge.log_line(&["request", "status=503", "fault=\"connect_failed\""]);
    for _ in 0..8 {
        get(edge.address(), "/").expect(503);
    }
    edge.expect_metric(errors, &["server=\"shut\""], 18.0);
    let said = |line: &&String| line.contains(&denied);
    assert_eq!(
        edge.child.stderr().iter().filter(said).count(),
        1,
        "once in a while, not each time"
    );

    let checked = shut.replace(" }", ", check = true }");
    let check = "check = { interval = \"50ms\", rise = 1, fall = 1 }\n";
    let mut edge = run(&checked, check).unwrap();
    edge.log_line(&["WARN", "server is down", "server=\"shut\"", &denied]);
    assert_eq!(doors[1].accepted(), 0);
}

#[test]
fn a_server_on_a_socket_is_told_whose_a_connection_is() {
    let witness = Witness::start();
    let directory = directory();
    let inner = format!(
        "[[listen]]\nname = \"inner\"\nbind = [\"127.0.0.1:0\", \"unix:inner.sock\"]\n\
         proxy_protocol = {{ from = \"unix\", others = \"serve\" }}\n\
         [[route]]\nbackend = \"nodes\"\n[[backend]]\nname = \"nodes\"\n\
         server = [{{ name = \"a\", address = \"{}\" }}]\n",
        witness.address()
    );
    let path = directory.path().join("inner.sock");
    let mut inner = Tidewire::run_in(command(), directory, &inner);
    let edge = Tidewire::run(&config(&at(&path), "", "send_proxy = \"v2\""));
    let mut socket = WebSocket::connect(edge.address(), "/ws");
    socket.expect_echo("by a file, and known");
    let client = socket.peer.local_address();
    drop(socket);
    inner.log_line(&["websocket", &format!("client={client}"), "via=unix"]);
}

#[test]
fn a_file_of_servers_has_them_beside_it() {
    let backend = Backend::start(script::answers(200, "listed"));
    let directory = directory();
    let path: PathBuf = directory.path().join("app.sock");
    let _door = UnixDoor::open(&path, backend.address());
    let file = "[[server]]\nname = \"a\"\naddress = \"unix:app.sock\"\n";
    std::fs::write(directory.path().join("servers.toml"), file).unwrap();
    let config = "[[listen]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\n[[route]]\n\
                  backend = \"nodes\"\n[[backend]]\nname = \"nodes\"\n\
                  discovery = { file = \"servers.toml\" }\n";
    let edge = Tidewire::run_in(command(), directory, config);
    assert_eq!(get(edge.address(), "/").expect(200).text(), "listed");
}
