"""Measures variants and stores what was measured."""
