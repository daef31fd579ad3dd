"""A side without a library, for tests of the protocol: it answers with its arguments, chatters, fails and dies."""

import os

from braidlm.bench.sides.serve import serve


class Fake:
    def load(self, path: str, precision: str, threads: int) -> dict:
        os.write(1, b'{"ok": "from a library in C"}\n')
        print("from a library in Python")
        if precision == "int4":
            raise ValueError("int4 is not\nfor me")
        return {"library": "fake", "setting": precision, "threads": threads}

    def prefill(self, length: int) -> float:
        if length == 13:
            os._exit(3)
        return length / 1000

    def decode(self, context: int, tokens: int, batch: int) -> float:
        return context + tokens / 10 + batch / 100


if __name__ == "__main__":
    serve(Fake())
