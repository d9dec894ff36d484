"""What a short simulation says about a potential, let into its priors: distributions within molecules, and pressure."""

from cgenn.refinement.features import features, moved_priors, newton_step
from cgenn.refinement.pairs import match_pairs
from cgenn.refinement.pressure import match_pressure
from cgenn.refinement.refine import refine, score

__all__ = ["features", "match_pairs", "match_pressure", "moved_priors", "newton_step", "refine", "score"]
