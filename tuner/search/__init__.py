"""Which candidate is next, and when to stop: the Optuna study, the strategy, what it learns.

Optuna stays in here. How one candidate is measured is ``tuner.measure``.
"""
