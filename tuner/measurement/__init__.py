"""Measures one candidate, or several side by side: calibration, probes, verdicts, verification.

What is started and stopped for it is ``tuner.deployments``; what is sent is ``tuner.load``.
"""
