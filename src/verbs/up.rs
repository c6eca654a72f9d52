//! `tidewire up`: the whole picture in one process. An edge, hub nodes behind it over real loopback
//! connections, a broker between them, and a page that shows it.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, anyhow};
use tidewire_hub::broker::memory::MemoryBroker;
use tidewire_runtime::listener::Address;
use tokio::runtime::Handle;

use crate::cli::UpArgs;
use crate::config::admin::MetricsAccess;
use crate::config::diagnostic::Paint;
use crate::dev_certificate::DevCertificate;
use crate::node::{self, Node};
use crate::plan::{AdminPlan, Plan};
use crate::signals::Signals;
use crate::{admin, logging, process};

/// Runs edge, nodes and broker until a signal ends them.
pub fn run(args: &UpArgs) -> anyhow::Result<ExitCode> {
    let listen = args.listen.0.tcp().context("`--listen` takes an address that browsers reach")?;
    let tls = args.tls.then(|| DevCertificate::ensure(listen.ip())).transpose()?;
    let alone = Plan::from_text("up", &edge_config(args, &[], None)?);
    let log = logging::start(&alone.map(|(plan, _)| plan.log).unwrap_or_default());
    // From a client to the edge, and from the edge to a node, both ends are in this process.
    process::open_files(WEBSOCKETS_WANTED, 3);
    let control = process::control()?;
    let signals = Signals::listen(control.handle())?;
    let memory = MemoryBroker::new();
    let mut servers = Vec::new();
    for number in 1..=args.nodes {
        let name = format!("server{number}");
        servers.push(start(&name, &node_config(&name, &args.broker)?, &memory, control.handle())?);
    }
    let edge_config = edge_config(args, &servers, tls.as_ref())?;
    let edge = start("edge", &edge_config, &memory, control.handle())?;
    let views = std::iter::once(&edge).chain(&servers).map(|node| node.view.clone()).collect();
    let admin =
        admin::bind(AdminPlan { bind: ANY_PORT, token: None, metrics: MetricsAccess::Open })?;
    let admin = admin::start(admin, views, log.dropped(), control.handle())?;
    print!("{}", greeting(args, &edge, &servers, admin, tls.as_ref()));
    if args.open {
        open(&format!("{}://{}/", scheme("http", args), edge.addresses[0]));
    }
    // The edge first: it closes its clients in good order, and the nodes see them leave.
    let nodes = std::iter::once(edge).chain(servers).collect();
    process::serve_until_signal(&control, signals, nodes)?;
    Ok(ExitCode::SUCCESS)
}

fn start(
    name: &str,
    config: &str,
    memory: &MemoryBroker,
    control: &Handle,
) -> anyhow::Result<Node> {
    let (plan, _) = Plan::from_text(name, config)
        .map_err(|report| anyhow!("{}", report.render(Paint::Plain)))?;
    let listeners = node::bind(&plan)?;
    Node::start(name, plan, listeners, memory, control)
}

/// The configuration of a hub node, as a person would write it.
fn node_config(name: &str, broker: &str) -> anyhow::Result<String> {
    let broker = quote(broker)?;
    Ok(format!(
        r#"
workers = 1
[[listen]]
name = "{name}"
bind = "127.0.0.1:0"
[hub]
node = "{name}"
broker = {broker}
[[route]]
name = "topics"
path = "/ws/{{topic}}"
hub = {{ topic = "{{topic}}", reply = "Received: {{message}}" }}
[log]
requests = false
[drain]
deadline = "5s"
"#
    ))
}

