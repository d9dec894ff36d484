import pytest

from cgenn.mapping.definition import MappingDefinition
from cgenn.mapping.mapping import Mapping


def build(atoms, tables, **entries):
    beads = [{"name": f"B{number}", "atoms": table} for number, table in enumerate(tables)]
    return Mapping.build(MappingDefinition.parse({"beads": beads, **entries}, "test"), atoms)


def test_beads_by_residue(ala2):
    mapping = build(ala2, [{"ACE": "CH3 C O", "NME": "N C", "ALA": "N CA C O"}, {"ALA ABA": "CB"}])
    assert mapping.topology.types == ("ACE-B0", "ALA-B0", "ALA-B1", "NME-B0")
    assert mapping.owners.sum(axis=1).tolist() == [6, 6, 4, 6]
    assert mapping.topology.masses.sum() == pytest.approx(ala2.masses.sum())


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (
            [{"ACE": "CH3 C O", "ALA": "N CA CB C O"}],
            "6 atoms belong to no bead: NME3-N .*; residue NME3 has no template, there are some for ACE, ALA; if this",
        ),
        ([{"ALA": "N CA CG"}], "bead 'B0': residue ALA2 has no atom 'CG', which its template names"),
        ([{"GLY": "CA"}], "bead 'B0': no residue has a template, which are for GLY"),
        (
            [{"ALA": "N C"}],
            r"bead 'B0': its atoms are in 2 pieces that no bond joins, ALA2-N .* and ALA2-C \(atom 14\)",
        ),
        ([{}], "`beads.0.atoms`"),
    ],
)
def test_mistakes_are_named(ala2, tables, message):
    with pytest.raises(ValueError, match=message):
        build(ala2, tables)
