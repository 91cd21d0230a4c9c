"""Frames: bytes in, messages out; no sockets."""
