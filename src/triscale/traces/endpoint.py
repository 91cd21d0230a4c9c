"""Where a server listens, and how to trust it: its URL and the settings of TLS."""

from __future__ import annotations

import ssl
from typing import NamedTuple
from urllib.parse import urlsplit

from msgspec import Struct

from triscale.errors import ConfigError

__all__ = ["Endpoint", "Trust", "endpoint_of", "tls_context"]


class Trust(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which certificates of a server are taken as good. By default those that the system trusts."""

    cacert: str = ""
    """Path of a file of certificates, PEM, that are trusted instead of the system's."""
    insecure: bool = False
    """Take any certificate, of any name."""


class Endpoint(NamedTuple):
    """Where a server listens."""

    host: str
    port: int
    tls: bool
    prefix: str = ""
    """Of all its paths, such as /seldon/ns/model; empty or beginning with a slash, without one at its end."""

    @property
    def authority(self) -> str:
        """The value of the Host header: the port is left out where it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.tls] else f"{host}:{self.port}"


_PORTS = {False: 80, True: 443}
"""By whether TLS is spoken."""


def endpoint_of(url: str) -> Endpoint:
    """The endpoint of `http://host:port`, with a path before `/v2` or without; ConfigError for anything else."""
    try:
        parts = urlsplit(url)
        port = parts.port
        fits = parts.scheme in {"http", "https"} and bool(parts.hostname) and not (parts.query or parts.fragment)
    except ValueError:
        fits = False
    if not fits or not parts.hostname:
        raise ConfigError(f"url: {url!r} is not a server's address; write it like http://127.0.0.1:8000")
    prefix = parts.path.rstrip("/")
    if "v2" in prefix.split("/"):
        raise ConfigError(
            f"url: {url!r} names a route of the protocol; give the server's address only, without /v2 and what follows"
        )
    tls = parts.scheme == "https"
    return Endpoint(parts.hostname, port or _PORTS[tls], tls, prefix)


def tls_context(trust: Trust) -> ssl.SSLContext:
    """The settings of TLS; ConfigError when the file of certificates cannot be used."""
    try:
        context = ssl.create_default_context(cafile=trust.cacert or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"cacert: {trust.cacert!r} cannot be used ({error.strerror or error}); give a file of certificates in PEM"
        ) from None
    if trust.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
