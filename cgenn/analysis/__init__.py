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
from cgenn.analysis.dynamics import Diffusion, diffusion, mean_square_displacement, unwrapped
from cgenn.analysis.electric_figures import charge_structure_figure, dielectric_figure, infrared_figure
from cgenn.analysis.ensemble import Ensemble
from cgenn.analysis.figures import radial_figure, series_figure, training_figure
from cgenn.analysis.infrared import InfraredSpectrum, dipole_autocorrelation, infrared_spectrum
from cgenn.analysis.ions import compare_ions
from cgenn.analysis.kinetics import SlowCoordinates, implied_timescales, slow_coordinates
from cgenn.analysis.membranes import (
    area_per_lipid,
    bilayer_centre,
    bond_order,
    density_profile,
    from_centre,
    in_place,
    leaflets,
    thickness,
)
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
from cgenn.analysis.polymers import (
    bond_correlations,
    end_to_end_distance,
    form_factor,
    persistence_length,
    radius_of_gyration,
)
from cgenn.analysis.proteins import in_contact, native_contacts, native_pairs, rmsd, secondary_structure
from cgenn.analysis.radial import RadialDistributions, radial_distributions
from cgenn.analysis.report import Report, write_report
from cgenn.analysis.sections import Number, Picture, Section, Table
from cgenn.analysis.statistics import (
    BlockAverages,
    Estimate,
    blocking_error,
    jensen_shannon,
    sampling_floor,
    statistical_inefficiency,
)
from cgenn.analysis.structure import angles, dihedrals, distances
from cgenn.analysis.structure_factor import StructureFactors, debye_wavenumber, screening_limit, structure_factors

__all__ = [
    "BlockAverages",
    "Diffusion",
    "Distribution",
    "Ensemble",
    "Estimate",
    "InfraredSpectrum",
    "Number",
    "OrientationalCorrelation",
    "Picture",
    "RadialDistributions",
    "Report",
    "Section",
    "SlowCoordinates",
    "StructureFactors",
    "Table",
    "angles",
    "area_per_lipid",
    "bilayer_centre",
    "blocking_error",
    "body_axes",
    "bond_correlations",
    "bond_order",
    "charge_structure_figure",
    "compare_distributions",
    "compare_ensembles",
    "compare_ions",
    "compare_surfaces",
    "debye_wavenumber",
    "density_profile",
    "dielectric_constant",
    "dielectric_figure",
    "diffusion",
    "dihedral_histogram",
    "dihedrals",
    "dipole_autocorrelation",
    "distances",
    "end_to_end_distance",
    "form_factor",
    "free_energy",
    "from_centre",
    "implied_timescales",
    "in_contact",
    "in_place",
    "infrared_figure",
    "infrared_spectrum",
    "jensen_shannon",
    "leaflets",
    "mean_square_displacement",
    "mirrored",
    "molecular_dipoles",
    "native_contacts",
    "native_pairs",
    "nematic_order",
    "orientation_figure",
    "orientational_autocorrelation",
    "orientational_correlation",
    "p2_deviation",
    "persistence_length",
    "radial_distributions",
    "radial_figure",
    "radius_of_gyration",
    "rdf_deviation",
    "rmsd",
    "running_dielectric_constant",
    "sampling_floor",
    "screening_limit",
    "secondary_structure",
    "series_figure",
    "slow_coordinates",
    "statistical_inefficiency",
    "structure_factors",
    "thickness",
    "total_dipole",
    "training_figure",
    "unwrapped",
    "write_report",
]
