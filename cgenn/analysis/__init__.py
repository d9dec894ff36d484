"""Arrays in, numbers and figures out: a mapped all-atom run and a coarse-grained run are treated alike."""

from cgenn.analysis.comparison import compare_ensembles
from cgenn.analysis.conformations import compare_surfaces, dihedral_histogram, free_energy, mirrored
from cgenn.analysis.distributions import Distribution, compare_distributions
from cgenn.analysis.ensemble import Ensemble
from cgenn.analysis.figures import series_figure, training_figure
from cgenn.analysis.radial import RadialDistributions, radial_distributions
from cgenn.analysis.report import Report, write_report
from cgenn.analysis.sections import Number, Picture, Section, Table
from cgenn.analysis.statistics import blocking_error, jensen_shannon, sampling_floor, statistical_inefficiency
from cgenn.analysis.structure import angles, dihedrals, distances

__all__ = [
    "Distribution",
    "Ensemble",
    "Number",
    "Picture",
    "RadialDistributions",
    "Report",
    "Section",
    "Table",
    "angles",
    "blocking_error",
    "compare_distributions",
    "compare_ensembles",
    "compare_surfaces",
    "dihedral_histogram",
    "dihedrals",
    "distances",
    "free_energy",
    "jensen_shannon",
    "mirrored",
    "radial_distributions",
    "sampling_floor",
    "series_figure",
    "statistical_inefficiency",
    "training_figure",
    "write_report",
]
