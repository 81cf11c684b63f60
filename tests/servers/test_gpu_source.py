"""Where NVML says nothing, Triton's own metrics are the source of GPU readings."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tuner.deployments.triton import RunningTriton
from tuner.load.target import Target, Transport
from tuner.records.results import GpuReading
from tuner.servers.attached import AttachedServer
from tuner.servers.base import Endpoints
from tuner.servers.control import Control
from tuner.servers.gpu import Gpus

METRICS = b'nv_gpu_utilization{gpu_uuid="GPU-1"} 0.25\nnv_gpu_power_usage{gpu_uuid="GPU-1"} 60\n'


class Metrics(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(METRICS)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Metrics) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def reading(metrics: str | None) -> GpuReading | None:
    server = AttachedServer(Endpoints("127.0.0.1:1", metrics=metrics))
    target = Target(Transport.HTTP, "127.0.0.1:1", ())
    with Control(server) as control, Gpus("none") as gpus:
        running = RunningTriton(server, control, "m", target, 0.0, gpus, gpus.users())
        with running.watch_gpus() as watch:
            pass
        return running.gpu(watch)


def test_the_servers_metrics_stand_in(address: str) -> None:
    assert reading(address) == GpuReading(utilisation=0.25, memory=None, power=60.0)


def test_without_either_there_is_no_reading() -> None:
    assert reading(None) is None
