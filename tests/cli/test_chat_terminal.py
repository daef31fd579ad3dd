"""`braid chat` as a person has it: on a terminal, with trained weights."""

import re
import signal
import subprocess
import sys
from pathlib import Path

from braidlm.sessions import SessionStore

from .terminal import Terminal, terminal

READY = r"(^|\n)>$"  # an empty prompt, and nothing after it


def chat(model: Path, sessions: Path, *more: str) -> tuple[str, ...]:
    return ("chat", str(model), "--sessions", str(sessions), "--temperature", "0", *more)


def stored(sessions: Path, name: str) -> list[str]:
    """What was said in a session, on both sides."""
    return [message["content"] for message in SessionStore(sessions).summary(name).messages]


def shown(text: str) -> str:
    """A text as it is read on a screen, where blanks at the ends of lines are not seen."""
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def ask(seat: Terminal, text: str, answer: str) -> None:
    """Says something, and waits for a part of the answer and the next prompt."""
    since = seat.row
    seat.type(text + "\r")
    seat.wait(f"(?s){answer}.*\n>$", since)


def leave(seat: Terminal) -> None:
    seat.type("\x04")
    assert seat.end() == 0
    assert seat.current_modes() == seat.modes


def begin_long_answer(seat: Terminal) -> None:
    """Asks for what is still being written when this returns."""
    since = seat.row
    seat.type("Tell me of a fox.\r")
    seat.wait(r"\n.*\w+ \w+ \w+", since)


def test_paste_history_and_typing_ahead(chatty: Path, tmp_path: Path) -> None:
    """Oracle: the stored messages: what was pasted is one, with its lines; no key is seen within an answer."""
    pasted = "Which of these is a city?\n\n  Paris\n/quit\n\tFrance\n"
    with terminal(*chat(chatty, tmp_path, "--session", "trip", "--max-tokens", "60")) as seat:
        seat.wait(READY)
        assert "trip is a new session" in seat.seen()
        seat.paste(pasted)
        seat.wait(r"France\n\.$")
        ask(seat, "", r"cut at 60")
        # Keys edit, and the up arrow brings the message back from this chat's history, to be edited.
        ask(seat, "Hi\x7f\x7f  Hello", "cut at 60")
        since = seat.row
        seat.type("\x1b[A")
        seat.wait("Hello$", since)
        ask(seat, " there", "cut at 60")
        # What is typed or pasted while an answer streams waits for its end; Alt-Enter begins a line.
        since = seat.row
        begin_long_answer(seat)
        seat.type("typed ahead\x1b\rand more")
        seat.paste(" pasted\nahead")
        seat.type("\r")
        seat.wait(r"(?s)\n> typed ahead\n.*cut at 60.*\n>$", since)
        leave(seat)
        said = stored(tmp_path, "trip")
        assert said[::2] == [
            pasted.strip(), "  Hello", "  Hello there", "Tell me of a fox.", "typed ahead\nand more pasted\nahead"
        ]  # fmt: skip
        for answer in said[1::2]:
            assert shown(answer) in seat.seen()


def test_cut_interrupted_and_left(chatty: Path, tmp_path: Path) -> None:
    """Oracle: the limit that was given; Ctrl-C ends the answer and not the chat; blocks and backslashes make lines."""
    with terminal(*chat(chatty, tmp_path, "--max-tokens", "9")) as seat:
        seat.wait(READY)
        ask(seat, "Tell me of a fox.", r'\(cut at 9 tokens: say "go on" for the rest, or /limit N')
        ask(seat, "/limit 0", "needs a number of tokens")
        ask(seat, "/limit 100000", "at most 100000 tokens")
        begin_long_answer(seat)
        since = seat.row
        seat.type("\x03")
        seat.wait(r"\(stopped\)\s+>$", since)
        ask(seat, "/limit 1", "at most 1 tokens")
        since = seat.row
        seat.type("a line\x03")  # at the prompt it drops what was typed
        seat.wait(r"^> a line.*\n>$", since)
        ask(seat, "Say \\\rhi", "cut at 1")
        ask(seat, '"""\rin \\\ra block\r"""', "cut at 1")
        ask(seat, "/save kept", "saved as kept: 8 messages")
        leave(seat)
    assert stored(tmp_path, "kept")[::2] == ["Tell me of a fox."] * 2 + ["Say \nhi", "in \\\na block"]


