"""Types of requests and answers: from a model's tensors, and those of the service itself."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, create_model

from tuner.model.signature import Arrays, Signature, TensorSpec
from tuner.serving.constants import REQUESTS
from tuner.serving.processing import Processing

NO_JSON = "the body is not valid JSON; send UTF-8 with Content-Type: application/json"
_LARGEST = {"FP16": 65504.0, "BF16": float(np.finfo(np.float32).max)}
_FORBID = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class TensorProcessing:
    """A model's own tensors as JSON: an item is its inputs by name, as nested lists without the
    batch; a prediction is its outputs by name. BYTES are text in UTF-8. What is no number in the
    outputs (NaN, infinite) becomes null, since JSON has no word for it; in inputs it is refused.
    """

    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        self.Request = _model("Tensors", signature.inputs, answer=False)
        self.Item: Any = self.Request
        self.Prediction = _model("Outputs", signature.outputs, answer=True)

    def encode(self, items: Sequence[Any]) -> Arrays:
        """Without a batch dimension if the model has none; there is one item then."""
        arrays = {}
        for number, spec in enumerate(self._signature.inputs):
            values = [getattr(item, _field(number)) for item in items]
            if all(value is None for value in values):
                continue
            if any(value is None for value in values):
                raise ValueError(f"{spec.name} is given in some items of the batch and not in all")
            arrays[spec.name] = _array(spec, values if self._signature.batched else values[0])
        return arrays

    def decode(self, outputs: Arrays) -> list[Any]:
        columns = [_values(outputs[spec.name]) for spec in self._signature.outputs]
        rows = zip(*columns, strict=True) if self._signature.batched else [columns]
        names = [_field(number) for number in range(len(columns))]
        return [
            self.Prediction.model_construct(**dict(zip(names, row, strict=True))) for row in rows
        ]


def _model(name: str, specs: Iterable[TensorSpec], answer: bool) -> type[BaseModel]:
    """Fields go by number and bear the tensor's name as alias: it may be no word of Python."""
    fields: dict[str, Any] = {}
    for number, spec in enumerate(specs):
        kind: Any = _element(spec, answer)
        for size in reversed(spec.dims):
            exact = None if size < 0 else size
            kind = Annotated[list[kind], Field(min_length=exact, max_length=exact)]
        about = f"{spec.datatype} {list(spec.dims)}"
        if spec.optional and not answer:
            fields[_field(number)] = kind | None, Field(None, alias=spec.name, description=about)
        else:
            fields[_field(number)] = kind, Field(alias=spec.name, description=about)
    return create_model(name, __config__=_FORBID, **fields)


def _field(number: int) -> str:
    return f"tensor_{number}"


def _element(spec: TensorSpec, answer: bool) -> Any:
    match spec.dtype.kind:
        case "O":
            return Annotated[str, Field(strict=True)]
        case "b":
            return Annotated[bool, Field(strict=True)]
        case "i" | "u":
            ends = np.iinfo(spec.dtype)
            return Annotated[int, Field(strict=True, ge=int(ends.min), le=int(ends.max))]
    if answer:
        return float | None
    most = _LARGEST.get(spec.datatype, float(np.finfo(spec.dtype).max))
    return Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-most, le=most)]


def _array(spec: TensorSpec, values: Any) -> np.ndarray[Any, Any]:
    try:
        if spec.datatype != "BYTES":
            return np.array(values, spec.dtype)
        texts = np.array(values, dtype=np.str_)
        return np.array([t.encode() for t in _flat(values)], dtype=object).reshape(texts.shape)
    except ValueError as error:
        raise ValueError(
            f"{spec.name}: its lists, over all items, must be equally long at each depth"
        ) from error


def _flat(values: Any) -> Iterable[str]:
    if isinstance(values, str):
        yield values
    else:
        for value in values:
            yield from _flat(value)


def _values(array: np.ndarray[Any, Any]) -> Any:
    if array.dtype.kind == "S" or array.dtype.kind == "O":
        array = np.array([_text(value) for value in array.flat], object).reshape(array.shape)
    return array.tolist()


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


class Problem(BaseModel):
    """An error: ``type`` is for programs, ``message`` for people."""

    type: str
    message: str


class ErrorAnswer(BaseModel):
    """Body of every error reply. The service's log has more under ``request_id``."""

    error: Problem
    request_id: str


class Health(BaseModel):
    """``status`` is ready, loading, unavailable or draining; ``worker`` is the process id."""

    status: str
    worker: int


class Status(Health):
    """``loaded`` is when this worker loaded the model; it changes with a reload. ``reason`` is why
    the model is not ready, if that is known.
    """

    model: str | None
    loaded: str | None
    reason: str | None = None


class Live(BaseModel):
    """``status`` is always ``live``."""

    status: str
    worker: int


def predict_answer(processing: Processing) -> type[BaseModel]:
    """A prediction's own fields, and ``latency_ms``, the milliseconds it took the service."""
    return create_model("PredictAnswer", __base__=processing.Prediction, latency_ms=(float, ...))


def batch_answer(processing: Processing) -> type[BaseModel]:
    """A prediction for each item, in their order, and the milliseconds of all together."""
    return create_model(
        "BatchAnswer",
        predictions=(list[processing.Prediction], ...),  # type: ignore[name-defined]
        latency_ms=(float, ...),
        batch_size=(int, ...),
    )


def explain(errors: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Type and message for pydantic's errors about a request's body, long values cut."""
    first = errors[0]
    if first["type"] == "json_invalid":
        return "malformed", f"{NO_JSON}; wrong at character {first['loc'][-1]}"
    if isinstance(first.get("input"), bytes):
        return "malformed", NO_JSON
    parts = []
    for error in errors[: REQUESTS.shown_errors]:
        place = ".".join(str(part) for part in error["loc"] if part != "body") or "body"
        problem = str(error["msg"]).removeprefix("Value error, ")
        value = ascii(error["input"]) if _is_short(error.get("input")) else ""
        parts.append(f"{place}: {problem}" + (f", not {value}" if value else ""))
    more = len(errors) - REQUESTS.shown_errors
    return "invalid", "; ".join(parts) + (f"; and {more} more" if more > 0 else "")


def _is_short(value: Any) -> bool:
    """Whether it can be shown; looks at no more of a value than that takes."""
    if isinstance(value, str):
        return len(value) <= REQUESTS.shown_value
    return isinstance(value, bool | float) or (
        isinstance(value, int) and abs(value) < REQUESTS.shown_integer
    )
