"""Fixtures of the tests that drive a browser."""

from browser import address, tab  # noqa: F401
