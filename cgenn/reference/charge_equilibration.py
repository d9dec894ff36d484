"""Ions whose charges depend on where they are: charge equilibration with a Born-Mayer repulsion.

    E = sum_i (chi_i q_i + J_i q_i^2 / 2) + sum_(i<j) q_i q_j erf(r / 2 sigma) / r + sum_(i<j) A_ij exp(-r / rho)

over all images, at the charges that minimise it for a total of zero (Rappe and Goddard 1991, doi 10.1021/j100161a070).
The species and their numbers are chosen by this project; see docs/ion-models.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cgenn.reference.ions import Ions

_TOLERANCE = 1e-12


@dataclass(frozen=True)
class EquilibratedIons:
    """Two species, a cation (type 0) and an anion (type 1).

    Attributes:
        electronegativity: chi of each type; only the difference matters [kJ/mol/e].
        hardness: J of each type, self-repulsion of the charge included [kJ/mol/e^2].
        smearing: sigma of the Gaussian charges [nm].
        repulsion: A of cation-cation, cation-anion and anion-anion pairs [kJ/mol].
        softness: rho of the repulsion [nm].
    """

    electronegativity: tuple[float, float] = (0.0, 5600.0)
    hardness: tuple[float, float] = (4000.0, 4000.0)
    smearing: float = 0.1
    repulsion: tuple[float, float, float] = (0.0, 6.0e4, 0.0)
    softness: float = 0.032

    def charges(self, ions: Ions) -> Float[Tensor, " ions"]:
        """The charges that minimise the energy and add up to zero in each frame [e].

        (J + Coulomb) q + chi = mu, solved by conjugate gradients among the charges that add up to zero.

        Raises:
            ValueError: if there is no minimum, because the charges gain more from each other than their hardness costs.
        """
        hardness = ions.positions.new_tensor(self.hardness)[ions.types]
        counts = torch.bincount(ions.batch)

        def neutral(values: Tensor) -> Tensor:
            return values - (ions.sum_ions(values) / counts)[ions.batch]

        def potential(charges: Tensor) -> Tensor:
            with torch.enable_grad():
                q = charges.detach().requires_grad_()
                (coulomb,) = torch.autograd.grad(ions.coulomb(q).sum(), q)
            return neutral(hardness * charges + coulomb)

        chi = neutral(ions.positions.new_tensor(self.electronegativity)[ions.types])
        charges, residual = torch.zeros_like(chi), -chi
        direction, size = residual, ions.sum_ions(residual.square())
        limit = _TOLERANCE**2 * size.clamp(min=1e-300)
        for _ in range(10 * len(counts) + 200):
            if bool((size <= limit).all()):
                return neutral(charges)
            response = potential(direction)
            curvature = ions.sum_ions(direction * response)
            if bool((curvature[size > limit] <= 0).any()):
                break
            step = torch.where(size > limit, size / curvature, torch.zeros_like(size))
            charges = charges + step[ions.batch] * direction
            residual = residual - step[ions.batch] * response
            previous, size = size, ions.sum_ions(residual.square())
            direction = residual + (size / previous.clamp(min=1e-300))[ions.batch] * direction
        raise ValueError(
            f"the charges have no minimum: a hardness of {self.hardness} kJ/mol/e^2 is too small for these distances"
        )

    def energy(self, ions: Ions, charges: Float[Tensor, " ions"]) -> Float[Tensor, " systems"]:
        """Of given charges [kJ/mol]."""
        chi, hardness = (
            ions.positions.new_tensor(values)[ions.types] for values in (self.electronegativity, self.hardness)
        )
        kinds = ions.types[ions.pairs.receivers] + ions.types[ions.pairs.senders]
        strength = ions.positions.new_tensor(self.repulsion)[kinds]
        own = ions.sum_ions(chi * charges + 0.5 * hardness * charges.square())
        return own + ions.coulomb(charges) + ions.sum_pairs(strength * torch.exp(-ions.distances() / self.softness))
