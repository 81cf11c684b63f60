"""A module per use case, from its options to its result: search, measure, compare, simulate.

They put the parts together; what a user sees is ``tuner.cli``.
"""
