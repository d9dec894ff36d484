"""Arrays in, numbers and figures out: a mapped all-atom run and a coarse-grained run are treated alike."""

from cgenn.analysis.comparison import compare_ensembles
from cgenn.analysis.conformations import compare_surfaces, dihedral_histogram, free_energy, mirrored
from cgenn.analysis.dielectric import (
    dielectric_constant,
    molecular_dipoles,
    running_dielectric_constant,
    total_dipole,
)
from cgenn.analysis.distributions import Distribution, compare_distributions
from cgenn.analysis.electric_figures import charge_structure_figure, dielectric_figure, infrared_figure
from cgenn.analysis.ensemble import Ensemble
from cgenn.analysis.figures import radial_figure, series_figure, training_figure
from cgenn.analysis.infrared import InfraredSpectrum, dipole_autocorrelation, infrared_spectrum
from cgenn.analysis.ions import compare_ions
from cgenn.analysis.orientation import (
    OrientationalCorrelation,
    body_axes,
    nematic_order,
    orientational_autocorrelation,
    orientational_correlation,
    p2_deviation,
    rdf_deviation,
)
from cgenn.analysis.orientation_figures import orientation_figure
from cgenn.analysis.radial import RadialDistributions, radial_distributions
from cgenn.analysis.report import Report, write_report
from cgenn.analysis.sections import Number, Picture, Section, Table
from cgenn.analysis.statistics import blocking_error, jensen_shannon, sampling_floor, statistical_inefficiency
from cgenn.analysis.structure import angles, dihedrals, distances
from cgenn.analysis.structure_factor import StructureFactors, debye_wavenumber, screening_limit, structure_factors

__all__ = [
    "Distribution",
    "Ensemble",
    "InfraredSpectrum",
    "Number",
    "OrientationalCorrelation",
    "Picture",
    "RadialDistributions",
    "Report",
    "Section",
    "StructureFactors",
    "Table",
    "angles",
    "blocking_error",
    "body_axes",
    "charge_structure_figure",
    "compare_distributions",
    "compare_ensembles",
    "compare_ions",
    "compare_surfaces",
    "debye_wavenumber",
    "dielectric_constant",
    "dielectric_figure",
    "dihedral_histogram",
    "dihedrals",
    "dipole_autocorrelation",
    "distances",
    "free_energy",
    "infrared_figure",
    "infrared_spectrum",
    "jensen_shannon",
    "mirrored",
    "molecular_dipoles",
    "nematic_order",
    "orientation_figure",
    "orientational_autocorrelation",
    "orientational_correlation",
    "p2_deviation",
    "radial_distributions",
    "radial_figure",
    "rdf_deviation",
    "running_dielectric_constant",
    "sampling_floor",
    "screening_limit",
    "series_figure",
    "statistical_inefficiency",
    "structure_factors",
    "total_dipole",
    "training_figure",
    "write_report",
]
