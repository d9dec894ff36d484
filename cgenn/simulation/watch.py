"""Notices when a simulation goes wrong, and says where: at which step, at which bead, in which term."""

from __future__ import annotations

from typing import Any

import torch  # isort: skip  (before openmm, see backends.py)
import numpy as np
import openmm
from jaxtyping import Float

from cgenn.potential.potential import Potential
from cgenn.simulation.force import FAR, LearnedForce
from cgenn.simulation.placement import Placement
from cgenn.simulation.system import native_forces
from cgenn.topology import BeadTopology

STRETCH = 5.0
"""A bond this many times as long as it should be has run away."""


class SimulationError(RuntimeError):
    """A simulation that cannot go on.

    Attributes:
        step: time step.
        bead: index of the bead in the System.
        term: the term of the potential that acts strongest on it: "network", "bonds", "angles", ...
    """

    def __init__(self, message: str, step: int, bead: int | None = None, term: str | None = None) -> None:
        super().__init__(message)
        self.step, self.bead, self.term = step, bead, term


class Watch:
    """Checks positions and bonds; a reporter for OpenMM that writes nothing."""

    def __init__(
        self,
        interval: int,
        potential: Potential,
        topology: BeadTopology,
        learned: LearnedForce,
        positions: Float[np.ndarray, "replicas beads 3"],
        advice: str | None = None,
    ) -> None:
        """`topology` is that of one copy; a bond without a prior is measured against its length at the start.

        `advice` is a sentence for the end of `explain`, where more is known of what may help.
        """
        self._interval = interval
        self._advice = advice or "A shorter time step, minimisation, or a better model may help"
        self._potential, self._topology, self._learned = potential, topology, learned
        self._replicas = len(positions)
        self._bonds = topology.bonds
        ends = positions[:, self._bonds]
        self._expected = np.linalg.norm(ends[:, :, 0] - ends[:, :, 1], axis=2).max(0)
        terms = potential.priors.bond_terms(topology)
        lengths = {tuple(row): length for row, (length, _) in zip(terms.index.tolist(), terms.parameters, strict=True)}
        for bond, row in enumerate(self._bonds.tolist()):
            self._expected[bond] = lengths.get(tuple(row), self._expected[bond])

    def describeNextReport(self, simulation: Any) -> dict[str, Any]:
        """What OpenMM asks a reporter."""
        steps = self._interval - simulation.currentStep % self._interval
        return {"steps": steps, "periodic": False, "include": ["positions"]}

    def report(self, simulation: Any, state: openmm.State) -> None:
        """Raise SimulationError if something is wrong."""
        positions = np.asarray(state.getPositions(asNumpy=True)._value).reshape(self._replicas, -1, 3)
        positions = positions if self._learned.rigid is None else positions[:, self._learned.rigid.centers]
        step = simulation.currentStep
        if not np.isfinite(positions).all():
            raise self.explain(simulation, "a position is not a number")
        ends = positions[:, self._bonds]
        stretch = np.linalg.norm(ends[:, :, 0] - ends[:, :, 1], axis=2) / self._expected
        if stretch.size and stretch.max() > STRETCH:
            replica, bond = map(int, np.unravel_index(stretch.argmax(), stretch.shape))
            first, second = (int(bead) + replica * len(self._topology) for bead in self._bonds[bond])
            term = self._strongest(simulation.context, [first, second])[1]
            length = stretch[replica, bond] * self._expected[bond]
            raise SimulationError(
                f"step {step}: the bond of {self._name(first)} and {self._name(second)} has run away, it is "
                f"{length:.3g} nm long where {self._expected[bond]:.3g} nm are expected; the strongest force there is "
                f"that of `{term}`",
                step, first, term,
            )  # fmt: skip

    def explain(self, simulation: Any, cause: str) -> SimulationError:
        """The error to raise when OpenMM or the learned force has given up because of `cause`."""
        step = simulation.currentStep
        if "periodic box size has decreased" in cause:
            return SimulationError(
                f"step {step}: the box has become too small for the cutoff of the charges or of the terms of pairs, "
                "which was chosen for the box at the start; start a new run from the last frame, or from a box nearer "
                "to equilibrium",
                step,
            )  # fmt: skip
        bead, term, force = self._strongest(simulation.context)
        return SimulationError(
            f"step {step}: {cause}; the strongest force is that of `{term}` on {self._name(bead)}, {force:.3g} "
            f"kJ/mol/nm. {self._advice}",
            step, bead, term,
        )  # fmt: skip

    def _name(self, bead: int) -> str:
        replica, local = divmod(bead, len(self._topology))
        name = f"bead {local} ({self._topology.names[local]}, type {self._topology.types[local]!r})"
        return f"{name} of replica {replica}" if self._replicas > 1 else name

    def _strongest(self, context: openmm.Context, beads: list[int] | None = None) -> tuple[int, str, float]:
        """Bead, term and size of the strongest force: now, or where all was still finite."""
        state = context.getState(positions=True)
        positions = np.asarray(state.getPositions(asNumpy=True)._value)
        box = np.asarray(state.getPeriodicBoxVectors(asNumpy=True)._value) if self._learned.periodic else None
        if not np.ptp(positions, axis=0).max() < FAR and self._learned.last is not None:
            last, cell = self._learned.last
            positions, box = last.double().cpu().numpy(), None if cell is None else cell.double().cpu().numpy()
        forces = self._forces(positions, box)
        rigid = self._learned.rigid
        if rigid is not None:  # of all sites of a bead together
            starts = np.arange(len(positions)).reshape(self._replicas, -1)[:, rigid.centers].ravel()
            forces = {term: np.add.reduceat(values, starts) for term, values in forces.items()}
        sizes = {term: np.linalg.norm(values, axis=1) for term, values in forces.items()}
        chosen = np.arange(len(self._topology) * self._replicas) if beads is None else np.array(beads)
        table = np.array([np.where(np.isfinite(size), size, np.inf)[chosen] for size in sizes.values()])
        term, place = np.unravel_index(table.argmax(), table.shape)
        return int(chosen[place]), list(sizes)[term], float(table[term, place])

    def _forces(self, positions: np.ndarray, box: np.ndarray | None) -> dict[str, np.ndarray]:
        """The force of each term on each bead, evaluated one by one."""
        if not np.isfinite(positions).all():
            return {"unknown": np.where(np.isfinite(positions), 0.0, np.inf)}
        cell = None if box is None else torch.from_numpy(box)
        network = self._learned.unchecked(torch.from_numpy(positions), cell)[1]
        forces = {"network": network.double().cpu().numpy()}
        system = openmm.System()
        for _ in range(len(positions)):
            system.addParticle(1.0)
        placement = Placement.replicas(
            len(self._topology), self._replicas, periodic=self._learned.periodic, rigid=self._learned.rigid
        )
        native = native_forces(self._potential, self._topology, placement, self._learned, box)
        for number, force in enumerate(native):
            force.setForceGroup(number)
            system.addForce(force)
        if box is not None:
            system.setDefaultPeriodicBoxVectors(*box.tolist())
        context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
        context.setPositions(positions)
        for number, force in enumerate(native):
            state = context.getState(forces=True, groups={number})
            name = force.getName()
            forces[name] = forces.get(name, 0.0) + np.asarray(state.getForces(asNumpy=True)._value)
        return forces
