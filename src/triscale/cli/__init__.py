"""Faces: parse, call one function, print."""
