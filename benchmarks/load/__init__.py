"""The load generator against perf_analyzer and against plain clients."""
