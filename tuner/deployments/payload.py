"""The same requests in each form in which a deployment takes them: JSON for services, tensors."""

import io
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from tuner.documents import lines_of, opened, parse_json
from tuner.errors import DocumentError, InputDataError
from tuner.load.batches import BatchMix
from tuner.load.input_file import read_inputs
from tuner.load.inputs import POOL, make_inputs
from tuner.load.target import Tensor
from tuner.model.signature import Signature
from tuner.serving.loading import find_processing
from tuner.serving.schema import TensorProcessing
from tuner.text import shortened

_SAMPLES = ("samples.jsonl", "samples.txt")
Body = dict[str, Any]


@dataclass(frozen=True)
class Payload:
    """``bodies`` are those of ``/predict``, each with its inputs in ``pool``, batch 1 in front.

    ``encode_seconds`` is the mean time to make the tensors of a body; None if the tensors
    themselves are what is asked with, so that ``sends_text`` is False.
    """

    bodies: tuple[Body, ...]
    pool: tuple[tuple[Tensor, ...], ...]
    batched: bool
    encode_seconds: float | None = None

    @property
    def sends_text(self) -> bool:
        return self.encode_seconds is not None

    def entries(self) -> list[Body]:
        """The tensors of each request as perf_analyzer's format has them."""
        return [_body(inputs, self.batched) for inputs in self.pool]

    def json(self, template: Any = None) -> tuple[bytes, ...]:
        """Each body as JSON, put into a template if there is one (see ``fill``)."""
        filled = (body if template is None else fill(template, body) for body in self.bodies)
        return tuple(json.dumps(each, ensure_ascii=False).encode() for each in filled)

    @classmethod
    def of(
        cls,
        model: Path,
        signature: Signature,
        processing: str | None = None,
        requests: Path | None = None,
        input_data: Path | None = None,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        seed: int = 0,
    ) -> "Payload":
        """Of a model with a processing of its own: from the file of requests, or the samples in its
        folder. Else from ``input_data`` or made up, as a search does it.

        InputDataError if there is nothing to send, or it does not fit.
        """
        make = find_processing(model, processing)
        if make is TensorProcessing:
            if requests is not None:
                raise InputDataError(
                    f"--requests {requests} needs the model's own processing, to convert them to "
                    "tensors; add --processing FILE, or pass tensors with --input-data"
                )
            return cls._of_tensors(signature, input_data, dict(shapes or {}), seed)
        bodies = read_bodies(requests or _samples(model))
        made = make(signature)
        began = time.perf_counter()
        try:
            pool = [
                _tensors(made.encode([made.Request.model_validate(b)]), signature) for b in bodies
            ]
        except (ValidationError, ValueError) as error:
            raise InputDataError(
                f"a request is not valid for the model's processing: {error}"
            ) from error
        spent = (time.perf_counter() - began) / len(bodies)
        return cls(tuple(bodies), tuple(pool), signature.batched, spent)

    @classmethod
    def _of_tensors(
        cls, signature: Signature, file: Path | None, shapes: dict[str, tuple[int, ...]], seed: int
    ) -> "Payload":
        if file is not None:
            pool = read_inputs(file, signature, shapes, BatchMix(), seed)
        else:
            pool = make_inputs(signature, shapes, np.random.default_rng(seed))
        bodies = tuple(_body(inputs, signature.batched) for inputs in pool)
        return cls(bodies, tuple(map(tuple, pool)), signature.batched)


def read_bodies(file: Path) -> list[Body]:
    """One request a line: an object in JSON, or a plain text, which is sent as ``{"text": …}``; as
    many from the beginning of the file as ``POOL`` has room for.
    """
    name = shortened(str(file))
    bodies: list[Body] = []
    size = 0
    try:
        with opened(file) as raw:
            text = io.TextIOWrapper(
                raw, encoding="utf-8", newline="\n"
            )  # texts may hold other ends
            for number, line in enumerate(lines_of(text, POOL.size), 1):
                if line.strip():
                    bodies.append(_line(line, f"{name}:{number}"))
                    size += len(line)
                if size > POOL.size or len(bodies) == POOL.entries:
                    break
    except DocumentError as error:
        raise InputDataError(f"cannot read --requests {name}: {error}") from error
    if not bodies:
        raise InputDataError(f"--requests {name} contains no request; write one per line")
    return bodies


def _line(line: str, where: str) -> Body:
    if not line.lstrip().startswith("{"):
        return {"text": line.strip()}
    try:
        body: Body = parse_json(line)
    except DocumentError as error:
        raise InputDataError(f"{where}: {error}") from error
    return body


def fill(template: Any, body: Mapping[str, Any]) -> Any:
    """The template with each string ``$name`` in it replaced by that field of the body, and
    ``$request`` by all of it; ``$$`` is a dollar sign. InputDataError if there is no such field.
    """
    match template:
        case dict():
            return {key: fill(value, body) for key, value in template.items()}
        case list():
            return [fill(value, body) for value in template]
        case "$request":
            return dict(body)
        case str() if template.startswith("$$"):
            return template[1:]
        case str() if template.startswith("$"):
            if template[1:] not in body:
                known = ", ".join(f"${name}" for name in (*body, "request"))
                raise InputDataError(
                    f"the template uses {shortened(template)}; a request has {shortened(known)}"
                )
            return body[template[1:]]
    return template


def _samples(model: Path) -> Path:
    for name in _SAMPLES:
        if (model / name).is_file():
            return model / name
    raise InputDataError(
        f"{model} has its own processing, but no requests: add --requests FILE with one request "
        f"per line, or a {_SAMPLES[0]} beside the model"
    )


def _tensors(arrays: Mapping[str, np.ndarray[Any, Any]], of: Signature) -> tuple[Tensor, ...]:
    found = []
    for spec in of.inputs:
        if spec.name in arrays:
            array = np.ascontiguousarray(arrays[spec.name], dtype=spec.dtype)
            found.append(Tensor(spec.name, spec.datatype, array))
    return tuple(found)


def _body(inputs: Sequence[Tensor], batched: bool) -> Body:
    """An item as nested lists by the inputs' names."""
    body = {}
    for tensor in inputs:
        array = tensor.array[0] if batched else tensor.array
        if tensor.datatype == "BYTES":
            array = np.vectorize(lambda raw: raw.decode(), otypes=[np.object_])(array)
        body[tensor.name] = array.tolist()
    return body
