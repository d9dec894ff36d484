import json

import openmm
import pytest

from cgenn.reference import run, system


def forces_and_energy(system, positions):
    """Of a System on the Reference platform [kJ/mol/nm], [kJ/mol]."""
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    context.setPositions(positions)
    state = context.getState(energy=True, forces=True)
    return state.getForces(asNumpy=True)._value, state.getPotentialEnergy()._value


@pytest.fixture(scope="session")
def vacuum():
    return system.load_system("alanine-dipeptide-vacuum")


@pytest.fixture(scope="session")
def vacuum_run(vacuum, tmp_path_factory):
    """Alanine dipeptide in vacuum, 200 frames in 400 ps."""
    folder = tmp_path_factory.mktemp("reference") / "vacuum"
    return run.run_reference(vacuum, folder, length=400.0, interval=2.0, equilibration=20.0, progress=False)


@pytest.fixture
def own_system(vacuum, tmp_path):
    """Writes a copy of alanine dipeptide in vacuum with some entries of `system.toml` replaced."""

    def make(name="own", **entries):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "structure.pdb").write_text((vacuum.folder / "structure.pdb").read_text())
        given = vacuum.definition.model_dump(exclude_none=True) | entries
        lines = []
        for key, value in given.items():
            lines.append(f"{key} = {json.dumps(value)}")
        (folder / "system.toml").write_text("\n".join(lines))
        return folder

    return make
