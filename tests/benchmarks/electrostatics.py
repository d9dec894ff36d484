"""Energy, forces and dE/dq of particle-mesh Ewald against OpenMM's with fixed charges and against nvalchemiops'.

python -m tests.benchmarks.electrostatics [--quick] [--accuracy 2e-4] [--beads 1000,8000,64000]

Jittered rock salt (0.03 nm), 44.6 ions/nm^3, the same positions for all. OpenMM's CPU platform, one thread, and
nvalchemiops (single precision, `pip install "cgenn[benchmark]"`): cutoff 0.9 nm, alpha 3.5/nm, mesh 0.088 nm. Ours, in
single precision, with parameters tuned for `accuracy`. "Kept": the list of pairs stays; OpenMM keeps it by itself, ours
is found with a skin of 0.1 nm and a twentieth of the time for that is counted, as a list serves about twenty steps;
that of nvalchemiops has no skin. "New": it is found at each call. CPU time, medians, competitors in turn.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import openmm
import torch
import typer
from torch import Tensor

from cgenn.electrostatics.coulomb import coulomb_energy
from cgenn.electrostatics.pairs import CoulombPairs, coulomb_pairs
from cgenn.electrostatics.pme import pme_energy
from cgenn.electrostatics.real_space import real_space_energy
from cgenn.electrostatics.settings import CoulombSettings, tune
from cgenn.units import COULOMB
from tests.benchmarks.records import Record, show, versions

DENSITY, JITTER, SKIN, STEPS_PER_LIST = 44.6, 0.03, 0.1, 20


@dataclass(frozen=True, eq=False)
class Salt:
    """Ions in a cubic box."""

    positions: Tensor
    charges: Tensor
    cell: Tensor

    @classmethod
    def build(cls, beads: int) -> "Salt":
        edge = round(beads ** (1 / 3))
        grid = torch.cartesian_prod(*[torch.arange(edge)] * 3)
        spacing = DENSITY ** (-1 / 3)
        random = torch.Generator().manual_seed(0)
        positions = grid * spacing + JITTER * torch.randn((len(grid), 3), generator=random)
        return cls(positions, 1.0 - 2.0 * (grid.sum(1) % 2), edge * spacing * torch.eye(3)[None])

    def to(self, dtype: torch.dtype) -> "Salt":
        return Salt(self.positions.to(dtype), self.charges.to(dtype), self.cell.to(dtype))

    def pairs(self, settings: CoulombSettings, skin: float = 0.0) -> CoulombPairs:
        return coulomb_pairs(self.positions, settings, cell=self.cell, skin=skin)

    def derivatives(self, energy: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, ...]:
        """Of an energy with respect to positions and charges."""
        inputs = (self.positions.detach().requires_grad_(), self.charges.detach().requires_grad_())
        return torch.autograd.grad(energy(*inputs).sum(), inputs)


def openmm_forces(salt: Salt) -> Callable[[], Tensor]:
    """A function that has OpenMM compute energy and forces."""
    system, force = openmm.System(), openmm.NonbondedForce()
    system.setDefaultPeriodicBoxVectors(*[openmm.Vec3(*row) for row in salt.cell[0].tolist()])
    force.setNonbondedMethod(openmm.NonbondedForce.PME)
    force.setCutoffDistance(0.9 if salt.cell[0, 0, 0] > 2 else 0.49 * float(salt.cell[0, 0, 0]))
    points = int(salt.cell[0, 0, 0] / 0.088) + 1
    force.setPMEParameters(3.5, points, points, points)
    force.setUseDispersionCorrection(False)
    for charge in salt.charges.tolist():
        system.addParticle(1.0)
        force.addParticle(charge, 1.0, 0.0)
    system.addForce(force)
    platform = openmm.Platform.getPlatformByName("CPU")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform, {"Threads": "1"})
    positions = salt.positions.double().numpy()

    def forces() -> Tensor:
        context.setPositions(positions)
        state = context.getState(energy=True, forces=True)
        return torch.from_numpy(state.getForces(asNumpy=True)._value)

    return forces


def nvalchemi(salt: Salt) -> tuple[Callable[[], object], Callable[[], tuple[Tensor, ...]]]:
    """Two functions that have nvalchemiops, which counts in angstroms, find pairs, and compute derivatives."""
    from nvalchemiops.torch.interactions.electrostatics import particle_mesh_ewald
    from nvalchemiops.torch.neighbors import neighbor_list

    cell, periodic = 10 * salt.cell, torch.tensor([[True, True, True]])

    def pairs() -> tuple[Tensor, ...]:
        return neighbor_list(
            10 * salt.positions, 9.0, cell=cell, pbc=periodic, method="cell_list", return_neighbor_list=True
        )

    listed, start, shifts = pairs()

    def energy(positions: Tensor, charges: Tensor) -> Tensor:
        return particle_mesh_ewald(
            10 * positions, charges, cell, alpha=0.35, mesh_spacing=0.88,
            neighbor_list=listed, neighbor_ptr=start, neighbor_shifts=shifts,
        )  # fmt: skip

    return pairs, lambda: salt.derivatives(energy)


def medians(functions: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """CPU time of each [ms], in turn, after two calls that are not counted."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats + 2):
        for name, function in functions.items():
            start = time.process_time()
            function()
            times[name].append(time.process_time() - start)
    return {name: 1e3 * statistics.median(values[2:]) for name, values in times.items()}


