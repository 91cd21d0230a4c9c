"""Nouns: frozen values that every layer shares. No I/O, no clock, no randomness."""
