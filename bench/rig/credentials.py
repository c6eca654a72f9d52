"""What the servers show and what clients bring: a certificate, a key, tokens; made for a run.

The `openssl` command makes keys and certificates, Node signs tokens.
"""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .processes import CannotStart

# As many as there are connections in a run of the part `jwt`: no two have the same.
TOKENS = 8000


@dataclass(frozen=True)
class Certificate:
    """An ECDSA P-256 certificate for the loopback address, which is its own authority."""

    cert: Path
    key: Path
    # Both in one file, as HAProxy reads them.
    combined: Path


@dataclass(frozen=True)
class Tokens:
    """ES256 tokens, the key that checks them, and one of them alone in a file."""

    public: Path
    many: Path
    one: Path


def certificate(directory):
    made = Certificate(*(directory / name for name in ("cert.pem", "key.pem", "combined.pem")))
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-sha256", "-days", "90", "-subj", "/CN=127.0.0.1", "-keyout", made.key,
            "-out", made.cert, "-addext", "subjectAltName=IP:127.0.0.1",
            "-addext", "basicConstraints=critical,CA:FALSE")
    made.combined.write_bytes(made.cert.read_bytes() + made.key.read_bytes())
    return made


def tokens(directory, script):
    private = directory / "jwt-private.pem"
    made = Tokens(*(directory / name for name in ("jwt-public.pem", "tokens.txt", "token.txt")))
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", private)
    openssl("pkey", "-in", private, "-pubout", "-out", made.public)
    signed = run("node", script, private, TOKENS)
    made.many.write_text(signed)
    made.one.write_text(signed.splitlines()[0] + "\n")
    return made


def openssl(*arguments):
    run("openssl", *arguments)


def run(*command):
    if not shutil.which(command[0]):
        raise CannotStart(f"{command[0]} is not installed")
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        raise CannotStart(f"`{command[0]}` failed: {done.stderr.strip()}")
    return done.stdout
