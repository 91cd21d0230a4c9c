"""Every exception that triscale raises on purpose.

    TriscaleError
    ├── ConfigError           a file or an option is wrong; the message names file, path, value, rule and next step
    ├── RequestError          one request failed; carries the HTTP status that says so
    │   ├── InvalidRequest    the client's mistake (400)
    │   ├── NotFound          no such model or route (404)
    │   ├── TooLarge          the body exceeds a limit (413)
    │   ├── NotReady          starting or draining, safe to try again (503)
    │   └── HttpError         HTTP itself refuses it (401, 405, 408, ...); in serve/http_response.py
    ├── WireError             a peer sent bytes that are not a frame of ours
    ├── ModelError            a model could not be loaded, or broke its contract
    ├── SimulationError       a promise of every simulation was broken; in sim/errors.py
    └── EngineError           a replica could not be launched, resized or drained

Branch on the type, never on the text: the text is for people. Refused, dropped and failed requests are not
exceptions but outcomes (`triscale.core.request.Outcome`): overload is normal operation.
"""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "EngineError",
    "InvalidRequest",
    "ModelError",
    "NotFound",
    "NotReady",
    "RequestError",
    "TooLarge",
    "TriscaleError",
    "WireError",
]


class TriscaleError(Exception):
    """The base of all exceptions of triscale."""


class ConfigError(TriscaleError):
    """A pipeline file, a profile or an option breaks one or more rules.

    `problems` holds one message for each broken rule, in the order of the file; the exception's text is all of them.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems: tuple[str, ...] = problems


class RequestError(TriscaleError):
    """One request cannot be served; `status` is the HTTP code that tells the client why."""

    status = 500


class InvalidRequest(RequestError):
    """The request is malformed or does not fit the pipeline's declared inputs."""

    status = 400


class NotFound(RequestError):
    """The request names a model, version or route that is not served here."""

    status = 404


class TooLarge(RequestError):
    """The request's body or one of its tensors exceeds the server's limit."""

    status = 413


class NotReady(RequestError):
    """The server is starting or draining; the same request may succeed elsewhere or later."""

    status = 503


class WireError(TriscaleError):
    """Bytes on a replica's connection are not a valid frame (garbage, truncated, oversize, wrong version)."""


class ModelError(TriscaleError):
    """A model's code failed to import, load or predict, or returned something its contract does not allow."""


class EngineError(TriscaleError):
    """An engine could not launch, resize or drain a replica."""
