"""The thread that takes readings beside a measurement."""

import threading

from tuner.servers.periodic import PeriodicReader


def test_it_reads_until_it_is_stopped_and_no_more() -> None:
    enough, count = threading.Event(), 0

    def read() -> None:
        nonlocal count
        count += 1
        if count == 3:
            enough.set()

    reader = PeriodicReader("test", read, period=0.001, share=1.0)
    reader.start()
    assert enough.wait(20)
    reader.stop()
    assert count >= 3
    assert not [thread for thread in threading.enumerate() if thread.name == "test"]


def test_a_reading_that_hangs_holds_up_the_end_only_for_a_while() -> None:
    reading, released = threading.Event(), threading.Event()

    def hang() -> None:
        reading.set()
        released.wait(20)

    reader = PeriodicReader("test", hang, period=0.001, share=1.0)
    reader.start()
    assert reading.wait(20)
    reader.stop()
    assert not released.is_set()
    released.set()


def test_one_that_never_started_can_be_stopped() -> None:
    PeriodicReader("test", lambda: None, period=1.0, share=1.0).stop()
