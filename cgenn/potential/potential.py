"""The coarse-grained potential: an equivariant network on the bead graph plus classical priors, kept in one file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from cgenn.electrostatics.charges import neutralise
from cgenn.electrostatics.coulomb import coulomb_energy
from cgenn.files import atomic
from cgenn.graph import BeadGraph, build_graph
from cgenn.neighbors import in_copies
from cgenn.nn.network import BeadOutputs, EquivariantNetwork
from cgenn.nn.orientation import BodySymmetry
from cgenn.potential.config import PotentialConfig
from cgenn.potential.electrostatics import CHARGE_UNIT, DIPOLE_UNIT, coulomb_graph
from cgenn.potential.prior_energy import PriorEnergy
from cgenn.potential.priors import Priors
from cgenn.symmetry import point_group
from cgenn.topology import BeadTopology
from cgenn.units import thermal_energy

FORMAT_VERSION = 1


class Moments(NamedTuple):
    """Charges [e], shape (beads,), and dipoles [e nm], shape (beads, 3) or None."""

    charges: Float[Tensor, " beads"]
    dipoles: Float[Tensor, "beads 3"] | None


class Potential(nn.Module):
    """E = E_network + E_electrostatics + E_bonds + E_angles + E_dihedrals + E_repulsion + E_pairs + E_ramp [kJ/mol]."""

    def __init__(self, config: PotentialConfig, priors: Priors, provenance: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.config = config
        self.priors = priors
        self.provenance = provenance or {}
        self.network = EquivariantNetwork(
            n_types=len(config.types),
            n_features=len(config.bead_features) + config.temperature_input,
            cutoff=config.cutoff,
            lmax=config.lmax,
            channels=config.channels,
            layers=config.layers,
            reflection_invariant=config.reflection_invariant,
            radial_basis=config.radial_basis,
            radial_width=config.radial_width,
            average_neighbors=config.average_neighbors,
            charges=config.electrostatics is not None and config.electrostatics.charges == "predicted",
            dipoles=config.electrostatics is not None and config.electrostatics.dipoles,
            bodies=_symmetries(config),
        )

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights."""
        return next(self.network.parameters()).dtype

    @property
    def reach(self) -> float:
        """Distance within which a graph must list the neighbours [nm]."""
        return max(self.config.cutoff, self.priors.pair_cutoff)

    def at_temperature(self, temperature: float) -> Potential:
        """The same potential, weights and all, with the energy at another temperature [K].

        Raises:
            ValueError: if the temperature is not positive, or not an input of the network.
        """
        thermal_energy(temperature)
        if self.config.temperatures is None:
            raise ValueError(
                f"the energy of this potential does not depend on the temperature: it is that at "
                f"{self.config.temperature:g} K; train one with `network.temperature_input`"
            )
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.config = self.config.model_copy(update={"temperature": float(temperature)})
        return other

    def at_data_temperature(self, temperature: float) -> Potential:
        """At the temperature of data or of a simulation [K], if that is an input; else the same one."""
        return self if self.config.temperatures is None else self.at_temperature(temperature)

    def type_indices(self, topology: BeadTopology) -> Int[Tensor, " beads"]:
        """The number of each bead's type.

        Raises:
            ValueError: naming the first bead whose type the potential was not trained on.
        """
        number = {name: index for index, name in enumerate(self.config.types)}
        for bead, name in enumerate(topology.types):
            if name not in number:
                raise ValueError(
                    f"bead {bead} has type {name!r}, which this model does not know; it was trained on "
                    + ", ".join(self.config.types)
                )
        return torch.tensor([number[name] for name in topology.types])

    def bead_features(self, topology: BeadTopology) -> Float[Tensor, "beads features"] | None:
        """Further inputs of each bead, as the configuration names them: charge [e], mass [100 amu], temperature.

        The last one is -1/2 at the lowest temperature of the training data and 1/2 at the highest one: small numbers,
        so that what is learnt is smooth in between.
        """
        columns = {"charge": topology.charges, "mass": topology.masses / 100.0}
        chosen = [columns[name] for name in self.config.bead_features]
        if self.config.temperatures is not None:
            low, high = self.config.temperatures
            chosen.append(np.full(len(topology), (self.config.temperature - 0.5 * (low + high)) / (high - low)))
        return torch.from_numpy(np.stack(chosen, axis=1)).to(self.dtype) if chosen else None

    def graph(
        self,
        topology: BeadTopology,
        positions: Float[Tensor, "systems beads 3"],
        box: Float[Tensor, "systems 3 3"] | None = None,
        orientations: Float[Tensor, "systems beads 3 3"] | None = None,
    ) -> BeadGraph:
        """The graph of one or many conformations of a topology; positions and box in nm, orientations as matrices.

        Those of beads without an orientation are not looked at.

        Raises:
            ValueError: if positions or orientations are not those of the topology, or its beads have orientations and
                those of the potential none, or the other way round.
        """
        systems, beads = positions.shape[:2]
        if beads != len(topology):
            raise ValueError(f"positions hold {beads} beads, the topology {len(topology)}")
        features = self.bead_features(topology)
        graph = build_graph(
            positions.flatten(0, 1),
            self.type_indices(topology).to(positions.device).repeat(systems),
            self.reach,
            cell=box,
            batch=torch.arange(systems, device=positions.device).repeat_interleave(beads),
            n_systems=systems,
            features=None if features is None else features.to(positions).repeat(systems, 1),
            orientations=self._frames(topology, positions, orientations),
            excluded=self._excluded(topology, systems, positions.device),
        )
        if self.config.electrostatics is None:
            return graph
        coulomb = coulomb_graph(
            self.config.electrostatics, topology, graph.positions, graph.cell, graph.batch, graph.n_systems
        )
        return replace(graph, coulomb=coulomb)

    def _excluded(self, topology: BeadTopology, systems: int, device: torch.device) -> Int[Tensor, "2 pairs"] | None:
        """Pairs of beads that do not see each other, in all systems."""
        if not self.config.excluded_bonds or not len(topology.bonds):
            return None
        pairs = topology.bonded_pairs(self.config.excluded_bonds)
        return in_copies(torch.from_numpy(pairs.T.copy()).to(device), len(topology), systems)

    def _frames(
        self, topology: BeadTopology, positions: Tensor, orientations: Tensor | None
    ) -> Float[Tensor, "beads 3 3"] | None:
        """The orientations of all beads of all systems, as far as the energy depends on any."""
        bodies = self.config.bodies
        if orientations is None:
            turned = next((bead for bead, name in enumerate(topology.types) if name in bodies), None)
            if turned is not None:
                raise ValueError(
                    f"bead {turned} has type {topology.types[turned]!r}, whose energy in this model depends on its "
                    "orientation, but there are no `orientations`"
                )
            return torch.eye(3).to(positions).repeat(positions[..., 0].numel(), 1, 1) if bodies else None
        if not bodies:
            raise ValueError("`orientations` are given, but no bead type of this model has one")
        if orientations.shape != (*positions.shape, 3):
            raise ValueError(
                f"`orientations` must be matrices, shape {(*positions.shape, 3)}, got {tuple(orientations.shape)}"
            )
        return orientations.flatten(0, 1)

    def prior_energy(self, topology: BeadTopology) -> PriorEnergy:
        """The prior terms on one topology."""
        beads = topology.with_bodies(self.config.bodies)
        return PriorEnergy(self.priors, beads, list(self.config.types)).to(self.network.embedding.weight.device)

    def outputs(self, graph: BeadGraph) -> BeadOutputs:
        """What the network says of each bead, without units."""
        return self.network(
            graph.edge_vectors(),
            graph.types,
            graph.receivers,
            graph.senders,
            graph.features,
            orientations=graph.orientations,
        )

    def network_energy(self, graph: BeadGraph) -> Float[Tensor, " systems"]:
        """What the network itself adds to the energy of each system [kJ/mol]."""
        return graph.per_system(self.config.energy_scale * self.outputs(graph).energies)

    def moments(self, graph: BeadGraph, outputs: BeadOutputs | None = None) -> Moments:
        """Charges and dipoles of the beads; the charges of each group add up to its total.

        Raises:
            ValueError: if the potential has no electrostatics.
        """
        if graph.coulomb is None or self.config.electrostatics is None:
            raise ValueError("this potential has no electrostatics: train one with `network.electrostatics`")
        charges = graph.positions.new_tensor(self.config.type_charges)[graph.types]
        if not self.config.predicts_charges:
            return Moments(charges, None)
        outputs = self.outputs(graph) if outputs is None else outputs
        if outputs.charges is not None and outputs.weights is not None:
            raw = charges + CHARGE_UNIT * outputs.charges
            charges = neutralise(raw, outputs.weights, graph.coulomb.groups, graph.coulomb.totals)
        return Moments(charges, None if outputs.dipoles is None else DIPOLE_UNIT * outputs.dipoles)

    def electrostatic_energy(self, graph: BeadGraph, moments: Moments | None = None) -> Float[Tensor, " systems"]:
        """Coulomb energy of charges and dipoles, by default those of `moments`, in each system [kJ/mol].

        With the energy that it costs to charge the beads, if there is one.
        """
        charges, dipoles = self.moments(graph) if moments is None else moments
        assert graph.coulomb is not None
        return self._self_energy(graph, charges) + coulomb_energy(
            graph.positions,
            charges,
            dipoles,
            graph.coulomb.pairs,
            graph.coulomb.settings,
            cell=graph.cell,
            batch=graph.batch,
            n_systems=graph.n_systems,
        )

    def _self_energy(self, graph: BeadGraph, charges: Float[Tensor, " beads"]) -> Float[Tensor, " systems"]:
        if not self.config.type_self_energies:
            return charges.new_zeros(graph.n_systems)
        chi, hardness = charges.new_tensor(self.config.type_self_energies)[graph.types].unbind(1)
        change = charges - charges.new_tensor(self.config.type_charges)[graph.types]
        return graph.per_system((chi + 0.5 * hardness * change) * change)

    def learned_terms(self, graph: BeadGraph) -> dict[str, Float[Tensor, " systems"]]:
        """Energy that the network adds and, if there is electrostatics, that of the charges [kJ/mol]."""
        outputs = self.outputs(graph)
        terms = {"network": graph.per_system(self.config.energy_scale * outputs.energies)}
        if self.config.electrostatics is not None:
            terms["electrostatics"] = self.electrostatic_energy(graph, self.moments(graph, outputs))
        return terms

    def learned_energy(self, graph: BeadGraph) -> Float[Tensor, " systems"]:
        """The sum of `learned_terms`: everything but the priors [kJ/mol]."""
        return torch.stack(list(self.learned_terms(graph).values())).sum(0)

    def terms(self, graph: BeadGraph, topology: BeadTopology) -> dict[str, Float[Tensor, " systems"]]:
        """Energy of every term of every system [kJ/mol]."""
        return {**self.learned_terms(graph), **self.prior_energy(topology)(graph)}

    def forward(self, graph: BeadGraph, topology: BeadTopology) -> Float[Tensor, " systems"]:
        """Energy of every system [kJ/mol]: the sum of `terms`."""
        return torch.stack(list(self.terms(graph, topology).values())).sum(0)

    def save(self, path: str | Path) -> None:
        """Write weights, configuration and priors into one safetensors file."""
        header = {
            "format_version": FORMAT_VERSION,
            "config": self.config.model_dump(),
            "oriented": sorted(self.config.bodies),
            "priors": self.priors.model_dump(),
            "provenance": self.provenance,
        }
        weights = {name: value.detach().cpu().contiguous() for name, value in self.network.state_dict().items()}
        with atomic(path) as temporary:
            temporary.write_bytes(save(weights, metadata={"cgenn": json.dumps(header)}))

    @classmethod
    def load(cls, path: str | Path) -> Potential:
        """Read a potential; no code from the file is run.

        Raises:
            ValueError: if there is no such file, it is not a cgenn model, is damaged, or of an unknown version.
        """
        header, weights = _read(Path(path))
        version = header.get("format_version")
        if version != FORMAT_VERSION:
            raise ValueError(
                f"{path}: model format {version!r} is not known to this version of cgenn ({FORMAT_VERSION})"
            )
        config = PotentialConfig.parse(header.get("config", {}), f"{path}, configuration")
        priors = Priors.parse(header.get("priors", {}), f"{path}, priors")
        potential = cls(config, priors, header.get("provenance", {}))
        if problem := _misfit(potential, weights, header.get("oriented")):
            raise ValueError(f"{path}: the weights do not fit the configuration in the file: {problem}")
        potential.network.to(next(iter(weights.values())).dtype).load_state_dict(weights)
        broken = [name for name, value in weights.items() if not torch.isfinite(value).all()]
        if broken:
            raise ValueError(f"{path}: the weights {broken[0]!r} are not finite")
        return potential.requires_grad_(False).eval()


