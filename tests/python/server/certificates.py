"""Certificates that sign themselves, made as they are needed."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path
from typing import NamedTuple


class Certificate(NamedTuple):
    """A certificate of localhost and 127.0.0.1, and its key, as PEM files."""

    cert: Path
    key: Path

    def trusting(self) -> ssl.SSLContext:
        """A client that trusts this certificate and no other."""
        return ssl.create_default_context(cafile=str(self.cert))


def make_certificate(folder: Path, name: str, *, kind: str = "ec") -> Certificate:
    """Make one of elliptic curves or of RSA."""
    keys = {"ec": ["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"], "rsa": ["rsa:2048"]}
    made = Certificate(folder / f"{name}.cert.pem", folder / f"{name}.key.pem")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-nodes", "-days", "2", "-subj", f"/CN={name}"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-newkey", *keys[kind], "-keyout", str(made.key), "-out", str(made.cert)),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return made
