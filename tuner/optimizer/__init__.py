"""Which candidate is next, and when to stop: the Optuna study, its samplers, what they learn.

Optuna stays in here. How one candidate is measured is ``tuner.measurement``.
"""
