"""Chains whose statistics are known."""

import numpy as np


def freely_rotating(chains: int, bonds: int, cosine: float, seed: int = 0, bond: float = 0.4) -> np.ndarray:
    """Beads of chains whose successive bonds have a given cosine and any dihedral, shape (chains, bonds + 1, 3)."""
    generator = np.random.default_rng(seed)
    axes = generator.normal(size=(bonds, chains, 3))
    axes /= np.linalg.norm(axes, axis=-1, keepdims=True)
    for i in range(1, bonds):
        across = axes[i] - np.einsum("cx,cx->c", axes[i], axes[i - 1])[:, None] * axes[i - 1]
        across /= np.linalg.norm(across, axis=-1, keepdims=True)
        axes[i] = cosine * axes[i - 1] + np.sqrt(1 - cosine**2) * across
    walk = np.cumsum(bond * axes, axis=0).transpose(1, 0, 2)
    return np.concatenate([np.zeros((chains, 1, 3)), walk], axis=1)
