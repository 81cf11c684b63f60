"""Serves network.py through Triton's Python backend: rows in, one batch on the device, rows out."""

import contextlib
import json
import queue
import threading
from functools import partial
from pathlib import Path

import network
import torch
import triton_python_backend_utils as pb_utils
from execution import Runner, Slot, read_weights


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        options = {key: value["string_value"] for key, value in config["parameters"].items()}
        self._names = [entry["name"] for entry in config["input"]]
        self._output = config["output"][0]["name"]
        dims = [[int(d) for d in entry["dims"]] for entry in config["input"]]
        labels = int(config["output"][0]["dims"][-1])
        self._name = args["model_name"]
        try:
            self._network = network.build(options, labels, _weights(options))
            self._runner = Runner(
                self._network,
                partial(_example, dims),
                max(1, int(config["max_batch_size"])),
                _device(args),
                options["execution"],
                options["precision"],
            )
            depth = _depth(options["pipeline"])
        except (KeyError, ValueError, OSError) as error:
            raise pb_utils.TritonModelException(f"{self._name}: {error!r}") from error
        self._free = queue.SimpleQueue()
        for _ in range(depth):
            self._free.put(self._runner.slot())
        self._full = queue.SimpleQueue()
        self._worker = None
        if depth > 1:
            self._worker = threading.Thread(target=self._work, name="batches")
            self._worker.start()

    def execute(self, requests):
        """With a pipeline, returns once the batch is put together; the worker answers it."""
        slot = self._free.get()
        try:
            ends = self._fill(slot, requests)
            if self._worker is None:
                return list(self._answers(slot, ends))
            senders = [request.get_response_sender() for request in requests]
            self._full.put((slot, ends, senders))
            slot = None
        finally:
            if slot is not None:
                self._free.put(slot)

    def finalize(self):
        if self._worker is not None:
            self._full.put(None)
            self._worker.join()

    def _fill(self, slot: Slot, requests) -> list[int]:
        """Write the requests' rows one after another; where each request ends."""
        ends, row = [], 0
        for request in requests:
            for name, room in zip(self._names, slot.inputs, strict=True):
                rows = pb_utils.get_input_tensor_by_name(request, name).as_numpy()
                end = row + len(rows)
                room[row:end] = rows
            ends.append(end)
            row = end
        return ends

    def _answers(self, slot: Slot, ends: list[int]):
        """A response to each request; an error to those with rows that cannot be computed."""
        inputs = [room[: ends[-1]] for room in slot.inputs]
        illegal = self._network.illegal(*inputs)
        if illegal.any():
            inputs[0][illegal] = 0
        rows = self._runner.run(slot, ends[-1])
        for begin, end in zip([0, *ends], ends, strict=False):
            if illegal[begin:end].any():
                text = f"{self._names[0]} holds values that {self._name} has no use for"
                yield pb_utils.InferenceResponse(error=pb_utils.TritonError(text))
            else:
                tensor = pb_utils.Tensor(self._output, rows[begin:end])
                yield pb_utils.InferenceResponse([tensor])

    def _work(self):
        last = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
        while (batch := self._full.get()) is not None:
            slot, ends, senders = batch
            waiting = list(senders)
            try:
                for answer in self._answers(slot, ends):
                    waiting.pop(0).send(answer, flags=last)
            except Exception as error:  # noqa: BLE001  as in execute: Triton answers with it
                failure = pb_utils.TritonError(f"{type(error).__name__}: {error}")
                for sender in waiting:
                    with contextlib.suppress(Exception):  # the batches to come need this thread
                        sender.send(pb_utils.InferenceResponse(error=failure), flags=last)
            finally:
                self._free.put(slot)


def _example(dims, rows, generator):
    return network.example(rows, dims, generator)


def _weights(options):
    folder = options.get("checkpoint")
    return read_weights(Path(folder)) if folder else None


def _depth(text):
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"pipeline is {text!r}; it is a whole number of at least 1")
    return int(text)


def _device(args) -> torch.device:
    """Where Triton put this instance; KIND_MODEL leaves it to us: a GPU, where there is one."""
    match args["model_instance_kind"]:
        case "GPU":
            return torch.device("cuda", int(args["model_instance_device_id"]))
        case "MODEL" if torch.cuda.is_available():
            return torch.device("cuda", 0)
    return torch.device("cpu")
