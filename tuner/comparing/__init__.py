"""Deployments held against each other: records, and what follows from them."""