def _misfit(potential: Potential, weights: dict[str, Tensor], oriented: object) -> str | None:
    """How weights differ from those of the configuration; `oriented`: the types that had bodies when saved."""
    bodies = sorted(potential.config.bodies)
    if oriented not in (None, bodies):  # a body may be one that the shapes of the weights do not tell
        return f"they were saved with bodies of the types {oriented}, `bodies` has {bodies}"
    parts = (potential.network.state_dict(), weights)
    expected, found = ({name: tuple(value.shape) for name, value in part.items()} for part in parts)
    wrong = [name for name in expected | found if expected.get(name) != found.get(name)]
    if not wrong:
        return None
    name = next((name for name in wrong if name.startswith("frames.")), wrong[0])
    asked, given = (part.get(name, "none") for part in (expected, found))
    return f"with bodies of the types {bodies} {name!r} must have the shape {asked}, got {given}; {len(wrong)} differ"


def _symmetries(config: PotentialConfig) -> list[BodySymmetry | None] | None:
    """What the network knows of the body of each type; None without bodies."""
    if not config.bodies:
        return None
    bodies = [config.bodies.get(name) for name in config.types]
    return [
        BodySymmetry(**point_group(body.symmetry)._asdict(), sites=np.reshape(body.coordinates, (-1, 3)))
        if body
        else None
        for body in bodies
    ]


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.is_file():
        raise ValueError(f"no model file {str(path)!r}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: not a readable safetensors file ({error})") from None
    if "cgenn" not in metadata:
        raise ValueError(f"{path}: a safetensors file, but not a cgenn model (no `cgenn` entry in its header)")
    try:
        header = json.loads(metadata["cgenn"])
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: the header is damaged: {error}") from None
    parts = (
        [header.get(part, {}) for part in ("config", "priors", "provenance")] if isinstance(header, dict) else [None]
    )
    if not all(isinstance(part, dict) for part in parts):
        raise ValueError(f"{path}: the header is damaged: it does not hold named entries")
    return header, weights