def measure(beads: int, accuracy: float) -> Record:
    """Times [ms], those of OpenMM's [1], and errors of the forces [1]."""
    salt = Salt.build(beads).to(torch.float32)
    double = Salt.build(beads).to(torch.float64)
    settings = tune(double.cell, beads, accuracy=accuracy, method="pme")
    pairs = salt.pairs(settings, SKIN)
    batch = torch.zeros(beads, dtype=torch.int64)
    where = {"cell": salt.cell, "batch": batch, "n_systems": 1}
    theirs = openmm_forces(salt)
    other_pairs, other = nvalchemi(salt)
    functions: dict[str, Callable[[], object]] = {
        "openmm": theirs,
        "other": other,
        "other pairs": other_pairs,
        "kept": lambda: salt.derivatives(lambda x, q: coulomb_energy(x, q, None, pairs, settings, **where)),
        "real": lambda: salt.derivatives(lambda x, q: real_space_energy(x, q, None, pairs, settings, **where)),
        "mesh": lambda: salt.derivatives(lambda x, q: pme_energy(x, q, None, settings, **where)),
        "pairs": lambda: salt.pairs(settings, SKIN),
        "fresh": lambda: salt.derivatives(
            lambda x, q: coulomb_energy(x, q, None, salt.pairs(settings), settings, **where)
        ),
    }
    time_of = medians(functions, 9 if beads <= 8000 else 3)
    exact = tune(double.cell, beads, accuracy=2e-6, method="pme", cutoff=1.2)
    listed = double.pairs(exact)
    expected = -double.derivatives(lambda x, q: coulomb_energy(x, q, None, listed, exact, cell=double.cell))[0]
    ours = -salt.derivatives(lambda x, q: coulomb_energy(x, q, None, pairs, settings, **where))[0]

    def error(found: Tensor) -> float:
        return float((found - expected).norm() / expected.norm())

    total = time_of["kept"] + time_of["pairs"] / STEPS_PER_LIST
    return {
        "model": "cgenn-pme",
        "lmax": None,
        "layers": None,
        "channels": None,
        "threads": 1,
        "beads": beads,
        "us_per_bead": 1e3 * total / beads,
        "peak_kb_per_bead": None,
        "openmm_ms": time_of["openmm"],
        "over_openmm_kept": total / time_of["openmm"],
        "over_openmm_new": time_of["fresh"] / time_of["openmm"],
        "nvalchemiops_over_openmm_kept": time_of["other"] / time_of["openmm"],
        "nvalchemiops_over_openmm_new": (time_of["other"] + time_of["other pairs"]) / time_of["openmm"],
        "real_space_ms": time_of["real"],
        "mesh_ms": time_of["mesh"],
        "pairs_ms": time_of["pairs"],
        "error_openmm": error(theirs()),
        "error_nvalchemiops": error(-10 * COULOMB * other()[0]),
        "error": error(ours),
        "cutoff": settings.cutoff,
        "mesh": str(settings.mesh),
        "versions": versions("openmm", "nvalchemi-toolkit-ops"),
    }


def main(
    quick: bool = False,
    accuracy: float = 2e-4,
    beads: str = "1000,8000,64000",
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    torch.set_num_threads(1)
    show((measure(number, accuracy) for number in ([1000] if quick else map(int, beads.split(",")))), as_json)


if __name__ == "__main__":
    typer.run(main)
