"""The worked example "Add a layer kind" of CONTRIBUTING, from its text: six files make a kind of layer that is new.

The text's files and edits are applied to a copy of the package, in which `new_kind.py` is run: with references alone,
and with kernels. Those are built by the project's own CMakeLists.txt; objects of files that the example leaves alone
come from `make native`, without which kernels are not tried.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECTION = re.findall(r"## Add a layer kind\n(.*?)\n## ", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)[0]
BLOCKS = re.findall(r"```(python|cpp|diff)\n(?:#|//) (\S+)\n(.*?)```", SECTION, re.DOTALL)
BUILT = ROOT / "build" / "native"
NATIVE = "native or decode_plan or rollback"  # tests of `new_kind.py` that need kernels

# Takes the place of the compiler: objects that are there already are copied, with what they depend on.
LAUNCHER = """#!/bin/sh
for argument; do
  [ "$before" = -o ] && out="$argument"
  before="$argument"
done
case "$out" in
  */gated_recurrence/* | */csrc/levels.cpp.o | */csrc/bindings.cpp.o) ;;
  *.o) if [ -f "$BUILT/$out" ]; then cp "$BUILT/$out" "$out" && cp "$BUILT/$out.d" "$out.d" && exit; fi ;;
esac
exec "$@"
"""


def edited(text: str, diff: str) -> str:
    """`text` after the hunks of a diff, each of which must be found in it once."""
    for hunk in diff.split("@@\n"):
        lines = hunk.splitlines()
        before = "".join(line[1:] + "\n" for line in lines if not line.startswith("+"))
        after = "".join(line[1:] + "\n" for line in lines if not line.startswith("-"))
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    return text


def why_not_native() -> str | None:
    """Reason that kernels cannot be built in seconds here, or None."""
    if not (shutil.which("cmake") and (BUILT / "CMakeCache.txt").exists()):
        return "there are no objects of `make native`"
    sources = [*(ROOT / "src").rglob("*.cpp"), *(ROOT / "src").rglob("*.h"), ROOT / "CMakeLists.txt"]
    built = max((file.stat().st_mtime for file in BUILT.glob("_native*")), default=0.0)
    newer = [file.name for file in sources if file.stat().st_mtime > built]
    return f"{newer[0]} is newer than the objects of `make native`" if newer else None


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the project with the example in it."""
    without = shutil.ignore_patterns("__pycache__", "*.so")
    shutil.copytree(ROOT / "src" / "braidlm", tmp_path / "src" / "braidlm", ignore=without)
    shutil.copy(ROOT / "CMakeLists.txt", tmp_path)
    for kind, name, text in BLOCKS:
        file = tmp_path / name
        assert file.exists() == (kind == "diff"), name
        file.parent.mkdir(exist_ok=True)
        file.write_text(edited(file.read_text(), text) if kind == "diff" else text)
    return tmp_path


def built(copy: Path) -> None:
    """Builds the extension of a copy, and puts it where it is imported from."""
    launcher, build = copy / "launcher.sh", copy / "build"
    launcher.write_text(LAUNCHER)
    launcher.chmod(0o755)
    options = [f"-DPython_EXECUTABLE={sys.executable}", "-DCMAKE_BUILD_TYPE=Release"]
    options += [f"-DCMAKE_CXX_COMPILER_LAUNCHER={launcher}"]
    environment = os.environ | {"BUILT": str(BUILT)}
    for command in (["-S", str(copy), "-B", str(build), *options], ["--build", str(build), "--parallel", "2"]):
        done = subprocess.run(["cmake", *command], capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    for file in build.glob("_native*"):
        shutil.copy(file, copy / "src" / "braidlm")


def checked(copy: Path, *chosen: str) -> str:
    """What pytest says of `new_kind.py`, with the package of a copy."""
    paths = os.pathsep.join([str(copy / "src"), str(ROOT)])
    command = [sys.executable, "-m", "pytest", "-o", "addopts=", "-p", "no:cacheprovider", "-p", "no:xdist", *chosen]
    done = subprocess.run(
        [*command, str(ROOT / "tests" / "layers" / "new_kind.py")],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths, "BRAIDLM_OPS": "auto"},
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout


def test_six_files_are_all_the_source() -> None:
    """Oracle: the files that the text shows: edits of files that are there, and new ones, kernels among them."""
    names = [name for _, name, _ in BLOCKS]
    assert len(names) == len(set(names)) <= 6
    assert all((ROOT / name).exists() == (kind == "diff") for kind, name, _ in BLOCKS)
    assert any(name.endswith(".cpp") for name in names)


def test_without_kernels(copy: Path) -> None:
    """Oracle: `new_kind.py`: definitions in float64, and every way of running against one pass."""
    said = checked(copy, "-k", f"not ({NATIVE})")
    assert "8 passed" in said, said


def test_with_kernels(copy: Path) -> None:
    """Oracle: `new_kind.py`: the definition at every level, the decode plan against passes, rollback."""
    if why := why_not_native():
        # CI keeps the objects, so that nothing is skipped there.
        assert os.environ.get("BRAIDLM_REQUIRE_NATIVE") != "1", why
        pytest.skip(f"kernels are not tried: {why}")
    built(copy)
    said = checked(copy, "-k", NATIVE)
    assert " passed" in said, said
    assert "skipped" not in said, said
