"""Entry point of the command `braid`. A process that it starts imports this file anew, and needs no more than it."""


def main() -> None:
    """Runs `main.main`, which is imported only now."""
    from .main import main as run

    run()