/// The configuration of the edge before `servers`.
fn edge_config(
    args: &UpArgs,
    servers: &[Node],
    tls: Option<&DevCertificate>,
) -> anyhow::Result<String> {
    let mut config = format!(
        r#"
[[listen]]
name = "public"
bind = "{}"
{}
[[route]]
name = "page"
path = "/"
static = {{ builtin = "demo" }}
[drain]
deadline = "5s"
"#,
        args.listen,
        tls.map_or_else(|| Ok(String::new()), tls_config)?
    );
    if servers.is_empty() {
        return Ok(config);
    }
    config.push_str(
        r#"
[[route]]
name = "topics"
path = "/ws/*"
backend = "nodes"
[[backend]]
name = "nodes"
balance = "roundrobin"
server = [
"#,
    );
    for server in servers {
        let (name, address) = (&server.view.name, &server.addresses[0]);
        writeln!(config, r#"  {{ name = "{name}", address = "{address}" }},"#)?;
    }
    config.push_str("]\n");
    Ok(config)
}

/// Its key in `[[listen]]`.
fn tls_config(certificate: &DevCertificate) -> anyhow::Result<String> {
    let quote = |path: PathBuf| quote(path.to_str().context("a path is not text")?);
    let (cert, key) = (quote(certificate.cert())?, quote(certificate.key())?);
    Ok(format!("tls = {{ certificate = [{{ cert = {cert}, key = {key} }}] }}"))
}

/// `http` or `ws`, or what it is over TLS.
fn scheme(plain: &str, args: &UpArgs) -> String {
    format!("{plain}{}", if args.tls { "s" } else { "" })
}

/// `text` as a TOML string in which nothing is read from the environment.
fn quote(text: &str) -> anyhow::Result<String> {
    let json = serde_json::to_string(text).context("the broker's URL is not text")?;
    Ok(json.replace('$', "$$"))
}

fn greeting(
    args: &UpArgs,
    edge: &Node,
    servers: &[Node],
    admin: SocketAddr,
    tls: Option<&DevCertificate>,
) -> String {
    let public = &edge.addresses[0];
    let mut rows = vec![
        ("page".to_owned(), format!("{}://{public}/", scheme("http", args))),
        ("topics".to_owned(), format!("{}://{public}/ws/{{topic}}", scheme("ws", args))),
        ("edge".to_owned(), format!("{public}, round-robin over {} servers", servers.len())),
    ];
    rows.extend(
        servers.iter().map(|server| {
            (server.view.name.clone(), format!("{}, a hub node", server.addresses[0]))
        }),
    );
    let broker = match servers.first().and_then(|server| server.view.hub.as_ref()) {
        Some(_) if args.broker == "memory" => "memory, inside this process".to_owned(),
        _ => shown(&args.broker),
    };
    rows.push(("broker".to_owned(), broker));
    rows.push(("metrics".to_owned(), format!("http://{admin}/metrics")));
    let width = rows.iter().map(|(what, _)| what.len()).max().unwrap_or(0);
    let mut text = format!("Tidewire {} is up.\n\n", env!("CARGO_PKG_VERSION"));
    for (what, value) in rows {
        text.push_str(&format!("  {what:<width$}  {value}\n"));
    }
    if let Some(certificate) = tls {
        text.push_str(&how_to_trust(certificate, public));
    }
    text.push_str("\nOpen the page in two windows, or Ctrl-C to end.\n");
    text
}

/// Where the certificate is, and what each program has to be told to take it.
fn how_to_trust(certificate: &DevCertificate, public: &Address) -> String {
    let ca = format!("'{}'", certificate.ca().display());
    let mut ways = vec![("curl", format!("curl --cacert {ca} https://{public}/"))];
    if cfg!(target_os = "macos") {
        let keychain = "~/Library/Keychains/login.keychain-db";
        ways.push(("macOS", format!("security add-trusted-cert -k {keychain} {ca}")));
    } else {
        let name = "/usr/local/share/ca-certificates/tidewire-development.crt";
        ways.push(("Debian", format!("sudo cp {ca} {name} && sudo update-ca-certificates")));
        let add = |db: &str| format!("certutil -d sql:{db} -A -t C,, -n tidewire -i {ca}");
        ways.push(("Chromium", add("$HOME/.pki/nssdb")));
        ways.push(("Firefox", add("PROFILE")));
    }
    let mut text = format!(
        "\nTLS is with a certificate for development, for names of this machine, until {}.\n\
         Clients take it once they trust its authority, whose key is gone:\n\n",
        certificate.expires
    );
    for (program, way) in ways {
        text.push_str(&format!("  {program:<8}  {way}\n"));
    }
    text
}

/// A broker's URL without its password.
fn shown(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        _ => url.to_owned(),
    }
}

/// Shows `url` in the person's browser; they can do it themselves if that does not work.
fn open(url: &str) {
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    if let Err(error) = Command::new(opener).arg(url).spawn() {
        tracing::warn!(%error, "cannot start {opener}; open {url} yourself");
    }
}

const ANY_PORT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

const WEBSOCKETS_WANTED: u64 = 1_000;
