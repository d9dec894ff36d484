"""Forces from configurations: what a cloud of displaced copies of the data says about the mean force.

Displace a configuration R by sigma eps, eps normal, to R' = R + sigma eps. The displaced data have their own density,
that of the ensemble blurred by sigma, and its mean force at R' has two unbiased estimates: the force F(R) that was
recorded before the displacement, and -kT eps / sigma, the score of the displacement itself (denoising score matching;
Vincent 2011). Mixed by their inverse variances they give a label with less noise than either (Durumeric et al. 2024,
arXiv 2407.01286, which has the general form with force maps).

What is learnt is the mean force of the blurred density. The blur is largest, relative to their width, in the stiff
directions: bonds, angles and dihedrals. Therefore the priors subtracted during training are fitted to the blurred
data, and those of the final model to the data themselves; only what the priors cannot express stays blurred.

So do charges and dipoles: at R' they are compared with those recorded at R, whose mean over all R that lead to R' is
what is learnt. Orientations are not displaced: at R' a torque, too, is compared with that recorded at R, whose mean
is the torque of the blurred density. Energies and virials have no such meaning there, and are not learnt with noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class NoisyLabels:
    """Displaces configurations and mixes the two estimates of the mean force.

    Attributes:
        sigma: standard deviation of a displacement along each axis [nm].
        kt: thermal energy [kJ/mol].
        force_variance: variance of a recorded force component about its mean force [(kJ/mol/nm)^2].
    """

    sigma: float
    kt: float
    force_variance: float

    @property
    def recorded_share(self) -> float:
        """Share of the recorded force in the mixture; the rest is the score's."""
        score_variance = (self.kt / self.sigma) ** 2
        return score_variance / (score_variance + self.force_variance)

    def displace(
        self,
        positions: Float[Tensor, "*frames beads 3"],
        forces: Float[Tensor, "*frames beads 3"],
        generator: torch.Generator,
    ) -> tuple[Float[Tensor, "*frames beads 3"], Float[Tensor, "*frames beads 3"]]:
        """Displaced positions [nm] and the label there [kJ/mol/nm]; `generator` makes the displacements repeatable."""
        noise = torch.randn(positions.shape, generator=generator, dtype=positions.dtype).to(positions.device)
        score = -self.kt / self.sigma * noise
        share = self.recorded_share
        return positions + self.sigma * noise, share * forces + (1 - share) * score
