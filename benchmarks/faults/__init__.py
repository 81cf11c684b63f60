"""Faults, one after another, done to searches with real servers: what is lost, what is said, what
is left, and whether it ends.

``python -m benchmarks.faults`` writes the table; ``tests/faults`` does each fault once. A ``Fault``
says what it does and what may come of it, ``attempts`` does it, ``judging`` looks at what came.
"""
