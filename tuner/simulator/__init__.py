from importlib.util import find_spec

_NEEDED = ("numba", "scipy.linalg", "scipy.optimize", "scipy.special")


def is_available() -> bool:
    """Whether what it is compiled with is there, and what profiles are fitted with."""
    return all(find_spec(name) is not None for name in _NEEDED)
