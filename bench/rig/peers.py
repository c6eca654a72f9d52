"""The servers that are compared: how each is built, started, and which processes count.

To add one: a function here, its line in the tables at the end, its config under bench/peers.
"""

import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from . import credentials
from .processes import CannotStart, free_port, printed_port, wait_for_port

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / "bench" / "peers"
NPM_SECONDS = 300
CHILD_SECONDS = 5


@dataclass
class Started:
    """A running server: where to connect, what to measure, what to stop."""

    url: str
    pids: list
    process: object
    # Options of the generator for this server.
    client: list = field(default_factory=list)


class Bench:
    """What peers are started with: the processes, their cores, a directory for what is built."""

    def __init__(self, processes, cores, directory, tidewire):
        self.processes = processes
        self.cores = cores
        self.directory = directory
        self.tidewire = tidewire
        self._certificate = self._tokens = None

    def config(self, name, **values):
        """A config file of bench/peers with its `{{names}}` filled in."""
        text = (PEERS / name).read_text()
        for key, value in values.items():
            text = text.replace("{{" + key + "}}", str(value))
        path = self.directory / name
        path.write_text(text)
        return path

    def certificate(self):
        """The one certificate of all servers."""
        self._certificate = self._certificate or credentials.certificate(self.directory)
        return self._certificate

    def tokens(self):
        self._tokens = self._tokens or credentials.tokens(self.directory, PEERS / "tokens.js")
        return self._tokens

    def compiled(self, name):
        """A C program of bench/peers."""
        program = self.directory / name
        source = PEERS / f"{name}.c"
        if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
            command = ["cc", "-O2", "-o", program, source]
            if not shutil.which("cc") or subprocess.run(command).returncode:
                raise CannotStart(f"{name}.c cannot be compiled: is a C compiler installed?")
        return program

    def node_modules(self):
        """The npm packages of bench/peers/package.json, installed below target/ once."""
        directory = ROOT / "target" / "bench-node"
        directory.mkdir(parents=True, exist_ok=True)
        wanted = (PEERS / "package.json").read_text()
        stamp = directory / "package.json"
        if not stamp.exists() or stamp.read_text() != wanted:
            if not shutil.which("npm"):
                raise CannotStart("npm is not installed")
            print("installing the npm peers into target/bench-node", flush=True)
            shutil.copy(PEERS / "package.json", stamp)
            command = ["npm", "install", "--omit=optional", "--no-audit", "--no-fund", "--silent"]
            try:
                done = subprocess.run(command, cwd=directory, timeout=NPM_SECONDS)
            except subprocess.TimeoutExpired:
                done = None
            if done is None or done.returncode:
                stamp.unlink()
                raise CannotStart("npm could not install express-ws and uWebSockets.js")
        return directory / "node_modules"

    def start(self, name, command, cores=None, env=None):
        return self.processes.start(name, command, cores or self.cores.server, env)


def echo_backend(bench):
    """The server behind every edge; it is not measured."""
    process = bench.start("echo", [bench.compiled("echo")], bench.cores.backend)
    port = printed_port(process, "echo")
    return Started(f"ws://127.0.0.1:{port}/", [process.pid], process)


def relay(bench, backend):
    process = bench.start("relay", [bench.compiled("relay"), backend])
    return started(process, printed_port(process, "relay"))


def haproxy(bench, backend, name="haproxy", bufsize=16384, certificate=None, rules=""):
    port = free_port()
    tls = f"ssl crt {certificate.combined}" if certificate else ""
    config = bench.config(
        "haproxy.cfg", port=port, backend=backend, bufsize=bufsize, tls=tls, rules=rules
    )
    process = bench.start(name, ["haproxy", "-db", "-f", config])
    wait_for_port(process, port, name)
    return started(process, port)


def haproxy_32k(bench, backend):
    """HAProxy against the advice of its manual, which is to leave the buffer size alone."""
    return haproxy(bench, backend, name="haproxy-32k", bufsize=32768)


def nginx(bench, backend, certificate=None):
    port = free_port()
    directory = bench.directory / "nginx"
    directory.mkdir(exist_ok=True)
    files = ""
    if certificate:
        files = f"ssl_certificate {certificate.cert}; ssl_certificate_key {certificate.key};"
    config = bench.config(
        "nginx.conf", port=port, backend=backend, directory=directory,
        tls="ssl" if certificate else "", certificate=files,
    )
    process = bench.start("nginx", ["nginx", "-p", directory, "-c", config])
    wait_for_port(process, port, "nginx")
    return started(process, port, pids=[only_child(process.pid)])


