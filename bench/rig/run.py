"""One part under way: its servers running, and one measurement after the other."""

import json
import subprocess

from . import peers
from .processes import CannotStart

MARGIN_SECONDS = 120


class Run:
    """One part with the servers that it found; each call of `measure` measures one of them once."""

    def __init__(self, bench, generator, part, names, duration):
        self.bench = bench
        self.generator = generator
        self.part = part
        self.duration = duration
        self.names = [name for name in part.servers if name in names]
        self.missing = {}
        self.started = {}
        self.backend = None

    def __enter__(self):
        if self.part.group != "hub":
            self.backend = peers.echo_backend(self.bench)
        for name in list(self.names):
            try:
                self.started[name] = self.start(name)
            except CannotStart as error:
                self.missing[name] = str(error)
                self.names.remove(name)
        return self

    def __exit__(self, *_):
        running = [*self.started.values(), *([self.backend] if self.backend else [])]
        self.bench.processes.stop([server.process for server in running])

    def start(self, name):
        start = self.part.servers[name]
        if self.backend is None:
            return start(self.bench)
        return start(self.bench, self.backend.url.rsplit(":", 1)[1].rstrip("/"))

    def measure(self, name):
        """Loads one server, and returns the generator's report."""
        if self.part.is_fresh:
            self.bench.processes.stop([self.started.pop(name).process])
            self.started[name] = self.start(name)
        server = self.started[name]
        job, *options = [
            str(word).format(duration=f"{self.duration}s") for word in self.part.arguments
        ]
        command = [self.generator, "bench", job, server.url, "--json", *options, *server.client]
        for pid in server.pids:
            command += ["--pid", pid]
        process = self.bench.start("generator", command, self.bench.cores.generator)
        try:
            output, _ = process.communicate(timeout=self.duration + MARGIN_SECONDS)
        except subprocess.TimeoutExpired:
            raise CannotStart(f"{name}: the run did not end in {MARGIN_SECONDS} s") from None
        finally:
            self.bench.processes.stop([process])
        if process.returncode:
            raise CannotStart(f"{name}: the generator failed; see its log")
        report = json.loads(output)
        report["core"] = sum(process["cpu_percent"] for process in report["processes"])
        if report["tls"]:
            full, resumed = report["tls"]["full"], report["tls"]["resumed"]
            report["full"] = 100 * full / (full + resumed)
        for percentile in ("p50", "p99"):
            if "latency" in report:
                report[percentile] = report["latency"][f"{percentile}_us"] / 1000
        return report
