"""The learned force: one callable from positions and box to energy and forces, behind every OpenMM backend."""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np
import safetensors.torch
import torch
from jaxtyping import Float
from torch import Tensor

from cgenn.electrostatics.slab import joined_slab
from cgenn.graph import BeadGraph
from cgenn.potential.compiled import compiled
from cgenn.potential.config import PotentialConfig
from cgenn.potential.potential import Potential
from cgenn.potential.priors import Priors
from cgenn.simulation.memory import ChargedBeads, Memory
from cgenn.simulation.rigid import RigidBeads, with_bodies
from cgenn.topology import BeadTopology

Precision = Literal["single", "double"]

FAR = 1e4
"""A bead this far from the others is lost [nm]."""

LAMBDA = "lambda_electrostatics"
"""Global parameter of OpenMM that multiplies all charges and dipoles of the beads."""

_FORMAT = 2
_DTYPES = {"single": torch.float32, "double": torch.float64}
_KEPT = 8
_LIVE: OrderedDict[str, LearnedForce] = OrderedDict()


@dataclass(eq=False)
class LearnedForce:
    """The network of a potential on `replicas` copies of one system; the priors are native forces (bonded.py).

    Charges that the network predicts, and their long-range energy, are part of it: the forces hold dE/dq dq/dR. Where
    beads have an orientation, positions and forces are those of all particles, with their sites (rigid.py).

    It is written into an `openmm.System` by its content, `state`: weights and settings as safetensors and JSON, from
    which it is built again without running any code. Within a process one content is one object (`restore`), however
    often a System is copied. What it remembers between calls, the neighbour list, is checked on each call, so that
    several Contexts may use it.

    Attributes:
        config: configuration of the network.
        weights: its parameters, as safetensors, in the precision of the evaluation.
        types: number of the type of each bead of one copy.
        features: further inputs of each bead of one copy, or an empty tuple.
        charged: what its charges add up to and which do not interact; None without electrostatics in this force.
        replicas: copies, one after the other, that do not feel each other.
        periodic: whether there is a box.
        precision: of the network; positions and forces are converted. In "single" precision it is compiled, as far as
            that is possible.
        device: "auto" is that of the positions, or CUDA if positions come from the CPU and there is one.
        rigid: the sites of the oriented beads of one copy; None where there are none.
        excluded: pairs of beads of one copy that do not see each other.
        error: the last exception raised inside a call: OpenMM passes on no more than its text.
        last: positions and box of the last call that went well.
    """

    config: PotentialConfig
    weights: bytes = field(repr=False)
    types: tuple[int, ...]
    features: tuple[tuple[float, ...], ...]
    charged: ChargedBeads | None
    replicas: int
    periodic: bool
    precision: Precision
    device: str
    rigid: RigidBeads | None = None
    excluded: tuple[tuple[int, int], ...] = ()
    error: BaseException | None = field(default=None, init=False, repr=False)
    last: tuple[Tensor, Tensor | None] | None = field(default=None, init=False, repr=False)
    _memory: threading.local = field(default_factory=threading.local, init=False, repr=False)

    @classmethod
    def build(
        cls,
        potential: Potential,
        topology: BeadTopology,
        *,
        replicas: int = 1,
        periodic: bool = False,
        precision: Precision = "single",
        device: str = "auto",
    ) -> LearnedForce:
        """The learned force of a potential on a topology.

        Raises:
            ValueError: if the potential does not know the type of a bead, or see `RigidBeads.of`.
        """
        dtype = _DTYPES[precision]
        weights = {key: _cast(value, dtype) for key, value in potential.network.state_dict().items()}
        features = potential.bead_features(topology)
        electrostatics = potential.config.electrostatics
        fused = electrostatics is not None and (potential.config.predicts_charges or electrostatics.slab)
        return cls(
            config=potential.config,
            weights=safetensors.torch.save(weights),
            types=tuple(potential.type_indices(topology).tolist()),
            features=() if features is None else tuple(map(tuple, features.double().tolist())),
            charged=ChargedBeads.of(topology, electrostatics) if fused and electrostatics else None,
            replicas=replicas,
            periodic=periodic,
            precision=precision,
            device=device,
            rigid=RigidBeads.of(with_bodies(topology, potential.config.bodies)),
            excluded=tuple(map(tuple, topology.bonded_pairs(potential.config.excluded_bonds).tolist())),
        ).registered()

    # ---- content

    @cached_property
    def state(self) -> bytes:
        """Everything needed to build this again: one line of JSON and the weights."""
        settings = {
            "format": _FORMAT,
            "config": self.config.model_dump(),
            "types": self.types,
            "features": self.features,
            "charged": None if self.charged is None else self.charged.model_dump(),
            "replicas": self.replicas,
            "periodic": self.periodic,
            "precision": self.precision,
            "device": self.device,
            **({} if self.rigid is None else {"rigid": self.rigid.to_dict()}),
            **({"excluded": self.excluded} if self.excluded else {}),
        }
        return json.dumps(settings).encode() + b"\n" + self.weights

    @cached_property
    def key(self) -> str:
        """SHA-256 of the content."""
        return hashlib.sha256(self.state).hexdigest()

    def registered(self) -> LearnedForce:
        """The one object of this content in this process; the last few are kept."""
        known = _LIVE.setdefault(self.key, self)
        _LIVE.move_to_end(self.key)
        while len(_LIVE) > _KEPT:
            _LIVE.popitem(last=False)
        return known

    @staticmethod
    def find(key: str) -> LearnedForce | None:
        """The object of this content, if this process has one."""
        return _LIVE.get(key)

    @classmethod
    def restore(cls, state: bytes) -> LearnedForce:
        """The inverse of `state`.

        Raises:
            ValueError: if it was written by another version of cgenn.
        """
        live = cls.find(hashlib.sha256(state).hexdigest())
        if live is not None:
            return live
        line, _, weights = state.partition(b"\n")
        settings: dict[str, Any] = json.loads(line)
        if settings.pop("format", None) != _FORMAT:
            raise ValueError("this System was written by another version of cgenn: make it again with create_system")
        settings["config"] = PotentialConfig.parse(settings["config"], "the network stored in the System")
        settings["types"] = tuple(settings["types"])
        settings["features"] = tuple(map(tuple, settings["features"]))
        settings["excluded"] = tuple(map(tuple, settings.get("excluded", ())))
        if settings["charged"] is not None:
            settings["charged"] = ChargedBeads.parse(settings["charged"], "the charges stored in the System")
        if "rigid" in settings:
            settings["rigid"] = RigidBeads.from_dict(settings["rigid"])
        return cls(weights=weights, **settings).registered()

    def __reduce__(self) -> tuple[Any, ...]:
        return LearnedForce.restore, (self.state,)

    # ---- evaluation

    def unchecked(
        self, positions: Float[Tensor, "particles 3"], cell: Float[Tensor, "3 3"] | None = None, scale: float = 1.0
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "particles 3"]]:
        """Energy [kJ/mol] and forces [kJ/mol/nm], on the device of the network, whatever they are.

        Charges and dipoles are multiplied by `scale`, and their energy by its square.

        Raises:
            ValueError: if the number of particles is wrong, a position is not finite, or the sites of a bead have
                drifted apart.
        """
        if self.rigid is None:
            with torch.inference_mode(False), torch.no_grad():
                memory = self._recall(self._place(positions))
                return memory.energy_forces_torques(self._graph(positions, cell, memory), scale)[:2]
        with torch.inference_mode(False), torch.no_grad():
            memory = self._recall(self._place(positions))
            return memory.on_sites(*self._with_torques(positions, cell, scale, memory))

    def forces_and_torques(
        self, positions: Float[Tensor, "particles 3"], cell: Float[Tensor, "3 3"] | None = None, scale: float = 1.0
    ) -> tuple[Float[Tensor, "beads 3"], Float[Tensor, "beads 3"]]:
        """Forces [kJ/mol/nm] and torques [kJ/mol] on the beads, zero without an orientation; see `unchecked`."""
        with torch.inference_mode(False), torch.no_grad():
            memory = self._recall(self._place(positions))
            _, _, forces, torques = self._with_torques(positions, cell, scale, memory)
            return forces, torques

    def _with_torques(
        self, positions: Tensor, cell: Tensor | None, scale: float, memory: Memory
    ) -> tuple[BeadGraph, Tensor, Tensor, Tensor]:
        """The graph, the energy, forces and torques on the beads."""
        graph = self._graph(positions, cell, memory)
        return graph, *memory.energy_forces_torques(graph, scale)

    def moments(
        self, positions: Float[Tensor, "beads 3"], cell: Float[Tensor, "3 3"] | None = None
    ) -> tuple[Float[np.ndarray, " beads"], Float[np.ndarray, "beads 3"] | None]:
        """Charges [e] and, if they are predicted, dipoles [e nm] of the beads.

        Raises:
            ValueError: if this force has no electrostatics, or as `unchecked`.
        """
        if self.charged is None:
            raise ValueError("the learned force has no electrostatics: its charges are constant, or there are none")
        with torch.inference_mode(False), torch.no_grad():
            memory = self._recall(self._place(positions))
            charges, dipoles = memory.potential.moments(self._graph(positions, cell, memory))
        return charges.double().cpu().numpy(), None if dipoles is None else dipoles.double().cpu().numpy()

    def electrostatic_energy(
        self, positions: Float[Tensor, "beads 3"], cell: Float[Tensor, "3 3"] | None = None
    ) -> float:
        """The part of the energy that charges and dipoles have with each other [kJ/mol]; see `moments`."""
        if self.charged is None:
            return 0.0
        with torch.inference_mode(False), torch.no_grad():
            memory = self._recall(self._place(positions))
            return float(memory.potential.electrostatic_energy(self._graph(positions, cell, memory)).double().sum())

    def evaluate(
        self, positions: Float[Tensor, "beads 3"], cell: Float[Tensor, "3 3"] | None = None, scale: float = 1.0
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "beads 3"]]:
        """Energy, in double precision [kJ/mol], and forces in the kind of the positions [kJ/mol/nm].

        Where positions stay on a GPU, forces that are not finite are left to the next call, which gets positions that
        are none: to look at them the processor would have to wait for the GPU in each step.

        Raises:
            ValueError: if the number of beads is wrong or a position is not finite.
            FloatingPointError: if the energy or a force is not finite, naming the bead.
        """
        energy, forces = self.unchecked(positions, cell, scale)
        if not positions.is_cuda and not math.isfinite((energy + 0.0 * forces.sum()).item()):
            raise FloatingPointError(self._complaint(positions, cell, energy, forces))
        self.last = positions.detach().clone(), None if cell is None else cell.detach().clone()
        return energy, forces.to(positions.device, positions.dtype).contiguous()

    def guarded(
        self, positions: Float[Tensor, "beads 3"], cell: Float[Tensor, "3 3"] | None = None, scale: float = 1.0
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "beads 3"]]:
        """`evaluate` as called by OpenMM, which keeps only the text of an exception: it is also put into `error`."""
        try:
            return self.evaluate(positions, cell, scale)
        except BaseException as error:
            self.error = error
            raise RuntimeError(f"{type(error).__name__} in the learned force: {error}") from error

    def __call__(self, state: Any) -> tuple[float, np.ndarray]:
        """What `openmm.PythonForce` calls."""
        positions = torch.from_numpy(np.ascontiguousarray(state.getPositions(asNumpy=True)._value))
        cell = None
        if self.periodic:
            cell = torch.from_numpy(np.ascontiguousarray(state.getPeriodicBoxVectors(asNumpy=True)._value))
        scale = 1.0 if self.charged is None else state.getParameters()[LAMBDA]
        energy, forces = self.guarded(positions, cell, scale)
        return energy.item(), forces.numpy()

    def forget(self) -> None:
        """Drop the neighbour lists: what comes next depends on positions and box only, to the last bit."""
        self._memory = threading.local()

    def _place(self, positions: Tensor) -> torch.device:
        if self.device != "auto":
            return torch.device(self.device)
        if positions.device.type == "cpu" and torch.cuda.is_available():
            return torch.device("cuda")
        return positions.device

    def _recall(self, device: torch.device) -> Memory:
        """What this thread remembers of the last call."""
        held = self._memory
        if getattr(held, "device", None) != device:
            potential = _potential(self.config.model_dump_json(), self.weights, self.precision, device)
            held.memory = Memory(
                potential, self.types, self.features, self.charged, self.replicas, self.rigid, self.excluded
            )
            held.device = device
        return held.memory

    def _graph(self, positions: Tensor, cell: Tensor | None, memory: Memory) -> BeadGraph:
        each, kind = (len(self.types), "beads") if self.rigid is None else (self.rigid.n_particles, "particles")
        if positions.shape != (each * self.replicas, 3):
            expected = f"{each * self.replicas} {kind}"
            raise ValueError(f"the learned force is for {expected}, got positions {tuple(positions.shape)}")
        device, dtype = memory.types.device, memory.potential.dtype
        frames = None
        if self.rigid is not None:
            positions, frames = memory.frames(positions.detach().to(device), None if cell is None else cell.detach())
            frames = frames.to(dtype)
        local = self._near_origin(positions.detach(), cell, memory)
        if not local.is_cuda and not local.abs().max() < FAR:  # on a GPU the list of neighbours, made anew, tells it
            bead = int((~(local.abs() < FAR)).any(1).int().argmax())
            raise ValueError(f"bead {bead} has gone to {positions[bead].tolist()} nm")
        cell = None if cell is None else cell.detach().to(device, dtype)
        return memory.graph(local.to(device, dtype), cell, frames)

    def _near_origin(self, positions: Tensor, cell: Tensor | None, memory: Memory) -> Tensor:
        """The same configuration close to the origin, where single precision is enough: beads wander off for ever."""
        if cell is None:
            copies = positions.view(self.replicas, -1, 3)
            return (copies - copies[:, :1]).flatten(0, 1)
        near = positions - memory.cells.to(positions) @ cell.to(positions)
        slab = self.charged is not None and self.config.electrostatics is not None and self.config.electrostatics.slab
        return joined_slab(near, cell.to(positions)) if slab else near

    def _complaint(self, positions: Tensor, cell: Tensor | None, energy: Tensor, forces: Tensor) -> str:
        graph = self._graph(positions, cell, self._recall(self._place(positions)))
        length = torch.linalg.vector_norm(graph.edge_vectors(), dim=1)
        if len(length) and length.min() < 1e-6:
            closest = int(length.argmin())
            first, second = sorted((int(graph.receivers[closest]), int(graph.senders[closest])))
            return f"beads {first} and {second} are in the same place"
        broken = (~torch.isfinite(forces)).any(1).nonzero().flatten()
        if not len(broken):
            return f"the energy of the network is {energy.item()} kJ/mol"
        if self.rigid is not None:
            return f"the force of the network on particle {int(broken[0])} is not finite ({len(broken)} such particles)"
        return f"the force of the network on bead {int(broken[0])} is not finite ({len(broken)} such beads)"


@lru_cache(maxsize=_KEPT)
def _potential(config: str, weights: bytes, precision: Precision, device: torch.device) -> Potential:
    """The network of this configuration, in JSON, and these weights, shared by all forces of this process with them."""
    with torch.random.fork_rng(devices=[]):  # the weights drawn here are replaced: leave the caller's seed alone
        potential = Potential(PotentialConfig.model_validate_json(config), Priors())
    potential.network.to(_DTYPES[precision]).load_state_dict(safetensors.torch.load(weights))
    potential = potential.to(device).requires_grad_(False).eval()
    return compiled(potential) if precision == "single" else potential


def _cast(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value.detach().to("cpu", dtype if value.is_floating_point() else value.dtype).contiguous()
