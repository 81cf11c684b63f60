"""tuner finds the Triton configuration that serves the most requests within a latency promise."""

__version__ = "0.1.0"
