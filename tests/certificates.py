"""Certificates for servers of tests."""

import subprocess
from pathlib import Path


def make_certificate(folder: Path) -> Path:
    """A certificate for this machine that vouches for itself; its key has the same name and ``.key``."""
    made = folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, *subject, "-keyout", f"{made}.key", "-out", made], check=True, capture_output=True)
    return made
