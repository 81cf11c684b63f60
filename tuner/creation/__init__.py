"""Model repositories made of a model file, of a folder of transformers, or of a Python function."""
