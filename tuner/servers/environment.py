"""The environment of a server: the variables it needs, and no secrets."""

import os
import re
from collections.abc import Mapping

from tuner.scratch import OWNER_VARIABLE, owner

_PASSED = re.compile(
    r"PATH|HOME|USER|LOGNAME|LANG|LANGUAGE|LC_\w+|TZ|TMPDIR|TERM"
    r"|LD_LIBRARY_PATH|LD_PRELOAD|PYTHONPATH|PYTHONHOME|VIRTUAL_ENV|CONDA_PREFIX"
    r"|(XDG|CUDA|CUDNN|NVIDIA|NCCL|TRITON|OMP|GOMP|KMP|MKL|OPENBLAS|NUMEXPR|ORT|TORCH|TF|TRT)_\w+"
    r"|PYTORCH_\w+|HF_HOME|TRANSFORMERS_CACHE|MALLOC_\w+|GLIBC_TUNABLES"
)
_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|CREDENTIAL|API_?KEY|PRIVATE", re.IGNORECASE)


def server_environment(changes: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """The variables that a server gets: those of this process that programs need to find their
    files and their devices; ``changes``, in front of what ``…PATH`` holds; and what a user has
    ``given``, whatever it is.
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if _PASSED.fullmatch(name) and not _SECRET.search(name)
    }
    for name, value in changes.items():
        inherited = environment.get(name) if name.endswith("PATH") else None
        environment[name] = os.pathsep.join((value, inherited)) if inherited else value
    return {**environment, **given, OWNER_VARIABLE: owner()}
