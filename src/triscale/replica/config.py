"""What the worker program is told when it starts: one JSON document, on its standard input."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from triscale.core.cluster import Address, ReplicaSpec
from triscale.core.pipeline import Variant
from triscale.wire.frames import MAX_BODY

__all__ = ["ReplicaConfig", "import_roots"]


class ReplicaConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything a replica needs to know; it reads no other file but its models'."""

    spec: ReplicaSpec
    variants: tuple[Variant, ...]
    """All variants of the stage; `spec.variants` names those to hold from the start."""
    children: tuple[str, ...] = ()
    """Child stages, in the order of `core.graph.Graph`."""
    join: bool = False
    """Whether an item has several parts (`join: all`)."""
    import_roots: tuple[str, ...] = ()
    """Folders to import models from, and to find their files in."""
    listen: Address = ""
    """Where to wait for the server; empty: on the socket that was inherited as `listen_fd`."""
    listen_fd: int = -1
    parent_pid: int = 0
    """The replica dies with this process and with its connection; 0: it outlives both and takes the next one."""
    token: str = ""
    """What the server's Hello must carry; for TCP, where anybody could connect."""
    max_body: int = MAX_BODY
    """Largest frame body to take or send, in bytes."""
    beat_s: float = 1.0


def import_roots(pipeline_path: Path | str) -> tuple[str, ...]:
    """The folders that a pipeline file's models are imported from: around the file, then the current one.

    Around the file: its nearest folder that is not itself a package (holds no `__init__.py`).
    """
    folder = Path(pipeline_path).resolve().parent
    while (folder / "__init__.py").exists() and folder.parent != folder:
        folder = folder.parent
    return tuple(dict.fromkeys((str(folder), str(Path.cwd()))))
