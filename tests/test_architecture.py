"""The rules of the house as tests: who imports whom, what an import costs, what the command line offers."""

import ast
import runpy
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args

import pytest
import typer.main

import braidlm.spec
import braidlm.spec.state
from braidlm.cli.main import app

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "braidlm"
PICTURE = runpy.run_path(str(ROOT / "docs" / "rooms.py"))

# Rooms by floor. A room imports rooms of lower floors only; `NEIGHBOURS` names what one on the same floor may import.
FLOORS = (
    ("errors",),
    ("system",),
    ("spec",),
    ("ops",),
    ("state",),
    ("layers",),
    ("model",),
    ("families", "text"),
    ("checkpoints", "quant", "decode"),
    ("adapters", "generation"),
    ("engine",),
    ("api",),
    ("sessions", "planner", "eval"),
    ("train",),
    ("bench", "graft", "server"),
    ("cli",),
    ("__main__",),
)
NEIGHBOURS = {("checkpoints", "quant")}


def floor_of(room: str) -> int:
    return next(floor for floor, rooms in enumerate(FLOORS) if room in rooms)


def test_lower_rooms_never_import_higher_ones() -> None:
    """Oracle: the table of floors above."""
    for file in SOURCE.rglob("*.py"):
        room = file.relative_to(SOURCE).parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        for other in PICTURE["imported"](file) - {room}:
            lower = floor_of(other) < floor_of(room) or (room, other) in NEIGHBOURS
            assert lower, f"{file.relative_to(SOURCE)} imports {other}"


def test_few_rooms() -> None:
    """Oracle: what a newcomer reads at a glance; Python's own markers of a package hold nothing to read."""
    markers = {"__init__.py", "__main__.py", "__pycache__", "py.typed"}
    rooms = [entry.name for entry in SOURCE.iterdir() if entry.name not in markers]
    assert len([room for room in rooms if not room.startswith("_native")]) <= 24, sorted(rooms)


def test_small_files_and_functions() -> None:
    """Oracle: the most that is read at a sitting: 400 lines of a file, 60 of a function; tables of data apart."""
    files = [file for folder in ("src", "tests", "benchmarks", "examples") for file in (ROOT / folder).rglob("*.*")]
    for file in files:
        if file.suffix not in (".py", ".cpp", ".h") or file == ROOT / "tests" / "families" / "published_configs.py":
            continue
        text = file.read_text()
        assert text.count("\n") <= 400, file
        for node in ast.walk(ast.parse(text)) if file.suffix == ".py" else ():
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                assert (node.end_lineno or 0) - node.lineno < 60, f"{file}: {node.name}"


def test_what_tests_share_stands_in_helpers() -> None:
    """Oracle: a test module's name; one that is imported by another would be collected with its fixtures twice."""
    for file in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom):
                names = [*(node.module or "").split("."), *(alias.name for alias in node.names if node.level)]
                assert not any(name.startswith("test_") for name in names), file


def test_picture_of_the_rooms() -> None:
    """Oracle: the picture that `docs/rooms.py` makes of the code as it is now."""
    assert (ROOT / "docs" / "rooms.svg").read_text() == PICTURE["picture"](), "run `python docs/rooms.py`"


SHARED_BY_FAMILIES = (
    "base",
    "config",
    "config_keys",
    "gguf_hybrid",
    "gguf_rope",
    "gguf_values",
    "granite_common",
    "mamba1_common",
    "mamba_common",
    "names",
    "rope",
    "transformer_common",
)


def test_a_family_imports_no_other_family() -> None:
    """Oracle: the rule that what families share lives in files of its own."""
    for file in (SOURCE / "families").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if file.stem != "__init__" and isinstance(node, ast.ImportFrom) and node.level == 1:
                assert node.module in SHARED_BY_FAMILIES, file.name


KINDS = {kind.__name__ for kind in (*get_args(braidlm.spec.Mixer), *get_args(braidlm.spec.FeedForward))}
KNOW_KINDS = ("spec", "layers", "families")


