"""GPUs for containers, as ``--gpus`` names them."""

import pytest

from tuner.errors import UsageError
from tuner.servers.docker import device_requests


@pytest.mark.parametrize("ids", ["0", "0, 1", "1:0", "GPU-8f2c-1a", "MIG-GPU-8f2c/1/0,MIG-3e"])
def test_indices_and_identifiers(ids: str) -> None:
    (request,) = device_requests(ids)
    assert request["DeviceIDs"] == [each.strip() for each in ids.split(",")]


@pytest.mark.parametrize("ids", ["abc", "0,,1", "-1", ""])
def test_what_is_no_id_is_refused_with_the_forms_of_ids(ids: str) -> None:
    with pytest.raises(UsageError, match=r"--gpus '.*' is not valid; .* ids such as 0,1"):
        device_requests(ids)
