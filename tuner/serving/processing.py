"""From requests to tensors and back: what a service does before and after the model.

A model says its own in ``processing.py``, in its folder: a function ``create(folder, signature)``
that returns a ``Processing``. Where there is none, requests and answers are the model's tensors.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from pydantic import BaseModel

from tuner.model.signature import Arrays


class Processing(Protocol):
    """Pre- and post-processing of one model; used from several threads at once."""

    Request: type[BaseModel]
    """The body of ``/predict``: one item."""
    Item: Any
    """What ``/batch_predict`` takes a list of: ``Request``, or a shorter form of it."""
    Prediction: type[BaseModel]
    """What is said of one item. The service adds ``latency_ms``."""

    def encode(self, items: Sequence[Any]) -> Arrays:
        """The model's inputs for these (validated) requests or items, joined along the batch.

        ValueError, with words for the caller, if an item cannot be taken.
        """

    def decode(self, outputs: Arrays) -> list[Any]:
        """A ``Prediction`` for each row of the model's outputs."""
