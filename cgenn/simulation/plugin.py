"""`MLPotential("cgenn", modelPath=...)`: what openmmml finds through the entry points of the package.

openmmml loads this when it is itself imported, so that nothing is imported here before a potential is asked for.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cgenn.simulation.mlpotential import BeadPotential


class BeadPotentialFactory:
    """An MLPotentialImplFactory of openmmml."""

    def createImpl(self, name: str, modelPath: str | Path | None = None, **args: Any) -> BeadPotential:
        """The potential in a model file.

        Raises:
            ValueError: if there is no model file, or an argument is unknown.
        """
        from cgenn.potential.potential import Potential
        from cgenn.simulation.mlpotential import BeadPotential

        if modelPath is None:
            raise ValueError(f"the path of a model is missing: MLPotential({name!r}, modelPath='model.safetensors')")
        if args:
            raise ValueError(f"MLPotential({name!r}) knows only the argument `modelPath`, got {', '.join(args)}")
        return BeadPotential(Potential.load(modelPath))
