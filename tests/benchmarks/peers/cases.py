"""What is measured: which models at which sizes, and what computes them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple


class Model(NamedTuple):
    """Its environment (None for that of cgenn), its worker, and the degree of its features where it has just one."""

    environment: str | None
    worker: str
    degree: int | None = None


MODELS = {
    "cgenn": Model(None, "ours"),
    "nequip-aotinductor": Model("nequip", "run_nequip"),
    "cgenn-oriented": Model(None, "ours_forces"),
    "cgenn-oriented-e3nn": Model(None, "ours_forces"),
    "cgenn-charges": Model(None, "ours_forces"),
    "cgenn-charges-e3nn": Model(None, "ours_forces"),
    "cgenn-so3": Model(None, "ours"),
    "cgenn-e3nn-so3": Model(None, "ours"),
    "cgenn-e3nn": Model(None, "ours"),
    "nequip": Model("nequip", "run_nequip"),
    "e3nn-inductor": Model("nequip", "run_e3nn"),
    "e3nn": Model("nequip", "run_e3nn"),
    "mace-2": Model("mace", "run_mace"),
    "mace-3": Model("mace", "run_mace"),
    "tensornet": Model("torchmdnet", "run_torchmdnet", 2),
    "equivariant-transformer": Model("torchmdnet", "run_torchmdnet", 1),
    "schnet": Model("torchmdnet", "run_torchmdnet", 0),
}
IN_TURNS, ROUNDS = ("cgenn", "nequip-aotinductor", "cgenn-oriented", "cgenn-oriented-e3nn"), 3
"""The closest rivals are measured so often, one after the other: on a machine that others use single numbers differ by
a fifth, and those of one minute less from each other than from those of another one."""
LARGER = ("cgenn", "cgenn-so3", "cgenn-e3nn", "cgenn-e3nn-so3", "nequip-aotinductor", "e3nn", "e3nn-inductor")
"""The models that are also measured with more layers and with more channels."""
BEADS, QUICK_BEADS = (100, 1000, 8000), (100, 1000)
DEFAULT = "cgenn-so3"
"""What is measured for more beads and on more cores."""
SCALING, QUICK_SCALING = (100, 1000, 10_000, 100_000, 1_000_000), (100, 1000, 8000)
CORES, QUICK_CORES = (1000, 8000, 64_000), (1000,)


class Case(NamedTuple):
    """A model of some size."""

    model: str
    lmax: int
    layers: int
    channels: int


def cases(quick: bool) -> Iterator[Case]:
    """Those to be compared with each other follow each other, some of them several times."""
    for size in [(1, 2, 32)] if quick else [(1, 2, 32), (2, 2, 32), (1, 3, 32), (1, 2, 64)]:
        found = list(_of_size(*size))
        for _ in range(0 if quick else ROUNDS - 1):
            yield from (case for case in found if case.model in IN_TURNS)
        yield from found


def _of_size(lmax: int, layers: int, channels: int) -> Iterator[Case]:
    for name, model in MODELS.items():
        if (layers, channels) != (2, 32) and name not in LARGER:
            continue
        if model.degree is None:
            yield Case(name, lmax, layers, channels)
        elif lmax == 1:
            yield Case(name, model.degree, layers, channels)


class Job(NamedTuple):
    """A case of one of the tables, for some numbers of beads."""

    table: str
    case: Case
    beads: tuple[int, ...]
    threads: int


def jobs(quick: bool, threads: int, device: str) -> Iterator[Job]:
    """All that is measured on melts: "peers", "scaling", and on a CPU "cores"."""
    for case in cases(quick):
        yield Job("peers", case, QUICK_BEADS if quick else BEADS, threads)
    case = Case(DEFAULT, 1, 2, 32)
    yield Job("scaling", case, QUICK_SCALING if quick else SCALING, threads)
    cores = os.cpu_count() or 1
    for count in [2**power for power in range(cores.bit_length()) if device == "cpu"]:
        yield Job("cores", case, QUICK_CORES if quick else CORES, count)
