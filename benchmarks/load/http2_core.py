"""The load generator's gRPC client with tuner's HTTP/2 core, and with h2 in its place.

Both drive the same client in the same process, in turn, on a server that hardly computes. h2 is
given its best: no validation, no normalisation, no encoding of headers it knows.
"""

import asyncio
import resource
import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import hpack
import uvloop
from h2 import config, connection, events
from h2.settings import SettingCodes

from benchmarks.load.bench import Row, server, summary
from tuner.http2.connection import DEFAULTS, ClientConnection, Http2Settings
from tuner.http2.events import ABSENT, Event, Goaway, Response, SettingsReceived, StreamReset
from tuner.http2.frames import DEFAULT_WINDOW, LARGEST
from tuner.load import grpc_connection
from tuner.load.clients_grpc import GrpcClient
from tuner.load.target import Target, Transport

WARM_UP, SECONDS, CONCURRENCY = 0.3, 2.0, 8


def measure(rounds: int) -> tuple[dict[str, Row], list[str]]:
    cores: dict[str, Callable[..., Any]] = {"tuner.http2": ClientConnection, "h2": H2Core}
    costs: dict[str, list[float]] = {name: [] for name in cores}
    with server("emulated_gpu", cheap=True) as targets:
        target = targets[Transport.GRPC].target
        for number in range(rounds):
            for name in sorted(cores, reverse=bool(number % 2)):
                with patch.object(grpc_connection, "ClientConnection", cores[name]):
                    costs[name].append(uvloop.run(_cost(target)))
    ratios = [own / h2 for own, h2 in zip(costs["tuner.http2"], costs["h2"], strict=True)]
    rows: dict[str, Row] = {
        name: {
            "cpu_us": summary(found),
            "per_core": summary([1e6 / each for each in found], 0),
        }
        for name, found in costs.items()
    }
    rows["h2"]["against_own"] = summary(ratios, 2)
    return rows, [
        f"{CONCURRENCY} requests at a time for {SECONDS:g} s after {WARM_UP:g} s that do not "
        f"count, {rounds} rounds, both cores in turn; the ratio is of the same round",
    ]


async def _cost(target: Target) -> float:
    """CPU microseconds per request of a closed loop."""
    loop = asyncio.get_running_loop()
    over = loop.create_future()
    finished = sent = 0
    end = time.monotonic() + WARM_UP + SECONDS

    def send() -> None:
        nonlocal sent
        sent += 1
        client.send(sent)

    def done(_: int, ok: bool, message: str) -> None:
        nonlocal finished
        finished += 1
        if not ok and not over.done():
            over.set_exception(RuntimeError(message))
        elif time.monotonic() < end:
            send()
        elif not over.done():
            over.set_result(None)

    client = GrpcClient(target, done)
    for _ in range(CONCURRENCY):
        send()
    await asyncio.sleep(WARM_UP)
    before, cpu = finished, _cpu()
    await over
    cost = 1e6 * (_cpu() - cpu) / (finished - before)
    await client.close()
    return cost


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class H2Core:
    """h2 with the interface of ``ClientConnection``, as far as small requests need it."""

    def __init__(self, settings: Http2Settings = DEFAULTS) -> None:
        self._h2 = connection.H2Connection(
            config.H2Configuration(
                header_encoding=None,
                validate_inbound_headers=False,
                validate_outbound_headers=False,
                normalize_inbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self._settings = settings
        self._responses: dict[int, Response] = {}
        self._fields: dict[bytes, Any] = {}
        self._unrenewed = 0
        self.stream_limit = LARGEST
        self.greeted = self.closing = self.used = False
        self._keep = settings.keep or 0
        self._h2.initiate_connection()
        self._h2.update_settings(
            {
                SettingCodes.ENABLE_PUSH: 0,
                SettingCodes.INITIAL_WINDOW_SIZE: LARGEST,
                SettingCodes.MAX_FRAME_SIZE: settings.frame_size,
            }
        )
        self._h2.increment_flow_control_window(LARGEST - DEFAULT_WINDOW)
        self.take_output = self._h2.data_to_send

    def has_room(self) -> bool:
        return len(self._responses) < self.stream_limit and not self.closing

    def request(self, block: bytes, body: bytes, prefix: bytes = b"") -> int:
        fields = self._fields.get(block)
        if fields is None:
            fields = self._fields[block] = hpack.Decoder().decode(block, raw=True)
        self.used = True
        stream = self._h2.get_next_available_stream_id()
        self._h2.send_headers(stream, fields)
        self._h2.send_data(stream, prefix + body, end_stream=True)
        self._responses[stream] = Response(stream, ABSENT, ABSENT, bytearray())
        return stream

    def receive(self, data: bytes) -> list[Event]:
        found: list[Event] = []
        for event in self._h2.receive_data(data):
            match event:
                case events.DataReceived():
                    self._renew(event.flow_controlled_length)
                    response = self._responses[event.stream_id]
                    response.body += event.data[: max(0, self._keep - response.size)]
                    response.size += len(event.data)
                case events.ResponseReceived():
                    self._responses[event.stream_id].head = dict(event.headers)
                case events.TrailersReceived():
                    self._responses[event.stream_id].trailers = dict(event.headers)
                case events.StreamEnded():
                    found.append(self._responses.pop(event.stream_id))
                case events.StreamReset():
                    del self._responses[event.stream_id]
                    found.append(StreamReset(event.stream_id, int(event.error_code)))
                case events.RemoteSettingsChanged():
                    self.greeted = True
                    self.stream_limit = self._h2.remote_settings.max_concurrent_streams
                    found.append(SettingsReceived())
                case events.ConnectionTerminated():
                    self.closing = True
                    found.append(Goaway((), int(event.error_code), ""))
        return found

    def _renew(self, size: int) -> None:
        self._unrenewed += size
        if self._unrenewed > self._settings.renew_window_after:
            self._h2.increment_flow_control_window(self._unrenewed)
            self._unrenewed = 0
