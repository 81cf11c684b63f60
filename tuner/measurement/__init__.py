"""One candidate, or several beside each other: calibrated, probed, judged, verified.

What is started and stopped for it is ``tuner.deployments``; what is sent is ``tuner.load``.
"""
