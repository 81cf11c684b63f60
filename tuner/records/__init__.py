"""A run's folder and its records, written during the run and read by reports."""
