"""What the machines have that a kit is carried to, and what may be missing there."""

from dataclasses import dataclass

OPTIONAL = {
    "numba": "nothing is simulated, Optuna's TPE chooses the candidates",
    "llvmlite": "numba does not work without it",
    "onnxruntime": "ONNX models are not served",
    "tokenizers": "text models are not served",
}
"""Packages that tuner can do without, and what it then does without. Too large to carry."""


@dataclass(frozen=True)
class Machine:
    """``has`` names packages that are installed there, in versions that nobody knows beforehand.

    ``spares`` of these are carried all the same: tuner needs them within narrow bounds of version.
    """

    what: str
    has: frozenset[str]
    spares: frozenset[str] = frozenset()


_SCIENTIFIC = (
    "torch numpy pandas scipy numba llvmlite onnxruntime onnx tokenizers transformers uvloop "
    "psutil rich typer pyyaml requests jinja2 protobuf grpcio prometheus-client nvidia-ml-py anyio "
    "h11 httpx filelock tqdm "
    # What these bring along.
    "annotated-doc certifi charset-normalizer click idna markdown-it-py markupsafe mdurl ml-dtypes "
    "packaging pygments python-dateutil shellingham six typing-extensions tzdata urllib3"
)

MACHINES = {
    "scientific": Machine(
        "Python with PyTorch, SciPy, numba and what is usual beside them",
        frozenset(_SCIENTIFIC.split()),
        # tritonclient asks for a recent grpcio and for an older ml-dtypes and protobuf, pydantic
        # for a recent typing-extensions.
        frozenset({"grpcio", "ml-dtypes", "protobuf", "typing-extensions"}),
    ),
    "pytorch": Machine(
        "Python with PyTorch, numpy and pandas, and nothing else",
        frozenset({"torch", "numpy", "pandas", "python-dateutil", "six", "tzdata"}),
    ),
}
