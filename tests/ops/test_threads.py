"""The threads of native kernels."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from braidlm import ops
from braidlm.ops import dispatch, native_loader, threads

pytestmark = pytest.mark.skipif(native_loader.why_not() is not None, reason="the extension is not built")

WAIT = 20.0


def test_torch_and_kernels_share_threads() -> None:
    """Oracle: torch's build says that it uses OpenMP, and then its library leads to the same runtime."""
    library = next(Path(torch.__file__).parent.glob("lib/libtorch_cpu.*"))
    assert native_loader.extension().share_threads(str(library)) == torch.backends.openmp.is_available()


def test_no_other_library_is_loaded(tmp_path: Path) -> None:
    """Oracle: only a library that the process has is looked into."""
    assert not native_loader.extension().share_threads(str(tmp_path / "libtorch_cpu.so"))


def test_a_forked_child_computes() -> None:
    """Oracle: the parent's result; a child that waits for its parent's threads would never end."""
    x, weight = torch.randn(512, 64), torch.randn(64)
    with dispatch.using("native"):
        expected = ops.rms_norm(x, weight, 1e-5, eps_outside_root=False, dtype=torch.float32)
        child = os.fork()
        if child == 0:
            same = torch.equal(ops.rms_norm(x, weight, 1e-5, eps_outside_root=False, dtype=torch.float32), expected)
            os._exit(0 if same else 1)
    assert _ended(child) == 0


FORK_FIRST = """
import os
import torch
torch.randn(512, 512) @ torch.randn(512, 512)  # torch's threads are there
torch.randn(1 << 20).exp()
from braidlm import ops
from braidlm.ops import native_loader
native_loader.extension()
x, weight = torch.ones(512, 64), torch.ones(64)
if os.fork() == 0:
    ops.rms_norm(x, weight, 1e-5, eps_outside_root=False, dtype=torch.float32)
    os._exit(3)
print(os.waitstatus_to_exitcode(os.wait()[1]))
"""


def test_a_child_forked_before_any_kernel_computes() -> None:
    """Oracle: the child ends, though its parent's torch has used threads that it does not have."""
    several, command = {**os.environ, "OMP_NUM_THREADS": "2"}, [sys.executable, "-c", FORK_FIRST]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10 * WAIT, env=several)
    assert done.stdout.strip() == "3"


@pytest.mark.parametrize(
    ("written", "chosen", "expected"),
    [
        ("150000 100000\n", None, 2),
        ("50000 100000\n", None, 1),
        ("max 100000\n", None, 3),
        ("900000 100000\n", None, 3),
        ("50000 100000\n", "3", 3),
        ("nonsense\n", None, 3),
        (None, None, 3),
    ],
)
def test_the_containers_share(
    written: str | None, chosen: str | None, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: quota over period, rounded up; never more threads than before; a number of the user's stays."""
    file, before = tmp_path / "cpu.max", torch.get_num_threads()
    if written is not None:
        file.write_text(written)
    if chosen is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", chosen)
    try:
        torch.set_num_threads(3)
        threads.limit_to_share.__wrapped__(file)
        assert torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(before)


def _ended(child: int) -> int:
    """The exit status of a child; one that does not end in time is killed."""
    until = time.monotonic() + WAIT
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -1
