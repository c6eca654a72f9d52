//! permessage-deflate between a client and a server that know nothing of the edge, npm's `ws`: it
//! passes, limits count what is on the wire, and `compression = "refuse"` keeps the two from it.

use std::path::Path;

use serde_json::Value;
use tidewire_testkit::node_app::{NodeApp, NodePackages};
use tidewire_testkit::tidewire::{Tidewire, edge};

struct Rig {
    packages: NodePackages,
    edge: Tidewire,
    _server: NodeApp,
}

impl Rig {
    /// `None`, said aloud, when something is missing.
    fn start(limits: &str) -> Option<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compression");
        let packages = NodePackages::install_folder("ws", &folder)?;
        let server = packages.start("server.js");
        let edge = Tidewire::run(&edge(&[server.address()], &format!("[limits]\n{limits}")));
        Some(Self { packages, edge, _server: server })
    }

    /// What becomes of a message of so many bytes, sent up to three times.
    #[track_caller]
    fn send(&self, kind: &str, bytes: usize) -> Value {
        let url = format!("ws://{}/ws", self.edge.address());
        let ended = self.packages.run("client.js", &[&url, kind, &bytes.to_string()]);
        let line = ended.stdout.first().unwrap_or_else(|| panic!("it says nothing: {ended:?}"));
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"))
    }
}

const DEFLATE: &str = "permessage-deflate";

#[track_caller]
fn check_echoed(came: &Value, extensions: &str) {
    assert_eq!((&came["heard"], &came["isSame"]), (&3.into(), &true.into()), "{came}");
    assert_eq!((&came["code"], &came["extensions"]), (&1000.into(), &extensions.into()), "{came}");
}

#[test]
fn compressed_messages_pass_and_limits_count_what_is_on_the_wire() {
    let sizes = "{ max_frame = \"20KiB\", max_message = \"20KiB\" }";
    let Some(rig) = Rig::start(&format!("client = {sizes}\nserver = {sizes}")) else { return };
    // 1 MiB of the same words is a few KiB on the wire.
    check_echoed(&rig.send("compressible", 1 << 20), DEFLATE);
    check_echoed(&rig.send("random", 10_000), DEFLATE);
    let came = rig.send("random", 30_000);
    assert_eq!((&came["extensions"], &came["heard"]), (&DEFLATE.into(), &0.into()), "{came}");
    assert_eq!(came["code"], 1009, "{came}");
    let reason = came["reason"].as_str().expect("it has one");
    assert!(reason.contains("the limit is 20480"), "{reason}");
}

#[test]
fn where_compression_is_refused_the_two_speak_without_it() {
    let Some(rig) = Rig::start("compression = \"refuse\"\nclient = { max_message = \"20KiB\" }")
    else {
        return;
    };
    check_echoed(&rig.send("compressible", 20_000), "");
    // Now it is as big as it is.
    assert_eq!(rig.send("compressible", 1 << 20)["code"], 1009);
}
