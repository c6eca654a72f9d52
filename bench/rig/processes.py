"""Processes that are started and stopped by handle, each pinned to its core."""

import ctypes
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 20
STOP_SECONDS = 5
# Above ordinary work of the same machine, so that a compiler beside it disturbs less.
PRIORITY = -10
PR_SET_PDEATHSIG = 1


class CannotStart(Exception):
    """A peer is not installed, or did not come up; the text says what would help."""


@dataclass(frozen=True)
class Cores:
    """The server under test has a core to itself; the load shares what is left."""

    server: set
    generator: set
    backend: set

    @classmethod
    def of_this_machine(cls):
        cores = sorted(os.sched_getaffinity(0))
        backend = cores[1] if len(cores) > 2 else cores[0]
        return cls(server={cores[-1]}, generator={cores[0]}, backend={backend})


class Processes:
    """All that runs; leaving the `with` block stops it, whatever the reason for leaving."""

    def __init__(self, logs: Path):
        self.logs = logs
        self.running = []
        logs.mkdir(parents=True, exist_ok=True)

    def __enter__(self):
        # `kill` ends the comparison as Ctrl-C does: through the `finally`s.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        return self

    def __exit__(self, *_):
        self.stop(self.running)

    def start(self, name, command, cores, env=None):
        log = open(self.logs / f"{name}.log", "ab")
        try:
            process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **(env or {})},
                # Ctrl-C goes to the comparison alone, which stops the rest in order.
                start_new_session=True,
                preexec_fn=lambda: prepare(cores),
            )
        except FileNotFoundError:
            raise CannotStart(f"`{command[0]}` is not installed") from None
        finally:
            log.close()
        self.running.append(process)
        return process

    def stop(self, processes):
        for process in processes:
            if process.poll() is None:
                process.terminate()
        for process in list(processes):
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()
            self.running.remove(process)


def prepare(cores):
    """Runs in the child: its core, its priority, and its end if the comparison is killed."""
    os.sched_setaffinity(0, cores)
    try:
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
        # Linux shares out time between sessions first; within its own a process is alone here.
        Path("/proc/self/autogroup").write_text(str(PRIORITY))
    except OSError:
        pass  # Not root, or no autogroups: ordinary priority for all.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def free_port():
    """A port that the OS has just given; for programs that cannot ask it themselves."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def printed_port(process, name):
    """The port that a peer of ours prints when it listens."""
    line = process.stdout.readline().strip()
    if not line.isdigit():
        raise CannotStart(f"{name} did not start; see its log")
    return int(line)


def wait_for_port(process, port, name):
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise CannotStart(f"{name} ended with code {process.returncode}; see its log")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise CannotStart(f"{name} does not listen after {START_SECONDS} s")
