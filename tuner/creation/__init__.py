"""Model repositories made of a model file, or of a Python function."""
