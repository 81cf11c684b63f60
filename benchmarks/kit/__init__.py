"""The kit: what a GPU machine without a network lacks to run tuner, in one file to carry there.

``python -m benchmarks.kit`` packs it here; ``benchmarks/gpu.sh`` calls ``benchmarks.kit.run``
there, which needs nothing but the standard library.
"""
