"""Where the command `braid` begins. A process that it starts imports this file anew, and needs no more than it."""


def main() -> None:
    """`main.main`, imported when it is called."""
    from .main import main as run

    run()
