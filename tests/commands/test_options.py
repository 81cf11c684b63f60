"""What commands take besides the experiment."""

import pytest
from pydantic import ValidationError

from tuner.commands.options import SearchOptions


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a/b", ".", "..", ".hidden", "", "a/"])
def test_the_name_of_a_run_does_not_lead_out_of_its_folder(name: str) -> None:
    with pytest.raises(ValidationError, match="a plain name"):
        SearchOptions(run=name)


def test_other_names_are_taken() -> None:
    assert SearchOptions(run="nightly 2024-05-01").run == "nightly 2024-05-01"
