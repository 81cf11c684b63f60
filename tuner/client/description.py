"""A server's description of a model, from the replies of either protocol."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tuner.client.errors import ServerError
from tuner.documents import MALFORMED
from tuner.errors import ModelConfigError
from tuner.model.signature import Signature
from tuner.text import shortened


@dataclass(frozen=True)
class Description:
    """``stateful``: the model's answers depend on requests before, so none may be sent twice."""

    signature: Signature
    stateful: bool
    versions: tuple[str, ...]

    @classmethod
    def of(cls, metadata: Mapping[str, Any], config: Mapping[str, Any]) -> "Description":
        """From ``v2/models/M`` and ``v2/models/M/config``, as JSON or of equal form; ServerError if
        they are not of that form.
        """
        try:
            tensors = {"inputs": (), "outputs": (), **metadata}
            return cls(
                Signature.of_metadata(tensors, config),
                "sequence_batching" in config,
                tuple(map(str, metadata.get("versions", ()))),
            )
        except ModelConfigError as error:
            raise ServerError(str(error)) from error
        except MALFORMED as error:
            raise ServerError(
                f"the description of the model is not in Triton's format: {shortened(repr(error))}"
            ) from error
