"""Charges that add up to stated totals."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor


def neutralise(
    raw: Float[Tensor, " beads"],
    weights: Float[Tensor, " beads"],
    groups: Int[Tensor, " beads"],
    totals: Float[Tensor, " groups"],
) -> Float[Tensor, " beads"]:
    """Charges q~ changed so that each group has its total [e].

    q = q~ + f (Q - sum q~) / sum f, sums over the group (neural spin equilibration, Zubatyuk et al., Nat. Commun.
    12, 4870, 2021, of one spin, as in AIMNet2; Anstine, Zubatyuk and Isayev 2025).

    Args:
        raw: q~ [e].
        weights: f >= 0, how readily a bead takes up the rest.
        groups: group of each bead, 0 to groups - 1.
        totals: Q of each group [e].

    Raises:
        ValueError: if there is no total for a group, or the weights of a group add up to zero.
    """
    if len(groups) and int(groups.max()) >= len(totals):
        raise ValueError(f"there are {len(totals)} total charges but a bead belongs to group {int(groups.max())}")
    given = torch.zeros_like(totals).index_add(0, groups, raw)
    share = torch.zeros_like(totals).index_add(0, groups, weights)
    present = torch.bincount(groups, minlength=len(totals)) > 0
    stuck = (present & (share <= 0)).nonzero()  # weights that are not finite are found where the energy is
    if len(stuck):
        raise ValueError(f"the charges of group {int(stuck[0, 0])} cannot be neutralised: its weights add up to zero")
    missing = (totals - given) / torch.where(present, share, torch.ones_like(share))
    return raw + weights * missing.index_select(0, groups)


def charge_groups(groups: Sequence[Sequence[int]], n_beads: int) -> Int[Tensor, " beads"]:
    """The group of each bead, from the beads of each group: what `BeadTopology.build(residue_index=...)` takes.

    Raises:
        ValueError: if a group is empty, a bead is in two groups, in none, or does not exist.
    """
    owner = torch.full((n_beads,), -1, dtype=torch.int64)
    for number, beads in enumerate(groups):
        if not len(beads):
            raise ValueError(f"charge group {number} is empty")
        for bead in beads:
            if not 0 <= bead < n_beads:
                raise ValueError(f"charge group {number} names bead {bead}, but there are {n_beads} beads")
            if owner[bead] >= 0:
                raise ValueError(f"bead {bead} is in charge groups {int(owner[bead])} and {number}")
            owner[bead] = number
    alone = (owner < 0).nonzero()
    if len(alone):
        raise ValueError(f"bead {int(alone[0, 0])} is in no charge group")
    return owner
