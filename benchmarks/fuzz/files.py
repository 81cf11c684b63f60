"""Readers of the files that users write: models, spaces, experiments, inputs, services."""

import re
from pathlib import Path

import numpy as np

from benchmarks.fuzz.options import CONFIG
from tuner.deployments.own import own_deployment, read_services
from tuner.deployments.payload import Payload, read_bodies
from tuner.documents import parse_json, parse_yaml
from tuner.errors import DocumentError, ModelConfigError, SpaceError
from tuner.experiment.resolve import resolve
from tuner.load.arrivals import Arrivals, schedule
from tuner.load.batches import BatchMix
from tuner.load.input_file import read_inputs
from tuner.load.inputs import make_inputs
from tuner.model.config import (
    check_measurable,
    fit_space,
    is_complete,
    parse_config,
    read_config,
    render,
    to_json,
    to_text,
)
from tuner.model.signature import Signature, TensorSpec
from tuner.model.space import Candidate, stated
from tuner.model.space_file import load_space
from tuner.model.weights import read_weights
from tuner.resources import bundled
from tuner.servers.gpu import Gpus

_INPUTS = Signature(
    "m",
    (
        TensorSpec("x", "FP32", (-1,)),
        TensorSpec("text", "BYTES", (1,), optional=True),
        TensorSpec("ids", "INT64", (2, -1), optional=True),
    ),
    (),
    8,
)
_FEW = 20
"""Candidates of a space to go on with."""
_LARGEST = 1 << 20
"""Items times bytes of requests to be made: more is right, but takes a moment for each input."""


def _written(folder: Path, name: str, raw: bytes) -> Path:
    file = folder / name
    file.write_bytes(raw)
    return file


def _documents(raw: bytes, folder: Path) -> object:
    """As JSON and as YAML: whatever is JSON in one of them is a value."""
    try:
        return parse_json(raw)
    except DocumentError:
        return parse_yaml(raw.decode("utf-8", errors="surrogateescape"))


def _space(raw: bytes, folder: Path) -> object:
    """Up to configurations of candidates."""
    config = parse_config(CONFIG, "config.pbtxt")
    space = fit_space(load_space(str(_written(folder, "space.yaml", raw))), config)
    space.count(limit=1000)
    drawn = space.sample(_FEW, np.random.default_rng(0))
    for candidate, point in drawn.items():
        if Candidate.of(stated(point)) != candidate:
            raise AssertionError(f"{point!r} is not {candidate}")
        to_text(render(config, candidate))
    return drawn


def _config(raw: bytes, folder: Path) -> object:
    """Up to a space that is fitted to the model, and requests for it."""
    model = folder / "m"
    model.mkdir(exist_ok=True)
    config = read_config(_written(model, "config.pbtxt", raw).parent)
    to_json(config)
    is_complete(config)
    try:
        check_measurable(config)
        fit_space(load_space("default"), config)
    except (ModelConfigError, SpaceError) as error:
        return error
    signature = Signature.of_config(config)
    sizes = [np.prod([abs(size) for size in spec.dims], dtype=float) for spec in signature.inputs]
    if signature.inputs and sum(sizes) < _LARGEST:
        make_inputs(signature, {}, np.random.default_rng(0), 4)
    return config


def _weights(raw: bytes, folder: Path) -> object:
    return read_weights(_written(folder, "weights.yaml", raw).parent)


def _experiment(raw: bytes, folder: Path) -> object:
    return resolve({}, _written(folder, "tuner.yaml", raw))


def _services(raw: bytes, folder: Path) -> object:
    """Up to what is sent to each."""
    payload = Payload(({"text": "a"},), (), True, 1e-4)
    found = read_services(_written(folder, "services.yaml", raw))
    for service in found.values():
        own_deployment(service, payload, Gpus("none"))
        service.recorded()
    return found


def _input_data(raw: bytes, folder: Path) -> object:
    return read_inputs(_written(folder, "data.json", raw), _INPUTS, {}, BatchMix.parse("1"))


def _requests(raw: bytes, folder: Path) -> object:
    return read_bodies(_written(folder, "requests.jsonl", raw))


def _trace(raw: bytes, folder: Path) -> object:
    arrivals = Arrivals.parse(f"trace:{_written(folder, 'trace.csv', raw)}")
    arrivals.least_seconds(100.0)
    return schedule(arrivals, 100.0, 0.5, np.random.default_rng(0)), arrivals.own_rate