def asked_kinds(node: ast.AST) -> Iterator[str]:
    """Names that decide by class: in isinstance, in comparisons of types, in patterns, as keys of a table."""
    asked: list[ast.AST | None] = []
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass"):
        asked = list(node.args[1:])
    elif isinstance(node, ast.Compare):
        asked = list(node.comparators)
    elif isinstance(node, ast.MatchClass):
        asked = [node.cls]
    elif isinstance(node, ast.Dict):
        asked = list(node.keys)
    for part in asked:
        for inner in ast.walk(part) if part is not None else ():
            if isinstance(inner, ast.Name | ast.Attribute):
                yield ast.unparse(inner).rpartition(".")[2]


def test_no_other_room_asks_for_kinds_of_layers() -> None:
    """Oracle: the kinds that `spec` lists; what is true of one stands in its spec and its module."""
    for file in SOURCE.rglob("*.py"):
        if file.relative_to(SOURCE).parts[0] not in KNOW_KINDS:
            for node in ast.walk(ast.parse(file.read_text())):
                assert not KINDS.intersection(asked_kinds(node)), f"{file.relative_to(SOURCE)}, {ast.unparse(node)}"


def test_import_is_lean() -> None:
    """Oracle: the modules that a fresh interpreter holds after `import braidlm`."""
    code = "import sys, braidlm; print([m for m in ('torch', 'transformers', 'triton', 'fastapi') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# What no help needs: all but typer, rich and the standard library.
HEAVY = (
    "fastapi",
    "gguf",
    "huggingface_hub",
    "jinja2",
    "numpy",
    "prompt_toolkit",
    "pyarrow",
    "ray",
    "safetensors",
    "tokenizers",
    "torch",
    "transformers",
    "uvicorn",
)
HELPS = f"""
import sys
import typer.main
from typer.testing import CliRunner
from braidlm.cli.main import app

def ways(group, *before):
    for name, command in group.commands.items():
        yield (*before, name)
        yield from ways(command, *before, name) if hasattr(command, "commands") else ()

for way in ((), *ways(typer.main.get_command(app))):
    done = CliRunner().invoke(app, [*way, "--help"])
    assert done.exit_code == 0 and "Usage: braid" in done.output, (way, done.output)
    assert not (found := {set(HEAVY)}.intersection(sys.modules)), (way, found)
    print("braid", *way)
"""


