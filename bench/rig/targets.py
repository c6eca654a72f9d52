"""The targets, in one place. `bench/compare` prints them beside the figures."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Ratio:
    """Tidewire's figure over a peer's, the median of the rounds."""

    part: str
    figure: str
    peer: str
    limit: float


@dataclass(frozen=True)
class Absolute:
    """Tidewire's figure itself, in the unit of the figure."""

    part: str
    figure: str
    limit: float


@dataclass(frozen=True)
class Growth:
    """One figure of Tidewire over another of the same run."""

    part: str
    figure: str
    over: str
    limit: float


@dataclass(frozen=True)
class Rise:
    """One figure of Tidewire less another of the same run."""

    part: str
    figure: str
    over: str
    limit: float


@dataclass(frozen=True)
class Surcharge:
    """The figure of a variant of Tidewire less Tidewire's own, the median of the rounds."""

    part: str
    figure: str
    variant: str
    limit: float


TARGETS = [
    Ratio("echo64", "cpu", "haproxy", 1.05),
    Ratio("echo64", "cpu", "nginx", 1.05),
    Ratio("echo64", "cpu", "relay", 1.15),
    Ratio("echo64x1000", "cpu", "haproxy", 0.95),
    Ratio("echo64x1000", "cpu", "nginx", 1.00),
    Ratio("echo64x1000", "cpu", "relay", 1.15),
    Ratio("echo16k", "cpu", "haproxy", 0.80),
    Ratio("echo16k", "cpu", "relay", 1.25),
    Ratio("upgrade", "cpu", "haproxy", 1.15),
    Ratio("refuse429", "cpu", "tidewire-accepts", 0.50),
    Ratio("refuse403", "cpu", "tidewire-accepts", 0.50),
    Absolute("idle", "idle", 1.5),
    Growth("idle", "after echo", "idle", 1.10),
    Ratio("tlsecho64", "cpu", "haproxy", 1.00),
    Ratio("tlsecho64", "cpu", "nginx", 1.15),
    # Both: it is the better one of them that counts.
    Ratio("tlshandshake", "cpu", "haproxy", 1.10),
    Ratio("tlshandshake", "cpu", "nginx", 1.10),
    # Only the first connections of a run have no session to resume.
    Absolute("tlsresume", "full", 1.0),
    Ratio("tlsresume", "cpu", "tidewire-full", 1.00),
    Absolute("tlsresume12", "full", 1.0),
    Ratio("tlsresume12", "cpu", "tidewire-full", 1.00),
    Absolute("tlsidle", "idle", 10.0),
    Rise("tlsidle", "after echo", "idle", 0.5),
    Surcharge("jwt", "cpu", "tidewire-jwt", 120.0),
    Ratio("limits64", "cpu", "tidewire-off", 1.05),
    Ratio("limits16k", "cpu", "tidewire-off", 1.05),
    Ratio("pinged64", "cpu", "tidewire-silent", 1.05),
    Absolute("hubidle", "idle", 1.5),
    Ratio("fanout", "cpu", "uws", 1.20),
    Ratio("fanout", "cpu", "express-ws", 0.50),
]
