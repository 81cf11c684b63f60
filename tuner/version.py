"""The version, below all that records it."""

__version__ = "0.2.0"
