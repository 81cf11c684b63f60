"""What GPUs say, through nvidia-ml-py and a library in NVML's place."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.nvml.conftest import OLD, OLDER, FakeNvml, Lines, gpu, machine, write
from tuner.records.results import GpuReading

pytestmark = pytest.mark.slow

WATCH = """
import json, os, sys, time
from tuner.servers.gpu import Gpus
from tuner.servers.gpu_watch import GpuWatch
visible, now, later = sys.argv[1:]
with Gpus(visible) as gpus:
    notes = [str(note) for note in gpus.notes()]
    with GpuWatch(gpus, gpus.users()) as watch:
        time.sleep(0.45)
        if later:
            os.replace(later, now)
            time.sleep(0.45)
    reading = watch.reading()
    print(json.dumps({
        "devices": [each.index for each in gpus.devices],
        "about": gpus.describe(),
        "notes": notes,
        "reading": reading and reading.model_dump(),
    }))
"""
DOCTOR = """
import json
from tuner.commands.doctor import examine
print(json.dumps([vars(each) for each in examine("no-such-image") if "GPU" in each.name]))
"""


def watch(nvml: FakeNvml, lines: Lines, visible: str = "all", later: Lines | None = None) -> Any:
    nvml.says(lines)
    second = nvml.state.with_name("later.txt")
    if later is not None:
        write(second, later)
    return nvml.run(WATCH, visible, str(nvml.state), str(second) if later is not None else "")


def reading(found: Any) -> GpuReading:
    """Without the last digits of its means, which differ with how many readings there were."""
    values = found["reading"].items()
    return GpuReading.model_validate(
        {name: round(value, 9) if isinstance(value, float) else value for name, value in values}
    )


def test_a_reading_holds_means_peaks_and_nothing_else(nvml: FakeNvml) -> None:
    found = watch(nvml, machine(gpu()))
    assert reading(found) == GpuReading(
        utilisation=0.8,
        memory=2**29,
        power=61.0,
        devices=1,
        clock=1740.0,
        temperature=71.0,
    )
    assert found["about"] == {
        "gpu": "NVIDIA L4",
        "gpu_count": "1",
        "gpu_memory": "24 GiB",
        "gpu_driver": "550.54.15",
    }
    assert found["notes"] == []


def test_two_gpus_are_a_mean_and_the_hotter_one(nvml: FakeNvml) -> None:
    second = gpu("1", util=20, used=2**28, power=21_000, temperature=50, clock=1000)
    found = watch(nvml, machine(gpu(), second))
    got = reading(found)
    assert (got.devices, got.memory, got.temperature) == (2, 3 * 2**27, 71.0)
    assert got.utilisation == pytest.approx(0.5)
    assert got.power == pytest.approx(41.0)
    assert got.clock == pytest.approx(1370.0)
    assert found["about"]["gpu_count"] == "2"


def test_peaks_and_means_over_time(nvml: FakeNvml) -> None:
    now, later = machine(gpu(used=8 * 2**30, temperature=85)), machine(gpu(util=0, temperature=60))
    got = reading(watch(nvml, now, later=later))
    assert (got.memory, got.temperature) == (8 * 2**30, 85.0)
    assert got.utilisation is not None
    assert 0.2 < got.utilisation < 0.6


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        (0x4, ("power cap",)),
        (0x20, ("thermal",)),
        (0x48, ("hardware slowdown", "hardware thermal")),
        (0x80, ("power brake",)),
        (0x1 | 0x2 | 0x100, ()),
    ],
)
def test_reasons_to_throttle_are_words(nvml: FakeNvml, bits: int, words: tuple[str, ...]) -> None:
    assert reading(watch(nvml, machine(gpu(reasons=bits)))).throttled == words


def test_throttling_that_passes_is_kept(nvml: FakeNvml) -> None:
    found = watch(nvml, machine(gpu(reasons=0x4)), later=machine(gpu(reasons=0x20)))
    assert reading(found).throttled == ("power cap", "thermal")


@pytest.mark.parametrize(
    ("visible", "indices"),
    [
        ("all", ["0", "1", "2"]),
        ("none", []),
        ("", []),
        ("-1", []),
        ("1", ["1"]),
        ("2, 0", ["2", "0"]),
        ("1,-1,0", ["1"]),
        ("GPU-1a1b2c3d4,0", ["1", "0"]),
        ("GPU-2a", ["2"]),
    ],
)
def test_the_gpus_that_a_server_sees(nvml: FakeNvml, visible: str, indices: list[str]) -> None:
    found = watch(nvml, machine(gpu("0"), gpu("1"), gpu("2")), visible)
    assert found["devices"] == indices
    assert found["notes"] == []
    assert (found["reading"] is None) == (indices == [])


def test_a_gpu_that_is_not_there_is_told(nvml: FakeNvml) -> None:
    found = watch(nvml, machine(gpu("0"), gpu("1")), "1,7,0")
    assert found["devices"] == ["1"]
    assert "this machine has no GPU 7" in found["notes"][0]


class TestSlices:
    @pytest.fixture
    def split(self) -> Lines:
        slices = [
            {f"0:{n}.name": "NVIDIA A100 MIG 3g.20gb", f"0:{n}.uuid": f"MIG-{n}f", **memory}
            for n in (0, 1)
            for memory in ({f"0:{n}.total": 20 * 2**30, f"0:{n}.used": (n + 1) * 2**30},)
        ]
        return machine(gpu("0", slices=2, reasons=0x20, used=9 * 2**30), gpu("1"), *slices)

    @pytest.mark.parametrize(
        ("visible", "indices"),
        [("MIG-1", ["0:1"]), ("0:1", ["0:1"]), ("0", ["0:0"]), ("all", ["0:0", "1"])],
    )
    def test_are_chosen(
        self, nvml: FakeNvml, split: Lines, visible: str, indices: list[str]
    ) -> None:
        assert watch(nvml, split, visible)["devices"] == indices

    def test_have_memory_but_no_utilisation(self, nvml: FakeNvml, split: Lines) -> None:
        found = watch(nvml, split, "MIG-1f")
        assert reading(found) == GpuReading(
            utilisation=None,
            memory=2 * 2**30,
            power=None,
            devices=1,
            clock=1740.0,
            temperature=71.0,
            throttled=("thermal",),
        )
        assert found["about"]["gpu"] == "NVIDIA A100 MIG 3g.20gb"
        assert "partitioned (MIG)" in found["notes"][0]


class TestOthers:
    def test_were_there_before(self, nvml: FakeNvml) -> None:
        found = watch(nvml, machine(gpu(processes=os.getpid())))
        (other,) = reading(found).others
        assert other.endswith(f"(pid {os.getpid()})")
        assert f"GPU 0 is in use by {other}" in found["notes"][0]

    def test_may_be_of_another_container(self, nvml: FakeNvml) -> None:
        nobody = 2**22 + 1  # above any pid that Linux gives
        assert reading(watch(nvml, machine(gpu(processes=nobody)))).others == (f"pid {nobody}",)

    def test_who_left_meanwhile_was_there(self, nvml: FakeNvml) -> None:
        found = watch(nvml, machine(gpu(processes=os.getpid())), later=machine(gpu()))
        assert len(reading(found).others) == 1

    def test_who_came_later_is_taken_for_the_server(self, nvml: FakeNvml) -> None:
        found = watch(nvml, machine(gpu()), later=machine(gpu(processes=os.getpid())))
        assert reading(found).others == ()

    def test_may_be_known_by_their_memory_alone(self, nvml: FakeNvml) -> None:
        found = watch(nvml, machine(gpu(used=5 * 2**30)))
        assert "unknown processes (5 GiB of its memory)" in found["notes"][0]


class TestWhatIsMissing:
    def test_older_names_do_where_newer_ones_are_not(
        self, nvml_of: Callable[[int], Path], tmp_path: Path
    ) -> None:
        nvml = FakeNvml(nvml_of(OLD), tmp_path / "nvml.txt")
        found = watch(nvml, machine(gpu(reasons=4, processes=os.getpid())))
        got = reading(found)
        assert (got.memory, got.temperature, got.throttled) == (2**29, 71.0, ("power cap",))
        assert len(got.others) == 1
        assert len(found["notes"]) == 1

    def test_a_driver_that_is_too_old_is_told(
        self, nvml_of: Callable[[int], Path], tmp_path: Path
    ) -> None:
        nvml = FakeNvml(nvml_of(OLDER), tmp_path / "nvml.txt")
        found = watch(nvml, machine(gpu(reasons=4, used=0), driver="418.40"))
        got = reading(found)
        assert (got.utilisation, got.throttled) == (0.8, ())
        (note,) = found["notes"]
        assert "driver 418.40 is too old for" in note
        assert "throttling" in note
        assert "processes" in note
        assert note.endswith("update the driver")

    @pytest.mark.parametrize("name", ["util", "used", "power", "clock", "temperature"])
    def test_what_is_not_supported_is_unknown(self, nvml: FakeNvml, name: str) -> None:
        found = watch(nvml, machine(gpu(**{name: "!3"})))
        field = {"util": "utilisation", "used": "memory"}.get(name, name)
        values = found["reading"]
        assert values[field] is None
        assert None not in [v for k, v in values.items() if k != field]
        assert found["notes"] == []

    def test_what_is_not_permitted_is_unknown_and_told(self, nvml: FakeNvml) -> None:
        found = watch(nvml, machine(gpu(processes="!4", power="!4", used=0)))
        assert reading(found).power is None
        assert "not permitted: power, processes" in found["notes"][0]

    def test_a_gpu_that_says_nothing_gives_no_reading(self, nvml: FakeNvml) -> None:
        mute = {name: "!3" for name in ("util", "used", "power", "clock", "temperature", "reasons")}
        assert watch(nvml, machine(gpu(**mute)))["reading"] is None

    def test_a_gpu_that_is_lost_leaves_what_was_read(self, nvml: FakeNvml) -> None:
        lost = {name: "!15" for name in ("util", "used", "power", "clock", "temperature")}
        found = watch(nvml, machine(gpu()), later=machine(gpu(**lost)))
        got = reading(found)
        assert (got.utilisation, got.power, got.temperature) == (0.8, 61.0, 71.0)

    def test_a_gpu_that_was_lost_before_is_left_out(self, nvml: FakeNvml) -> None:
        found = watch(nvml, machine(gpu("0", uuid="!15"), gpu("1")))
        assert found["devices"] == ["1"]

    @pytest.mark.parametrize(
        ("code", "words"),
        [
            (9, "installed, but not loaded; load it"),
            (18, "the old kernel module is still loaded; reboot"),
            (4, "may not access the NVIDIA driver"),
            (999, "NVML failed: Unknown Error"),
        ],
    )
    def test_a_driver_that_does_not_start_is_told(
        self, nvml: FakeNvml, code: int, words: str
    ) -> None:
        found = watch(nvml, machine(gpu(), init=code))
        assert found["devices"] == []
        assert found["reading"] is None
        assert words in found["notes"][0]
        nvml.says(machine(gpu(), init=code))
        (finding,) = nvml.run(DOCTOR)
        assert not finding["there"]
        assert words in f"{finding['detail']}; {finding['remedy']}"

    def test_without_a_driver_there_is_nothing_to_say(self, tmp_path: Path) -> None:
        (tmp_path / "libnvidia-ml.so.1").write_text("no library")
        nvml = FakeNvml(tmp_path, tmp_path / "nvml.txt")
        found = watch(nvml, {})
        assert found == {"devices": [], "about": {}, "notes": [], "reading": None}
        (finding,) = nvml.run(DOCTOR)
        assert (finding["there"], finding["detail"]) == (False, "none seen")


def test_the_doctor_names_gpus_and_who_is_on_them(nvml: FakeNvml) -> None:
    nvml.says(machine(gpu(processes=os.getpid()), gpu("1", used=2**30)))
    first, *rest = nvml.run(DOCTOR)
    assert first == {
        "name": "NVIDIA GPU",
        "there": True,
        "detail": "2 × NVIDIA L4 with 24 GiB, driver 550.54.15",
        "remedy": "",
        "needed": False,
    }
    found = [each for each in rest if each["name"] == "GPU fit to measure on"]
    assert not any(each["there"] for each in found)
    assert f"(pid {os.getpid()})" in found[0]["detail"]
    assert "GPU 1 is in use by unknown processes" in found[1]["detail"]


OF_ONE_SERVER = """
import json, sys, time
from tuner.servers.gpu import Gpus
from tuner.servers.gpu_watch import GpuWatch
pids = tuple(map(int, sys.argv[1:]))
with Gpus("all") as gpus, GpuWatch(gpus, frozenset(), pids) as watch:
    time.sleep(0.5)
    print(json.dumps(watch.reading().memory))
"""


@pytest.mark.parametrize(
    ("pids", "memory"), [(("11", "12"), 2 * 2**20), (("12", "99"), 2**20), (("99",), None)]
)
def test_where_servers_share_a_gpu_memory_is_that_of_one(
    nvml: FakeNvml, pids: tuple[str, ...], memory: int | None
) -> None:
    """The library says 1 MiB of each process."""
    nvml.says(machine(gpu(used=2**33, processes="11 12 13")))
    assert nvml.run(OF_ONE_SERVER, *pids) == memory
