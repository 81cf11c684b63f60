"""Commands on the embedded Triton other than a whole search, which is in test_search.py."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Outcome, no_server_left, sleepy_model
from tuner.records.run import Run
from tuner.servers.base import ServerSpec
from tuner.servers.control import Control
from tuner.servers.local import LocalLauncher

pytestmark = [pytest.mark.triton, pytest.mark.usefixtures("embedded_triton")]
Tuner = Callable[..., Outcome]
# Judged after three seconds at this rate, and one request in ten may be late: the machine's noise,
# up to stalls that take a tenth of the time, does not decide.
AT_EASE = ("--sla", "p90<150ms", "--rate", "100")


@pytest.fixture
def model(repository: Path, tmp_path: Path) -> Path:
    """A model of this test alone, so that its servers can be told from others."""
    return Path(shutil.copytree(repository / "emulated_gpu", tmp_path / "models/emulated_gpu"))


@pytest.fixture(autouse=True)
def nothing_left_running(tmp_path: Path) -> Iterator[None]:
    with no_server_left(tmp_path):
        yield


def test_promise_below_a_single_request_is_told_soon(tuner: Tuner, model: Path) -> None:
    done = tuner("search", str(model), "--sla-p99", "2ms", "--sampler", "tpe", "--trials", "1")
    assert done.code == 1, done.err
    assert "Nothing meets p99 ≤ 2 ms" in done.out
    assert "Closest: " in done.out
    assert "A single request alone takes" in done.out


def test_measure_judges_a_rate_with_fields_set(tuner: Tuner, model: Path) -> None:
    done = tuner(
        *("measure", str(model), "--sla", "p50<60ms,p90<150ms", "--rate", "100", "--workers", "2"),
        *("--set", "max_batch_size=16", "--set", "preferred_batch_size=4,8", "--json"),
    )
    assert done.code == 0, done.err
    assert done.result["winner"]["capacity_per_second"] == 100


def test_measure_under_a_trace_of_batches_in_shared_memory(
    tuner: Tuner, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "trace.csv").write_text("timestamp\n" + "".join(f"{n * n}\n" for n in range(99)))
    words = ("--load", "trace:trace.csv", "--batch", "1:3,4:1", "--shared-memory", "system")
    done = tuner("measure", str(model), *AT_EASE, *words, "--json")
    assert done.code == 0, done.err
    assert done.result["winner"]["items_per_request"] == 1.75
    run = Run.open(tmp_path / done.result["run"])
    assert len(run.manifest().trace_sha256 or "") == 64
    assert [p.load for p in run.evaluations()[0].probes] == ["closed", "trace:trace.csv"]


def test_batches_that_the_model_does_not_take_are_told_at_once(tuner: Tuner, model: Path) -> None:
    done = tuner("measure", str(model), *AT_EASE, "--batch", "1,16")
    assert done.code == 3, done.out
    assert "max_batch_size 8 is below the largest request of the load, 16 items" in done.out


def test_measure_in_a_closed_loop(tuner: Tuner, repository: Path, tmp_path: Path) -> None:
    """A request takes 40 ms alone; of two at a time, each waits for the other."""
    model = sleepy_model(repository, tmp_path, max_batch_size=1, base_ms=40)
    done = tuner("measure", str(model), "--sla", "p50<60ms", "--load", "closed", "--json")
    assert done.code == 0, done.err
    assert 5 < done.result["winner"]["capacity_per_second"] < 25


def test_sample_model_is_served_with_its_own_configuration(tuner: Tuner) -> None:
    # On a busy machine late requests come in long clusters: a median is told by few of these.
    words = ("--sla", "p50<500ms", "--rate", "30")
    done = tuner("measure", "text_classifier", *words, "--json")
    assert done.code == 0, done.err
    assert (
        done.result["winner"]["settings"]["dynamic_batching.max_queue_delay_microseconds"] == 5000
    )


def test_attached_server_gets_its_configuration_back(
    tuner: Tuner, model: Path, tmp_path: Path
) -> None:
    spec = ServerSpec(model.parent, model.name, tmp_path / "attached.log", opens="all")
    with (
        LocalLauncher() as launcher,
        launcher.launch(spec) as server,
        Control(server) as control,
    ):
        control.load(model.name, None, 60)
        before = control.config(model.name)
        done = tuner(
            *("measure", str(model), *AT_EASE, "--json"),
            *("--set", "max_batch_size=4", "--set", "instance_count=2"),
            *("--launcher", "attached", "--url", f"http://{server.endpoints.http}"),
            *("--grpc-url", f"grpc://{server.endpoints.grpc}", "--protocol", "grpc"),
        )
        assert done.code == 0, done.err
        assert done.result["winner"]["capacity_per_second"] == 100
        assert control.config(model.name) == before
