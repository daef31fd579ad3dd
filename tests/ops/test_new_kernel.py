"""The worked example "Add a kernel" of CONTRIBUTING, from its text: the kernel is compiled and called, alone.

Its binding is compiled as far as names and types; that new folders are built and bound, `test_new_kind.py` shows.
"""

import ctypes
import os
import re
import shutil
import subprocess
import sysconfig
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import nanobind
import pytest
import torch
from torch import Tensor

from tests.tolerances import RELATIVE_OP, RELATIVE_ROUNDED

ROOT = Path(__file__).parents[2]
SECTION = re.findall(r"## Add a kernel\n(.*?)\n## ", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)[0]
TABLE, KERNEL, BINDING = (textwrap.dedent(text) for text in re.findall(r"```cpp\n(.*?)```", SECTION, re.DOTALL))
NATIVE, _ = (textwrap.dedent(text) for text in re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL))
TOLERANCES = {torch.float32: RELATIVE_OP[torch.float32], torch.bfloat16: RELATIVE_ROUNDED[torch.bfloat16]}
# Calls the table of the kernel without Python.
CALLED = """
#include "native.cpp"
extern "C" void run(void* x, int64_t x_stride, void* out, int64_t stride, bool rounded, int64_t rows, int64_t width,
                    float cap) {
  const braidlm::Dtype dtype = rounded ? braidlm::Dtype::kBFloat16 : braidlm::Dtype::kFloat;
  braidlm::portable::softcap_native.softcap({{x, dtype, x_stride}, {out, dtype, stride}, width, cap}, 0, rows);
}
"""


def compiled(*options: str) -> None:
    command = ["g++", "-std=c++20", "-O2", "-Wall", "-Wextra", "-Werror", "-Wno-psabi", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The operation's folder beside what it includes."""
    if shutil.which("g++") is None:
        assert os.environ.get("BRAIDLM_REQUIRE_NATIVE") != "1", "there is no g++"
        pytest.skip("there is no g++")
    (tmp_path / "csrc").symlink_to(ROOT / "src" / "braidlm" / "ops" / "csrc")
    made = tmp_path / "softcap"
    made.mkdir()
    files = {"native.h": TABLE, "native.cpp": KERNEL, "binding.cpp": BINDING, "called.cpp": CALLED}
    # Lists as CMakeLists.txt writes them, of this operation alone.
    files["kernel_list.h"] = "BRAIDLM_KERNELS(softcap_native, SoftcapNativeKernels)\n"
    files["operation_list.h"] = "BRAIDLM_OPERATION(softcap)\n"
    for name, text in files.items():
        (made / name).write_text(text)
    return made


def called(library: Path) -> Callable[[Tensor, float, Tensor, int], None]:
    run = ctypes.CDLL(str(library)).run
    size, place = ctypes.c_int64, ctypes.c_void_p
    run.argtypes = [place, size, place, size, ctypes.c_bool, size, size, ctypes.c_float]

    def softcap(x: Tensor, cap: float, out: Tensor, _: int) -> None:
        rounded = x.dtype == torch.bfloat16
        run(x.data_ptr(), x.stride(0), out.data_ptr(), out.stride(0), rounded, *x.shape, cap)

    return softcap


def test_the_kernel_in_the_text(folder: Path) -> None:
    """Oracle: the definition in float64, at odd widths, over rows that lie apart."""
    compiled(
        "-shared", "-fPIC", "-DBRAIDLM_LEVEL=portable", str(folder / "called.cpp"), "-o", str(folder / "called.so")
    )
    space: dict[str, object] = {}
    inside = NATIVE.replace("from ..", "from braidlm.ops.").replace("from . import reference\n", "")
    exec(inside, space)  # our own text
    space["extension"] = lambda: SimpleNamespace(softcap=called(folder / "called.so"))
    generator = torch.Generator().manual_seed(0)
    for dtype, tolerance in TOLERANCES.items():
        for width in (1, 37, 64):
            x = (50 * torch.randn(5, 80, generator=generator)).to(dtype)[:, 3 : 3 + width]
            found = space["softcap"](x, 30.0)  # type: ignore[operator]
            assert found.dtype == dtype
            expected = 30 * torch.tanh(x.double() / 30)
            assert (found.double() - expected).abs().max() <= tolerance * expected.abs().max()


def test_the_binding_in_the_text(folder: Path) -> None:
    """Oracle: the compiler, with the headers of this package, of nanobind and of Python."""
    headers = [f"-isystem{nanobind.include_dir()}", f"-isystem{sysconfig.get_path('include')}", f"-I{folder}"]
    compiled("-fsyntax-only", *headers, str(folder / "binding.cpp"))
