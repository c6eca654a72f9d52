//! Pings by the edge between a client and a server that know nothing of it, npm's `ws`: who answers
//! by itself stays and hears of nobody's answers, and who does not is given up.

use std::path::Path;

use serde_json::{Value, json};
use tidewire_testkit::node_app::{NodeApp, NodePackages};
use tidewire_testkit::tidewire::{Tidewire, edge};

struct Rig {
    packages: NodePackages,
    edge: Tidewire,
    _server: NodeApp,
}

impl Rig {
    /// `None`, said aloud, when something is missing.
    fn start(server: &str, ping: &str) -> Option<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pings");
        let packages = NodePackages::install_folder("ws-pings", &folder)?;
        let server = packages.start(server);
        let config = edge(&[server.address()], "");
        let config = config.replace("[[route]]", &format!("[[route]]\nping = {ping}"));
        Some(Self { packages, edge: Tidewire::run(&config), _server: server })
    }

    /// What a client has heard in the end, who stays until it was pinged so often.
    #[track_caller]
    fn client(&self, kind: &str, path: &str, pings: u32) -> Value {
        let url = format!("ws://{}{path}", self.edge.address());
        let ended = self.packages.run("client.js", &[&url, kind, &pings.to_string()]);
        let line = ended.stdout.first().unwrap_or_else(|| panic!("it says nothing: {ended:?}"));
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"))
    }

    #[track_caller]
    fn expect_timeouts(&self, peer: &str, timeouts: f64) {
        let label = format!("peer=\"{peer}\"");
        self.edge.expect_metric("edge_ping_timeouts_total", &[&label], timeouts);
    }
}

#[test]
fn who_answers_by_itself_stays_and_hears_of_its_own_pings_answers_only() {
    let ping = "{ client = \"200ms\", server = \"200ms\", pong = \"20s\" }";
    let Some(rig) = Rig::start("server.js", ping) else { return };
    let heard = rig.client("answers", "/asks", 5);
    assert_eq!(heard["code"], 1000, "{heard}");
    assert_eq!(heard["pongs"], json!(["of the client"]), "{heard}");
    assert_eq!(heard["server"]["pongs"], json!(["of the server"]), "{heard}");
    assert!(heard["server"]["pings"].as_u64() > Some(2), "{heard}");
    rig.expect_timeouts("client", 0.0);
    rig.expect_timeouts("server", 0.0);
}

#[test]
fn a_client_that_does_not_answer_is_given_up_and_its_server_is_told_1001() {
    let ping = "{ client = \"200ms\", pong = \"5s\" }";
    let Some(rig) = Rig::start("server.js", ping) else { return };
    let heard = rig.client("mute", "/", 100);
    assert_eq!((&heard["pings"], &heard["code"]), (&1.into(), &1006.into()), "{heard}");
    rig.expect_timeouts("client", 1.0);
    let next = rig.client("answers", "/after", 1);
    assert_eq!(next["server"]["ended"], 1001, "{next}");
}

#[test]
fn a_server_that_does_not_answer_is_given_up_and_its_client_is_told_1001() {
    let ping = "{ server = \"200ms\", pong = \"500ms\" }";
    let Some(rig) = Rig::start("mute.js", ping) else { return };
    let heard = rig.client("answers", "/", 1);
    assert_eq!((&heard["pings"], &heard["code"]), (&0.into(), &1001.into()), "{heard}");
    rig.expect_timeouts("server", 1.0);
}
