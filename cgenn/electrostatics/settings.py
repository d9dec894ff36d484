"""How a Coulomb sum is computed, and how its parameters follow from a requested accuracy."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Method = Literal["open", "ewald", "pme"]

PME_FROM = {False: 50, True: 200}
"""Without and with dipoles: beads from which on the mesh is quicker than the plain sum over wave vectors."""

_ORDERS = {False: ((1e-6, 5), (0.0, 6)), True: ((1e-5, 6), (0.0, 8))}
"""Without and with dipoles: down to which error to use splines of which order."""
_MESH_ERRORS = {False: {5: 0.05, 6: 0.03}, True: {6: 0.045, 8: 0.017}}
"""c_p, measured for salts, gases and tilted cells."""

_CUTOFFS = tuple(1.5 * 1.05**step for step in range(40))
_FAR_TIME = {"ewald": 30.0, "pme": 12.0}
"""Of each pair of bead and wave vector, and each point of the mesh [ns]."""
_LARGEST = 5e8


@dataclass(frozen=True)
class CoulombSettings:
    """The method of a Coulomb sum and its parameters.

    Attributes:
        method: "open" sums all pairs of systems without a cell; "ewald" and "pme" are periodic.
        cutoff: of the sum in real space [nm].
        alpha: splits 1/r into erfc(alpha r)/r and erf(alpha r)/r [1/nm].
        k_cutoff: longest wave vector of "ewald" [1/nm].
        mesh: points along the three cell vectors, and
        order: of the splines of "pme".
        smearing: width sigma of the charges [nm]; they interact as q q erf(r / (2 sigma)) / r. 0: points.
        slab: whether the third direction, along z, is not periodic but has vacuum in the cell.
    """

    method: Method
    cutoff: float = math.inf
    alpha: float = 0.0
    k_cutoff: float = 0.0
    mesh: tuple[int, int, int] | None = None
    order: int = 5
    smearing: float = 0.0
    slab: bool = False


def tune(
    cell: Float[Tensor, "systems 3 3"] | Float[Tensor, "3 3"] | None,
    n_beads: int,
    *,
    accuracy: float = 1e-4,
    cutoff: float | None = None,
    smearing: float = 0.0,
    slab: bool = False,
    dipoles: bool = False,
    method: Method | None = None,
) -> CoulombSettings:
    """Parameters with which the rms error of the forces, relative to their rms, is about `accuracy`.

    The rms force is taken as q^2 / 2 d^2, with the rms charge q and the distance d = (V/N)^(1/3) between beads (in rock
    salt with thermal motion, where forces largely cancel, it is 1.5 times that). Relative to q^2 / d^2 the estimates
    of Kolafa and Perram (Mol. Simul. 9, 351, 1992) for the truncation in real and in reciprocal space are

        2 d^(1/2) cutoff^(-1/2) exp(-alpha^2 cutoff^2)   and
        2 alpha d^(1/2) (2 / k_cutoff)^(1/2) exp(-k_cutoff^2 / 4 alpha^2).

    Splines of order p on a mesh of spacing h are wrong by c_p (alpha h)^p (alpha d)^2, mostly the force of a bead on
    itself, with measured c_p; with dipoles the power is p - 1, and (for up to about q d / 3) all estimates are doubled.
    Where nothing is said, the cutoff is the one that is quickest.

    Args:
        cell: cell vectors as rows [nm], of one system or of several that share the parameters; None: open.
        n_beads: beads in one system.
        accuracy: requested relative rms error of the forces. That of single precision itself is about 2e-6.
        cutoff: in real space [nm]; chosen when None. May be longer than the cell: images are counted.
        smearing: width of the charges [nm].
        slab: the third cell vector is along z and mostly vacuum.
        dipoles: the beads have dipoles too.
        method: chosen when None.

    Raises:
        ValueError: for an accuracy outside 1e-12 ... 0.1 or beyond memory, a cutoff that is not positive or too short
            for `smearing`, a method that does not fit the cell, a slab without a cell or whose third vector is not
            along z.
    """
    _check(cell, n_beads, accuracy, cutoff, smearing, slab, method)
    if cell is None:
        return CoulombSettings("open", smearing=smearing)
    cells = cell.detach().to("cpu", torch.float64).reshape(-1, 3, 3)
    nearest = smearing_range(smearing, accuracy)
    if cutoff is not None and cutoff < nearest:
        raise ValueError(
            f"a smearing of {smearing} nm needs a cutoff of at least {nearest:.3f} nm "
            f"for an accuracy of {accuracy:g}, got {cutoff} nm"
        )
    spacing = float((torch.linalg.det(cells).abs().min() / n_beads) ** (1 / 3))
    method = method or ("ewald" if n_beads < PME_FROM[dipoles] else "pme")
    cutoffs = [cutoff] if cutoff else [max(nearest, spacing * ratio) for ratio in _CUTOFFS]
    share = (0.25 if dipoles else 0.5) * accuracy / math.sqrt(2)
    trials = [_tuned(cells, spacing, each, method, share, dipoles) for each in cutoffs]
    best = min(trials, key=lambda trial: _cost(trial, cells, n_beads, dipoles))
    if _size(best, cells, n_beads) > _LARGEST:
        raise ValueError(
            f"an accuracy of {accuracy:g} with method {method!r} and a cutoff of {best.cutoff:.2f} nm takes arrays of "
            f"{_size(best, cells, n_beads):.1e} numbers; ask for less, a longer cutoff, or method 'pme'"
        )
    return replace(best, smearing=smearing, slab=slab)


def _tuned(
    cells: Tensor, spacing: float, cutoff: float, method: Method, share: float, dipoles: bool
) -> CoulombSettings:
    """With this cutoff, errors of `share` in real and in reciprocal space."""
    alpha = _decay(share / (2 * math.sqrt(spacing / cutoff))) / cutoff
    if method == "ewald":
        return CoulombSettings("ewald", cutoff, alpha, _k_cutoff(alpha, spacing, share))
    order = next(order for least, order in _ORDERS[dipoles] if share > least)
    step = (share / (_MESH_ERRORS[dipoles][order] * (alpha * spacing) ** 2)) ** (1 / (order - dipoles)) / alpha
    x, y, z = (_smooth(max(edge / step, 2.0 * order)) for edge in cells.norm(dim=2).amax(0).tolist())
    return CoulombSettings("pme", cutoff, alpha, mesh=(x, y, z), order=order)


def _smooth(points: float) -> int:
    """The next even number without prime factors above 7, for which Fourier transforms are quick."""
    size = 2 * math.ceil(points / 2)
    while not math.isclose(math.gcd(size, 2**20 * 3**12 * 5**8 * 7**7), size):
        size += 2
    return size


def _size(settings: CoulombSettings, cells: Tensor, n_beads: int) -> float:
    """Points of the mesh, or wave vectors for each bead."""
    if settings.mesh is not None:
        return math.prod(settings.mesh)
    return n_beads * settings.k_cutoff**3 * float(torch.linalg.det(cells).abs().max()) / (12 * math.pi**2)


def _cost(settings: CoulombSettings, cells: Tensor, n_beads: int, dipoles: bool) -> float:
    """Time of energy and forces [ns], as measured on one core."""
    pairs = 2 / 3 * math.pi * settings.cutoff**3 * n_beads**2 / float(torch.linalg.det(cells).abs().max())
    fused = settings.method == "pme" and not dipoles
    return (40.0 if fused else 120.0) * pairs + _FAR_TIME[settings.method] * _size(settings, cells, n_beads)


def smearing_range(smearing: float, accuracy: float) -> float:
    """Distance beyond which smeared charges interact as points, to `accuracy` [nm]."""
    return 2 * smearing * _decay(accuracy)


def _decay(error: float) -> float:
    """x with exp(-x^2) = error."""
    return math.sqrt(max(-math.log(error), 1.0))


def _k_cutoff(alpha: float, spacing: float, share: float) -> float:
    """Solves the estimate in reciprocal space by iteration (the root varies slowly)."""
    k_cutoff = 2 * alpha * _decay(share)
    for _ in range(20):
        k_cutoff = 2 * alpha * _decay(share / (2 * alpha * math.sqrt(2 * spacing / k_cutoff)))
    return k_cutoff


def _check(
    cell: Tensor | None,
    n_beads: int,
    accuracy: float,
    cutoff: float | None,
    smearing: float,
    slab: bool,
    method: Method | None,
) -> None:
    if n_beads < 1:
        raise ValueError(f"`n_beads` must be at least 1, got {n_beads}")
    if not 1e-12 <= accuracy <= 0.1:
        raise ValueError(f"`accuracy` must be between 1e-12 and 0.1, got {accuracy:g}")
    if cutoff is not None and not cutoff > 0:
        raise ValueError(f"`cutoff` must be positive, got {cutoff} nm")
    if not smearing >= 0:
        raise ValueError(f"`smearing` must not be negative, got {smearing} nm")
    if method not in (None, "open", "ewald", "pme"):
        raise ValueError(f"`method` must be 'open', 'ewald' or 'pme', got {method!r}")
    if cell is None:
        if method not in (None, "open"):
            raise ValueError(f"method {method!r} needs a cell")
        if slab:
            raise ValueError("a slab needs a cell that is periodic along x and y")
        return
    if method == "open":
        raise ValueError("method 'open' is for systems without a cell, got one")
    cells = cell.detach().to("cpu", torch.float64).reshape(-1, 3, 3)
    for number, vectors in enumerate(cells):
        if not vectors.det().abs() > 1e-9:
            raise ValueError(f"the cell of system {number} has no volume: {vectors.tolist()} nm")
        off_axis = torch.cat([vectors[2, :2], vectors[:2, 2]]).abs().max()
        if slab and off_axis > 1e-6 * vectors.abs().max():
            raise ValueError(
                f"a slab needs its first two cell vectors in the xy plane and the third along z, "
                f"system {number} has {vectors.tolist()} nm"
            )