def tidewire_edge(
    bench, backend, certificate=None, auth="", users="", limits="", rules="", servers=""
):
    tls = ""
    if certificate:
        files = f'cert = "{certificate.cert}", key = "{certificate.key}"'
        tls = f"tls.certificate = [{{ {files} }}]"
    return tidewire(
        bench, "tidewire-edge.toml", "/", backend=backend, tls=tls, auth=auth, users=users,
        limits=limits, rules=rules, servers=servers or ONE_SERVER.format(backend=backend),
    )


def tidewire_balanced(bench, backend):
    """Pings to both sides, and all that balances and measures: which is to cost no message more."""
    servers = MANY_SERVERS.format(backend=backend)
    ping = 'ping = { client = "1s", server = "1s" }'
    return tidewire_edge(bench, backend, auth=ping, servers=servers)


def with_limits(limits):
    """Tidewire's edge with this in its `[limits]`."""
    return lambda bench, backend: tidewire_edge(bench, backend, limits=f"[limits]\n{limits}")


def refusing(status, rules):
    """An edge that answers every upgrade, or all but the first, with `status`."""

    def start_refusing(bench, backend):
        server = tidewire_edge(bench, backend, rules=rules)
        server.client = ["--refused", status]
        return server

    return start_refusing


def over_tls(start, *client):
    """An edge that speaks TLS; the generator offers what `client` says."""

    def start_over_tls(bench, backend):
        certificate = bench.certificate()
        server = start(bench, backend, certificate=certificate)
        server.url = server.url.replace("ws://", "wss://")
        server.client = ["--ca", certificate.cert, *client]
        return server

    return start_over_tls


def with_tokens(start, which="many"):
    """An edge whose clients bring tokens: each its own, or all the same."""

    def start_with_tokens(bench, backend):
        tokens = bench.tokens()
        server = start(bench, backend)
        server.client = ["--tokens", getattr(tokens, which)]
        return server

    return start_with_tokens


def tidewire_jwt(bench, backend):
    key = f'key = "{bench.tokens().public}", algorithms = ["ES256"], audience = ["chat"]'
    users = f'[[auth]]\nname = "users"\njwt = {{ {key} }}'
    return tidewire_edge(bench, backend, auth='auth = "users"', users=users)


def haproxy_jwt(bench, backend):
    """The signature only: that is what HAProxy 2.6 has a word for."""
    checked = f'http_auth_bearer,jwt_verify(ES256,"{bench.tokens().public}")'
    return haproxy(bench, backend, rules=f"http-request deny unless {{ {checked} -m int 1 }}")


def tidewire_hub(bench):
    return tidewire(bench, "tidewire-hub.toml", TOPIC)


def tidewire(bench, name, path, **values):
    port = free_port()
    config = bench.config(name, port=port, **values)
    process = bench.start("tidewire", [bench.tidewire, "run", "-c", config])
    wait_for_port(process, port, "tidewire")
    return started(process, port, path)


def uws(bench):
    return node(bench, "uws")


def express_ws(bench):
    return node(bench, "express")


def node(bench, name):
    env = {"NODE_PATH": str(bench.node_modules()), "NODE_ENV": "production"}
    process = bench.start(name, ["node", PEERS / f"{name}.js"], env=env)
    return started(process, printed_port(process, name), TOPIC)


def started(process, port, path="/", pids=None):
    return Started(f"ws://127.0.0.1:{port}{path}", pids or [process.pid], process)


def only_child(pid):
    """The worker of a master process."""
    deadline = time.monotonic() + CHILD_SECONDS
    while time.monotonic() < deadline:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if len(children) == 1:
            return int(children[0])
        time.sleep(0.05)
    raise CannotStart(f"process {pid} has {len(children)} workers, not one")


