"""What follows from records: ratios, where time went, recommendations, replicas, claims.

Findings; how they are told is ``tuner.report`` and ``tuner.cli``.
"""