def test_a_signal_leaves_the_terminal_as_it_was(chatty: Path, tmp_path: Path) -> None:
    """Oracle: the terminal's modes before; an exit code that tells of SIGTERM."""
    with terminal(*chat(chatty, tmp_path)) as seat:
        seat.wait(READY)
        seat.process.send_signal(signal.SIGTERM)
        assert seat.end() == 128 + signal.SIGTERM
        assert seat.current_modes() == seat.modes


def test_reset_and_going_on(chatty: Path, tmp_path: Path) -> None:
    """Oracle: the store: what is said of it is how it is; nothing is replaced without being told to."""
    with terminal(*chat(chatty, tmp_path, "--session", "trip", "--max-tokens", "12")) as seat:
        seat.wait(READY)
        ask(seat, "Who is there?", "cut at 12")
        ask(seat, "/reset", r"trip stays as it was saved \(2 messages\)\. It is not saved until you /save or /fork it")
        ask(seat, "And who else?", "cut at 12")
        ask(seat, "/save trip", "there is a session trip already; /save! trip replaces it")
        ask(seat, "/fork trip", "there is a session trip already; /fork! trip replaces it")
        ask(seat, "/sav other", "there is no command '/sav'; did you mean '/save'\\? /help lists them")
        ask(seat, "/reset", "A new conversation begins; 2 messages were not saved and are gone. It is not saved")
        leave(seat)
    before = stored(tmp_path, "trip")
    tokens = SessionStore(tmp_path).summary("trip").tokens
    assert before[0] == "Who is there?"
    with terminal(*chat(chatty, tmp_path, "--session", "trip", "--max-tokens", "12")) as seat:
        seat.wait(READY)
        assert f"Going on with trip ('Who is there?'): 2 messages, {tokens} tokens; each turn is saved." in seat.seen()
        assert f"\n> Who is there?\n{shown(before[1])}\n" in seat.seen()
        seat.type("\x1b[A")  # what was said in the session before is in the history
        seat.wait(r"> Who is there\?$")
        ask(seat, " Who?", "cut at 12")
        ask(seat, "/load nowhere", "nowhere")
        ask(seat, "/load trip", r"Going on with trip \(.*\): 4 messages, \d+ tokens; further turns are saved by /save")
        ask(seat, "And who else?", "cut at 12")
        ask(seat, "/save trip", r"saved as trip: 6 messages, \d+ tokens; later turns are not in it until")
        ask(seat, "/reset", r"trip stays as it was saved \(6 messages\)\. It is")
        ask(seat, "Hi", "cut at 12")
        ask(seat, "/save! trip", "saved as trip: 2 messages")
        leave(seat)
    assert stored(tmp_path, "trip")[0] == "Hi"


def test_the_editor_is_imported_on_a_terminal_only(chatty: Path, tmp_path: Path) -> None:
    """Oracle: the modules of a process whose input is a pipe; a message has no history and no marks there."""
    arguments = [*chat(chatty, tmp_path, "--max-tokens", "4")]
    code = f"""
import sys
from braidlm.cli.main import app
app({arguments!r}, standalone_mode=False)
print([name for name in sys.modules if name.startswith("prompt_toolkit")])
"""
    done = subprocess.run([sys.executable, "-c", code], input="Hi\n", capture_output=True, text=True, check=True)
    assert re.fullmatch(r"(?s)> .+\n> \n\[\]\n", done.stdout)
    assert "(cut at 4 tokens" in done.stderr