TOPIC = "/ws/bench"
ONE_SERVER = """balance = "roundrobin"
server = [{{ name = "server1", address = "127.0.0.1:{backend}" }}]
"""
# One server under three names.
MANY_SERVERS = """balance = "leastconn"
server = [
  {{ name = "server1", address = "127.0.0.1:{backend}", check = true, weight = 2, maxconn = 50000 }},
  {{ name = "server2", address = "127.0.0.1:{backend}", check = true }},
  {{ name = "server3", address = "127.0.0.1:{backend}", check = true, backup = true }},
]
check = {{ type = "tcp", interval = "1s", timeout = "500ms" }}
slowstart = "30s"
max_tunnels = 100000
rebalance = {{ band = "2%", rate = "50/s", delay = "30s", min_age = "1m" }}
eject = {{ connect_errors = 5 }}
"""
EDGES = {"tidewire": tidewire_edge, "haproxy": haproxy, "nginx": nginx, "relay": relay}
# Only where a message does not fit the default buffer.
EDGES_LARGE = {**EDGES, "haproxy-32k": haproxy_32k}
# The same cipher and group for all: what is compared is the servers, not their preferences.
TLS13 = ["--tls-version", "1.3", "--cipher", "aes-128-gcm", "--group", "x25519"]
# In TLS 1.2 a client's groups also say which certificates it takes: P-256 is for that.
TLS12 = ["--tls-version", "1.2", "--cipher", "aes-128-gcm",
         "--group", "x25519", "--group", "secp256r1"]
# As browsers offer it. OpenSSL 3.0 does not have it and takes X25519.
TLS13_POST_QUANTUM = ["--tls-version", "1.3", "--cipher", "aes-128-gcm",
                      "--group", "x25519mlkem768", "--group", "x25519"]
PLAIN_EDGES = {"tidewire": tidewire_edge, "haproxy": haproxy, "nginx": nginx}
EDGES_TLS = {name: over_tls(start, *TLS13) for name, start in PLAIN_EDGES.items()}
EDGES_HANDSHAKE = {
    **EDGES_TLS,
    "tidewire-pq": over_tls(tidewire_edge, *TLS13_POST_QUANTUM),
}


def with_resumption(client):
    """Each edge twice: clients that come back, and clients that are always new."""
    return {
        f"{name}{suffix}": over_tls(start, *client, *options)
        for name, start in PLAIN_EDGES.items()
        for suffix, options in (("", ["--resume"]), ("-full", []))
    }


EDGES_RESUME = with_resumption(TLS13)
EDGES_RESUME12 = with_resumption(TLS12)
EDGES_JWT = {
    "tidewire": with_tokens(tidewire_edge),
    "tidewire-jwt": with_tokens(tidewire_jwt),
    "tidewire-jwt1": with_tokens(tidewire_jwt, "one"),
    "haproxy": with_tokens(haproxy),
    "haproxy-jwt": with_tokens(haproxy_jwt),
}
# Every limit that looks at frames, none of which is reached.
FRAMES = (
    'framing = "strict", max_frame = "1MiB", max_message = "4MiB", max_fragments = 1000, '
    'opcodes = ["text", "binary"], messages = "10000000/s", bytes = "100GiB/s", '
    'control = "1000000/s", over_rate = "close"'
)
MANY = 'connections = 100000, handshakes = 100000, rate = "1000000/s", requests = "1000000/s"'
ALL_LIMITS = f"""profile = "strict"
client = {{ {FRAMES} }}
server = {{ {FRAMES} }}
lifetime = "1d"
stall = "1m"
per_address = {{ {MANY} }}
per_identity = {{ {MANY} }}
total = {{ {MANY} }}
"""
EDGES_LIMITS = {
    "tidewire": with_limits(ALL_LIMITS),
    "tidewire-default": tidewire_edge,
    "tidewire-off": with_limits('profile = "off"'),
}
EDGES_PINGED = {"tidewire": tidewire_balanced, "tidewire-silent": tidewire_edge}
# Every server that takes part is Tidewire: what is compared is an answer with another.
EDGES_LIMITED = {
    "tidewire": refusing(429, 'limits.per_address = { rate = "1/h" }'),
    "tidewire-accepts": tidewire_edge,
}
EDGES_DENIED = {
    "tidewire": refusing(403, 'deny = "127.0.0.0/8"'),
    "tidewire-accepts": tidewire_edge,
}
HUBS = {"tidewire": tidewire_hub, "uws": uws, "express-ws": express_ws}
