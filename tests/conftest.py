"""What tests of several parts need: reference data, and alanine dipeptide's atoms."""

import contextlib
import json
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mdtraj
import numpy as np
import pytest
import torch
from mdtraj.core.element import Element
from typer.main import get_command
from typer.testing import CliRunner

from cgenn.cli import app
from cgenn.mapping.atoms import AtomTopology

_ALA2 = {"ACE": "H1 CH3 H2 H3 C O", "ALA": "N H CA HA CB HB1 HB2 HB3 C O", "NME": "N H C H1 H2 H3"}


def pytest_configure() -> None:
    """One thread, here and in processes started here: on small tensors more of them cost time."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.fixture(autouse=True, scope="session")
def _interruptible() -> None:
    """Ctrl-C works, also where the tests were started in the background, which ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    """Tests run in float64 unless they say otherwise."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(autouse=True)
def _log_level() -> None:
    """The command line, which other tests call in this process, sets the level for good."""
    logging.getLogger("cgenn").setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of reference data: $CGENN_DATA, or ../shared/data beside the checkout."""
    folder = Path(os.environ.get("CGENN_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no reference data in {folder}; set CGENN_DATA")
    return folder


SHORT = {
    "reference": "--length 40 --interval 0.2 --equilibration 1",
    "map": "",
    "train": "--set epochs=2 --set batch_size=60 --set network.channels=8 --set network.radial_width=8",
    "simulate": "--set steps=200 --set report_interval=10 --set timestep=0.001 --set replicas=3",
    "compare": "",
    "check": "",
}
"""What shortens the example in the help of each command."""


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The examples in the help of the commands, one after the other: their folder, and what each said in JSON."""
    folder, said = tmp_path_factory.mktemp("pipeline"), {}
    with contextlib.chdir(folder):
        for name, short in SHORT.items():
            example = get_command(app).commands[name].epilog.split("[bold]Example:[/] cgenn ")[1]
            result = CliRunner().invoke(app, [*example.split(), *short.split(), "--json"])
            assert result.exit_code == 0, result.output
            said[name] = json.loads(result.stdout)
    return folder, said


def add_residue(topology: mdtraj.Topology, name: str, atoms: str) -> None:
    """Add a residue in a chain of its own, its atoms named after their elements."""
    residue = topology.add_residue(name, topology.add_chain())
    for atom in atoms.split():
        topology.add_atom(atom, Element.getBySymbol(atom[0]), residue)


@pytest.fixture(scope="session")
def ala2() -> AtomTopology:
    """Alanine dipeptide, 22 atoms, without constraints."""
    topology = mdtraj.Topology()
    chain = topology.add_chain()
    for number, (name, atoms) in enumerate(_ALA2.items(), start=1):
        residue = topology.add_residue(name, chain, resSeq=number)
        for atom in atoms.split():
            topology.add_atom(atom, Element.getBySymbol(atom[0]), residue)
    return AtomTopology.from_mdtraj(topology)


@pytest.fixture(scope="session")
def mixture(ala2: AtomTopology) -> AtomTopology:
    """Alanine dipeptide, three waters and a sodium ion: several kinds of molecules."""
    topology = ala2.topology.copy()
    for _ in range(3):
        add_residue(topology, "HOH", "O H1 H2")
    residue = topology.add_residue("NA", topology.add_chain())
    topology.add_atom("Na", Element.getBySymbol("Na"), residue)
    topology._bonds = []
    return AtomTopology.from_mdtraj(topology, charges=np.r_[np.zeros(22), np.tile([-0.8, 0.4, 0.4], 3), 1.0])
