"""Manifests for Kubernetes: a Job that searches, and what serves the winner."""
