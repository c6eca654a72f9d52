"""The parts of the comparison: which work, on which servers, and which figures come of it."""

from dataclasses import dataclass

from . import peers
from .credentials import TOKENS


@dataclass(frozen=True)
class Figure:
    """One number of a run, and its unit."""

    title: str
    unit: str
    find: object


def cost(report):
    """CPU time for each unit of work, of all processes of the server."""
    return sum(process["cpu_us_per_unit"] or 0 for process in report["processes"])


def kib(name):
    return lambda report: report["memory"][name] / 1024


@dataclass(frozen=True)
class Part:
    """One kind of work; `{duration}` in its arguments is the duration asked for."""

    title: str
    group: str
    servers: dict
    arguments: list
    figures: dict
    # What stands behind the figures in the table, as `{name}` of the report.
    aside: str
    # Memory has a history: a fresh process for each run.
    is_fresh: bool = False


def echo(title, connections, size, servers=peers.EDGES, group="edge"):
    return Part(
        title=title,
        group=group,
        servers=servers,
        arguments=["echo", "--connections", connections, "--size", size,
                   "--duration", "{duration}"],
        figures={"cpu": Figure("CPU per echo", "us", cost)},
        aside="core {core:.0f} %, {messages_per_second:,.0f}/s, p50 {p50:.2f} ms, p99 {p99:.2f} ms",
    )


def upgrades(title, servers, group, count=8000, options=(), figures=None):
    return Part(
        title=title,
        group=group,
        servers=servers,
        arguments=["connect", "--connections", count, "--concurrency", 20, *options],
        figures={"cpu": Figure("CPU per upgrade", "us", cost), **(figures or {})},
        aside="core {core:.0f} %, {upgrades_per_second:,.0f}/s, p50 {p50:.2f} ms, p99 {p99:.2f} ms",
    )


def idle(title, servers, group):
    return Part(
        title=title,
        group=group,
        servers=servers,
        arguments=["idle", "--connections", 4000, "--echo-bytes", "60KB"],
        figures={
            "idle": Figure("PSS per idle tunnel", "KiB", kib("per_connection")),
            "after echo": Figure("after 60 KB", "KiB", kib("per_connection_after_echo")),
        },
        aside="",
        is_fresh=True,
    )


def fanout(title, rate):
    return Part(
        title=title,
        group="hub",
        servers=peers.HUBS,
        arguments=["fanout", "--subscribers", 1000, "--rate", rate, "--size", "64B",
                   "--duration", "{duration}"],
        figures={"cpu": Figure("CPU per delivery", "us", cost)},
        aside="core {core:.0f} %, delivered {delivered_percent:.1f} %, "
              "{deliveries_per_second:,.0f}/s, p50 {p50:.1f} ms, p99 {p99:.1f} ms",
        # What one run leaves undelivered must not weigh on the next.
        is_fresh=True,
    )


def resumption(version, servers):
    return upgrades(
        f"{version}: connect, resume a session or not, upgrade, close",
        servers, "secure", count=4000,
        figures={"full": Figure("full handshakes", "%", lambda report: report["full"])},
    )


PARTS = {
    "echo64": echo("edge: 64 B echoes through 100 tunnels", 100, "64B"),
    "echo64x1000": echo("edge: 64 B echoes through 1,000 tunnels", 1000, "64B"),
    "echo16k": echo("edge: 16 KiB echoes through 30 tunnels", 30, "16KiB", peers.EDGES_LARGE),
    "upgrade": upgrades("edge: connect, upgrade, close", peers.EDGES, "edge"),
    "refuse429": upgrades(
        "edge: connect, be refused by a quota or be accepted, close", peers.EDGES_LIMITED, "edge"
    ),
    "refuse403": upgrades(
        "edge: connect, be refused by address or be accepted, close", peers.EDGES_DENIED, "edge"
    ),
    "idle": idle(
        "edge: memory of 4,000 idle tunnels, then after each has echoed 60 KB", peers.EDGES, "edge"
    ),
    "tlsecho64": echo(
        "TLS 1.3: 64 B echoes through 100 tunnels", 100, "64B", peers.EDGES_TLS, "secure"
    ),
    "tlsecho16k": echo(
        "TLS 1.3: 16 KiB echoes through 30 tunnels", 30, "16KiB", peers.EDGES_TLS, "secure"
    ),
    "tlshandshake": upgrades(
        "TLS 1.3: connect, full handshake, upgrade, close",
        peers.EDGES_HANDSHAKE, "secure", count=4000,
    ),
    "tlsresume": resumption("TLS 1.3", peers.EDGES_RESUME),
    "tlsresume12": resumption("TLS 1.2", peers.EDGES_RESUME12),
    "tlsidle": idle(
        "TLS 1.3: memory of 4,000 idle tunnels, then after each has echoed 60 KB",
        peers.EDGES_TLS, "secure",
    ),
    "jwt": upgrades(
        "edge: connect, upgrade with an ES256 token, close", peers.EDGES_JWT, "secure",
        count=TOKENS, options=["--header", "Authorization: Bearer {{token}}"],
    ),
    "limits64": echo(
        "limits: 64 B echoes through 100 tunnels, with every limit, the defaults, and none",
        100, "64B", peers.EDGES_LIMITS, "limits",
    ),
    "limits16k": echo(
        "limits: 16 KiB echoes through 30 tunnels, with every limit, the defaults, and none",
        30, "16KiB", peers.EDGES_LIMITS, "limits",
    ),
    "pinged64": echo(
        "balancing: 64 B echoes through 100 tunnels, pinged, checked, rebalanced, and plain ones",
        100, "64B", peers.EDGES_PINGED, "limits",
    ),
    "hubidle": Part(
        title="hub: memory of 4,000 idle clients of one topic",
        group="hub",
        servers=peers.HUBS,
        arguments=["idle", "--connections", 4000],
        figures={"idle": Figure("PSS per idle client", "KiB", kib("per_connection"))},
        aside="",
        is_fresh=True,
    ),
    "fanout": fanout("hub: 1,000 messages/s of 64 B to 1,000 subscribers of one topic", 1000),
    # No two messages fall into one turn of an event loop: what a delivery costs by itself.
    "fanout100": fanout("hub: 100 messages/s of 64 B to 1,000 subscribers of one topic", 100),
}
