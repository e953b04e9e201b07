"""Certificates for servers that speak TLS."""

from __future__ import annotations

from pathlib import Path

from tests.servers.processes import HOST, found, output


def certificate(folder: Path, name: str, host: str = HOST) -> tuple[Path, Path]:
    """A certificate that signs itself, for the address on which tests start servers or another host; and its key.

    It is valid for one day.
    """
    made, key = folder / f"{name}.crt", folder / f"{name}.key"
    subject = f"{'IP' if host == HOST else 'DNS'}:{host}"
    request = f"req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -addext subjectAltName={subject}"
    output(found("openssl", "openssl"), *request.split(), "-keyout", key, "-out", made)
    return made, key
