"""Failures are told apart by the words that servers, frameworks and drivers really use."""

import pytest

from tuner.servers.causes import cause_of, out_of_memory

TORCH = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 21.96 GiB of "
    "which 1.10 GiB is free. Including non-PyTorch memory, this process has 20.86 GiB memory in "
    "use."
)


@pytest.mark.parametrize(
    "text",
    [
        f"the server refused: load failed for model 'm': OutOfMemoryError: {TORCH}",
        "the model failed an inference: torch.OutOfMemoryError",
        "the server refused: CUDA error: out of memory",
        "the server refused: RuntimeError: cudaErrorMemoryAllocation",
        "the server refused: CUDA failure 2: CUDA_ERROR_OUT_OF_MEMORY",
        "the server refused: CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED",
        "the server refused: BFCArena::AllocateRawInternal Failed to allocate memory for requested "
        "buffer of size 4294967296",
        "the server refused: Requested amount of GPU memory (8589934592 bytes) could not be "
        "allocated. There may not be enough free memory for allocation to succeed.",
        "the server stopped answering: the server ended with exit code 1\nI1122 loading\n"
        "terminate called after throwing an instance of 'std::bad_alloc'",
        "the server was ended by the kernel: the machine was out of memory",
        "out of memory (limit 2 GiB)",
        "the server refused: Unable to initialize shared memory key 'k' to requested size (1048576 "
        "bytes). Error: No space left on device",
    ],
)
def test_memory_that_ran_out(text: str) -> None:
    assert cause_of(text) == "out of memory"


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("the server refused: load failed for model 'm': no such backend", "refused"),
        ("the server changed max_batch_size from 8 to 4 (it completes …)", "refused"),
        ("the server was not live within 120 s\nI1122 waiting", "timed out"),
        ("the server did not answer repository/models/m/load within 0.5 s", "timed out"),
        ("the first request to h:1 did not succeed: no answer within 60 s", "timed out"),
        ("the server did not answer models/m/stats within 10 s", "died"),
        ("the server refused: load failed: Stub process 'm_0_0' is not healthy.", "died"),
        ("no request succeeded: the server closed the connection", "died"),
        (
            "all 9 requests failed: [Errno 111] Connect call failed",
            "died",
        ),
        ("all 9 requests failed: no connection to the database: [Errno 111]", None),
        ("the server was ended by SIGSEGV\nSignal (11) received", "died"),
        ("the server ended with exit code 1", "died"),
        ("the server stopped answering: the server ended with exit code 1", "died"),
        ("the server's container was removed", "died"),
        ("the endpoint no longer answers", "died"),
        ("the model failed an inference: shape mismatch", None),
        ("no request succeeded: see the server's log", None),
    ],
)
def test_other_causes(text: str, cause: str | None) -> None:
    assert cause_of(text) == cause


def test_what_died_while_it_was_waited_for_has_died() -> None:
    text = "the server did not answer v2 within 10 s: the server was ended by SIGABRT"
    assert cause_of(text) == "died"


def test_memory_that_triton_can_do_without_is_no_cause() -> None:
    text = (
        "the server refused: no such backend\n"
        "W1122 pinned_memory_manager.cc:273] Unable to allocate pinned system memory, pool will "
        "not be available: out of memory\n"
        "W1122 memory.cc:183] Failed to allocate CUDA memory with byte size 1024 on GPU 0: "
        "CNMEM_STATUS_OUT_OF_MEMORY, falling back to pinned system memory"
    )
    assert cause_of(text) == "refused"
    assert out_of_memory(text) is None


def test_the_line_that_tells_is_found_in_a_traceback() -> None:
    text = f'Traceback (most recent call last):\n  File "model.py"\nRuntimeError: {TORCH}\n'
    assert out_of_memory(text) == f"RuntimeError: {TORCH}"