def _presets(folder: str, pattern: str) -> list[bytes]:
    return [file.read_bytes() for file in sorted(bundled(folder).glob(pattern))]


def _renamed(config: bytes) -> bytes:
    """With the name of the folder that it is written to."""
    return re.sub(rb'name: "\w+"', b'name: "m"', config, count=1)


READERS = {
    "documents": (
        _documents,
        [b'{"a": [1, 2.5, "x", null, true]}', b"a: &x [1, 'b']\nc: *x\nd: {<<: {e: 1}, f: ~}\n"],
        [b"&a ", b"*a", b"<<: ", b"!!str "],
    ),
    "spaces": (
        _space,
        [
            *_presets("search_spaces", "*.yaml"),
            b"name: x\nparameters:\n  max_batch_size: [1, 8]\n  instance_count: {range: [1, 8]}\n"
            b"  max_queue_delay_microseconds: {range: [0, 1000000], step: 10}\n"
            b"  optimization.graph.level: [null, 1]\n  parameters[threads]: ['1', '2']\n",
            b"parameters: {max_batch_size: {range: [1, 100000], log: true}, "
            b"dynamic_batching: [true, false], preferred_batch_size: [[], [4, 8]]}\n",
        ],
        [b"range: ", b"step: ", b"log: true", b"values: ", b"parameters", b"- "],
    ),
    "config.pbtxt": (
        _config,
        [CONFIG.encode(), *map(_renamed, _presets("model_repository", "*/*.pbtxt"))],
        [b"dims: ", b"TYPE_STRING", b"model_warmup { }", b"sequence_batching { }", b"{ }"],
    ),
    "weights": (
        _weights,
        [b"file: 1/weights.bin\nseed: 7\nlayers: [64, 4096, 1]\n"],
        [b"../", b"layers", b"seed"],
    ),
    "experiments": (
        _experiment,
        [
            b"model: emulated_gpu\nsla: p99<20ms\nspace: default\ntimeout: 90s\ntrials: 5\n"
            b"shapes: {x: [3, 4]}\nenv: {A: b}\nbatch: 8\nload: gamma:2\nheaders: [{X: y}]\n",
            b"sla: p50<5ms,p99<20ms\nconstraints: [cpu<=4]\nmodel: text_classifier\nrate: 100\n"
            b"minimize: p99/10ms + instances\nserver_args: [--log-verbose=1]\nurl: triton:8000\n",
        ],
        [b"input_data: ", b"seed: ", b"pin: ", b"workers: ", b"storage: ", b"token_env: "],
    ),
    "services": (
        _services,
        [
            b"mine: {command: [serve, '{port}'], path: /classify, startup_timeout: 5s}\n"
            b"theirs: {url: 'https://[::1]/x?y=1', headers: ['X-Key: abc'], title: Theirs}\n",
            b"a:\n  url: http://localhost:80/predict\n  body: {inputs: [$text, {all: $request}]}\n"
            b"  method: PUT\n  content_type: text/plain\n  env: {A: b}\n",
        ],
        [b"body: ", b"$request", b"$$", b"folder: .", b"ready: /", b"token_env: HOME"],
    ),
    "input data": (
        _input_data,
        [
            b'{"data": [{"x": [1, 2.5, -3]}, {"x": {"content": [1, 2], "shape": [2]}}]}',
            b'{"a": 1, "data": [[{"x": [1], "text": ["a"]}], {"x": {"b64": "AACAPw=="}}]}',
            b'{"data": [{"x": [1], "ids": [[1, 2, 3], [4, 5, 6]]}]}',
        ],
        [b'"data": ', b'"b64": ', b'"content": ', b'"shape": [2, 2]', b'"x": ', b'"ids": '],
    ),
    "requests": (_requests, [b'{"text": "a"}\nplain text\n', b'{"inputs": [[1, 2]]}\n'], [b"{"]),
    "traces": (
        _trace,
        [
            b"0\n0.1\n0.15\n2.0\n",
            b"user,timestamp\na,1\nb,2.5\n",
            b"seconds,rate\n5,10\n1,50\n2,0\n",
        ],
        [b"timestamp", b"time", b"rate", b"#", b",", b'"', b"\r\n"],
    ),
}