def test_help_imports_nothing_heavy() -> None:
    """Oracle: the modules that a fresh interpreter holds after the help of braid and of every command of it."""
    done = subprocess.run([sys.executable, "-c", HELPS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {f"braid {name}" for name in OPTIONS} | {"braid"} <= set(done.stdout.splitlines())


def test_a_command_imports_no_other() -> None:
    """Oracle: the modules that a fresh interpreter holds after the help of one command."""
    code = (
        "import sys; from typer.testing import CliRunner; from braidlm.cli.main import app\n"
        "CliRunner().invoke(app, ['doctor', '--help'])\n"
        "from braidlm.cli.commands import CommandTable\n"
        "print([name for name in CommandTable() if f'braidlm.cli.{name}' in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['doctor']"


def test_every_spec_field_is_read() -> None:
    """Oracle: a field that nothing reads describes nothing."""
    text = "\n".join(file.read_text() for file in SOURCE.rglob("*.py") if file.parent.name not in ("families", "spec"))
    classes = [c for m in (braidlm.spec, braidlm.spec.state) for c in vars(m).values() if is_dataclass(c)]
    derived = {"value_dim": "v_dim"}  # read through a property that gives the default
    for kind in classes:
        for item in fields(kind):
            name = derived.get(item.name, item.name)
            read = f".{name}" in text or f"{name}=" in text
            assert read or name.startswith("_"), f"{kind.__name__}.{name}"


def test_no_loop_over_time() -> None:
    """Oracle: the reference operations step over chunks, blocks, taps, experts and rows, never over single tokens."""
    for file in SOURCE.glob("ops/*/reference.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.For) and isinstance(node.iter, ast.Call):
                text = ast.unparse(node.iter)
                assert text not in ("range(length)", "range(x.shape[1])", "range(len(x))"), f"{file}: {text}"


OPTIONS = {
    "info": "--dtype --json --kv-dtype --lengths --quantize",
    "plan": "--calibrate --check --compare --context --dtype --json --kv-dtype --memory --plot --quantize "
    "--sessions --threads",
    "generate": "--adapter --allow-pickle --chat --deterministic --device --dtype --frequency-penalty --ids --json "
    "--kv-dtype --max-tokens --min-p --ops --presence-penalty --quantize --repetition-penalty --seed --state --stop "
    "--temperature --threads --top-k --top-p",
    "chat": "--adapter --allow-pickle --deterministic --device --dtype --frequency-penalty --kv-dtype --max-tokens "
    "--min-p --ops --presence-penalty --quantize --repetition-penalty --seed --session --sessions --state --stop "
    "--system --temperature --threads --top-k --top-p",
    "serve": "--adapter --allow-pickle --api-key --cache-memory --config --cors-origin --deterministic --device "
    "--dtype --host --initial-state --kv-dtype --log-prompts --max-body --max-connections --max-prompt-tokens "
    "--max-queue --max-tokens --memory --name --no-allow-pickle --no-deterministic --no-log-prompts "
    "--no-share-prefix-cache --ops --parallel --port --prefill-chunk --quantize --rate-limit --ray-address --replicas "
    "--request-timeout --sessions --share-prefix-cache --shutdown-timeout --snapshot-interval --speculative-tokens "
    "--threads --tool-format",
    "convert": "--allow-pickle --dtype --format --json --no-tokenizer --quantize",
    "quantize": "--allow-pickle --bits --calibration --dtype --json --report --threads --tokens",
    "finetune": "--alpha --batch-size --lr --method --packing --positions --quantize --rank --seq-len --steps "
    "--target-modules --threads",
    "merge": "--allow-pickle --dtype --format --json --state",
    "train": "--device --export --extra-steps --set --step --threads",
    "demo": "--json --max-tokens --seed --temperature --threads",
    "data": "--eos-token --field --holdout --json --kind --on-bad-documents --processes --separator --split --stream "
    "--subset --tokenizer",
    "verify": "--allow-pickle --deterministic --device --dtype --json --kv-dtype --length --ops --quantize --seed "
    "--threads",
    "doctor": "--device --json",
    "tokenizer train": "--json --out --vocab",
    "session list": "--json --sessions",
    "session info": "--json --sessions",
    "session fork": "--sessions",
    "session delete": "--sessions",
    "session export": "--format --sessions --to",
    "eval recall": "--allow-pickle --compare --csv --depths --device --dtype --haystacks --json --kv-dtype --lengths "
    "--ops --plot --quantize --seed --tasks --threads",
    "eval perplexity": "--allow-pickle --compare --csv --device --dtype --json --kv-dtype --length --ops --quantize "
    "--threads --tokens",
    "eval length": "--allow-pickle --csv --device --dtype --haystacks --json --kv-dtype --lengths --ops --quantize "
    "--recall-share --seed --tasks --threads --tokens --tolerance --write",
    "eval generation": "--allow-pickle --compare --csv --device --dtype --json --max-tokens --ops --prompts --quantize "
    "--seed --threads",
    "lm-eval": "",
    "graft run": "--donor --out --probe --set --threads",
    "graft report": "--json",
    "graft filters": "--dtype --json --length --order --real --steps --threads --tolerance --window-shift",
    "bench": "--against --batch --context --decode --json --layers --list --llama-python --precision --prompt --rounds "
    "--threads",
}


def commands(group: Any, *before: str) -> Iterator[tuple[str, Any]]:
    """Every command below a group, by its name with that of its group."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, *before, name)
        else:
            yield " ".join((*before, name)), command


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("name", sorted(OPTIONS | COMMANDS))
def test_command_line_is_frozen(name: str) -> None:
    """Oracle: the list above; a change of options is a change that users see."""
    command = COMMANDS[name]
    found = sorted(option for parameter in command.params for option in parameter.opts if option.startswith("--"))
    assert [option for option in found if option != "--help"] == OPTIONS[name].split()
    assert command.epilog.startswith("Example: braid ")
