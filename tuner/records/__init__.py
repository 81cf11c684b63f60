"""A run's folder: its records, written as it goes and read by all that tells of it."""
