"""What an installation says where no compiler is at hand."""

import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import braidlm

ROOT = Path(__file__).parents[2]
BUILD = "import sys; from scikit_build_core.build import build_wheel; build_wheel(sys.argv[1])"


def built(directory: Path, **environment: str) -> tuple[subprocess.CompletedProcess[str], list[Path]]:
    """A wheel as pip has it built, by a compiler that always fails."""
    kept = {name: value for name, value in os.environ.items() if name != "BRAIDLM_REQUIRE_NATIVE"}
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(directory)],
        cwd=ROOT, env=kept | {"CXX": "/bin/false"} | environment,
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    return done, list(directory.glob("*.whl"))


def test_without_a_compiler_the_version_says_so(tmp_path: Path) -> None:
    """Oracle: the one thing that pip shows of a build that went well; all of the package but the kernels is there."""
    done, wheels = built(tmp_path)
    assert done.returncode == 0, done.stderr
    (wheel,) = wheels
    assert wheel.name == f"braidlm-{braidlm.__version__}+without.native.kernels-py3-none-any.whl"
    names = ZipFile(wheel).namelist()
    assert "braidlm/ops/ssd/reference.py" in names
    assert not any(name.startswith("braidlm/_native") for name in names)


def test_the_kernels_can_be_required(tmp_path: Path) -> None:
    """Oracle: with BRAIDLM_REQUIRE_NATIVE, no wheel and no success."""
    done, wheels = built(tmp_path, BRAIDLM_REQUIRE_NATIVE="1")
    assert done.returncode != 0
    assert wheels == []
