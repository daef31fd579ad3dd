"""Checks of packed rows."""

from braidlm.train.data.pack import IGNORED, Pack


def check_rows(pack: Pack, sizes: list[int], untrained: frozenset[int] = frozenset()) -> None:
    assert sum(pack.lengths) == len(pack.ids_T) == len(pack.targets_T)
    place = 0
    for length, number in zip(pack.lengths, pack.documents):
        ids, targets = pack.ids_T[place : place + length].tolist(), pack.targets_T[place : place + length].tolist()
        assert ids == list(range(ids[0], ids[0] + length)) and ids[0] // 1000 == number
        for token, target in zip(ids, targets):
            last = token % 1000 + 1 == sizes[number]
            assert target == (IGNORED if last or token + 1 in untrained else token + 1)
        place += length
