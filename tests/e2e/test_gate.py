"""Gates on the embedded Triton, on a model with a real git history.

The model sleeps, so that its capacity is known and a busy machine hardly changes it.
"""

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.e2e.conftest import Outcome, command, environment, no_server_left, sleepy_model
from tests.model.test_revision import commit, git
from tuner.records.gate import Cause, Verdict, read_gate
from tuner.records.run import Run

pytestmark = [pytest.mark.triton, pytest.mark.usefixtures("embedded_triton")]
Tuner = Callable[..., Outcome]
HOW = ("--sla", "p90<250ms", "--load", "constant", "--launcher", "local", "-q", "--json")


@pytest.fixture(autouse=True)
def nothing_left_running(tmp_path: Path) -> Iterator[None]:
    with no_server_left(tmp_path):
        yield


@pytest.fixture
def model(repository: Path, tmp_path: Path) -> Path:
    """Serves 33 requests/s; committed once, on the branch ``main``."""
    made = sleepy_model(repository, tmp_path, max_batch_size=1, base_ms=30)
    git(tmp_path, "init", "-q", "-b", "main")
    (tmp_path / ".gitignore").write_text("reports/\n__pycache__/\n")
    commit(tmp_path)
    return made


def slow_down(model: Path, milliseconds: int) -> None:
    file = model / "1" / "model.py"
    text = file.read_text()
    call = "        fcntl.flock(self._device, fcntl.LOCK_EX)\n"
    assert call in text
    file.write_text(text.replace(call, f"        _sleep({milliseconds / 1000})\n{call}"))


def test_a_change_that_makes_a_model_slower_fails(
    tuner: Tuner, tmp_path: Path, model: Path
) -> None:
    slow_down(model, 15)
    done = tuner(
        *("gate", str(model), "--against", "main", *HOW),
        *("--write", "junit=out/gate.xml,markdown=out/gate.md"),
        env={"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md")},
    )
    assert done.code == 1, done.err
    result = done.result
    assert result["verdict"] == "fail"
    assert result["high"] < 1
    assert result["ratio"] == pytest.approx(30 / 45, rel=0.2)
    assert result["commit"] == git(tmp_path, "rev-parse", "main")
    (case,) = ElementTree.parse(tmp_path / "out/gate.xml").getroot()
    assert [each.tag for each in case] == ["failure"]
    assert (tmp_path / "out/gate.md").read_text() == (tmp_path / "summary.md").read_text()
    assert "::error title=tuner gate::Fail" in done.err
    assert "Fail: emulated_gpu serves" in (tmp_path / result["report"]).read_text()
    assert git(tmp_path, "status", "--porcelain", "--untracked-files=no").split() == [
        *("M", "models/emulated_gpu/1/model.py")
    ]


def test_a_change_that_makes_no_difference_passes(
    tuner: Tuner, tmp_path: Path, model: Path
) -> None:
    file = model / "1" / "model.py"
    file.write_text(file.read_text() + "\n# a remark\n")
    done = tuner("gate", str(model), "--against", "HEAD", "--margin", "20%", *HOW)
    assert done.code == 0, (done.err, done.out)
    assert done.result["verdict"] == "pass"
    assert done.result["low"] > 0.8


def test_too_little_time_is_inconclusive(tuner: Tuner, model: Path) -> None:
    done = tuner("gate", str(model), "--against", "HEAD", "--timeout", "8s", *HOW)
    assert done.code == 4, (done.err, done.out)
    assert done.result["verdict"] == "inconclusive"


def test_a_new_model_has_nothing_to_be_compared_with(
    tuner: Tuner, tmp_path: Path, model: Path
) -> None:
    git(tmp_path, "checkout", "-q", "--orphan", "empty")
    git(tmp_path, "rm", "-rq", "--cached", ".")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "nothing")
    done = tuner("gate", str(model), "--against", "empty", *HOW)
    assert done.code == 4
    assert done.result["cause"].startswith("there is nothing to compare with")


def test_a_version_that_does_not_run_fails(tuner: Tuner, model: Path) -> None:
    (model / "1" / "model.py").write_text("raise RuntimeError('a typing error')")
    done = tuner("gate", str(model), "--against", "HEAD", *HOW)
    assert done.code == 1, (done.err, done.out)
    by_name = {each["version"]: each for each in done.result["versions"]}
    assert "a typing error" in by_name["new"]["failure"]
    assert by_name["old"]["capacity_per_second"] is not None


def test_an_interrupted_gate_leaves_a_report_and_no_verdict(tmp_path: Path, model: Path) -> None:
    words = command("gate", str(model), "--against", "main", *HOW[:-2])
    with subprocess.Popen(words, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE) as gate:
        assert gate.stderr is not None
        for line in gate.stderr:
            if b"launching new" in line:
                break
        gate.send_signal(signal.SIGTERM)  # SIGINT may be ignored from the start
        rest = gate.stderr.read().decode()
    assert gate.returncode == 130, rest
    assert "a gate start anew" in rest
    (run,) = (tmp_path / "reports").iterdir()
    record = read_gate(Run.open(run))
    assert (record.verdict, record.cause) == (Verdict.INCONCLUSIVE, Cause.INTERRUPTED)
    assert "was interrupted" in (run / "report.html").read_text()


def test_a_version_that_meets_the_sla_at_no_rate_has_no_capacity(tuner: Tuner, model: Path) -> None:
    slow_down(model, 300)
    done = tuner("gate", str(model), "--against", "HEAD", *HOW)
    assert done.code == 1, (done.err, done.out)
    by_name = {each["version"]: each for each in done.result["versions"]}
    assert by_name["new"]["capacity_per_second"] is None


@pytest.mark.parametrize(("rate", "code"), [("15/s", 0), ("60/s", 1)])
def test_a_rate_is_judged_by_one_test(tuner: Tuner, model: Path, rate: str, code: int) -> None:
    done = tuner("gate", str(model), "--against", rate, *HOW)
    assert done.code == code, (done.err, done.out)
    assert done.result["rate"] == float(rate.removesuffix("/s"))


def test_a_run_counts_on_the_machine_on_which_it_was_made(
    tuner: Tuner, tmp_path: Path, model: Path
) -> None:
    measured = tuner("measure", str(model), *HOW)
    assert measured.code == 0, measured.err
    run = tmp_path / measured.result["run"]
    slow_down(model, 40)
    done = tuner("gate", str(model), "--against", str(run), *HOW)
    assert done.code == 1, (done.err, done.out)
    assert done.result["baseline"] == pytest.approx(33, rel=0.3)
    manifest = run / "experiment.yaml"
    text = manifest.read_text()
    line = next(each for each in text.splitlines() if each.startswith("  processor:"))
    manifest.write_text(text.replace(line, "  processor: another one"))
    done = tuner("gate", str(model), "--against", str(run), *HOW)
    assert done.code == 4
    assert "processor (another one, here" in json.dumps(done.result["notes"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--against", "nonsense"), "neither a rate such as 800/s, nor a folder, nor a git"),
        (("--against", "800"), "neither a rate such as 800/s"),
        (("--against", "HEAD", "--load", "closed"), "a gate needs an open loop"),
        (("--against", "HEAD", "--margin", "0"), "margin"),
        (("--against", "HEAD", "--write", "pdf=x"), "one of the formats junit, bencher"),
        (("--against", "models"), "not versions of the same model"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(
    refusal: Callable[..., str], model: Path, words: tuple[str, ...], said: str
) -> None:
    assert said in refusal("gate", str(model), "--sla-p99", "20ms", *words)
