"""HTTP services in front of a model: FastAPI alone, and FastAPI in front of Triton."""
