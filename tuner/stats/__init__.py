"""Estimators, evidence, fits and pooling: pure functions of samples."""
