import pytest

from cgenn import shipped


def test_the_promised_mappings_are_there():
    promised = {"residue-com", "molecule-com", "ca", "ca-sidechain", "backbone", "water"}
    assert promised <= set(shipped.names("mappings"))


@pytest.mark.parametrize("kind", ["mappings", "systems", "workflows"])
def test_everything_named_is_found(kind):
    for name in shipped.names(kind):
        assert shipped.find(kind, name).exists()


def test_a_path_is_found_as_it_is(tmp_path):
    (tmp_path / "mine.toml").touch()
    assert shipped.find("mappings", tmp_path / "mine.toml") == tmp_path / "mine.toml"


def test_a_wrong_name_lists_the_right_ones():
    with pytest.raises(ValueError, match=r"no mapping 'resdue-com': expected a path or one of .*residue-com"):
        shipped.find("mappings", "resdue-com")


def test_a_name_comes_before_a_folder_called_like_it(tmp_path, monkeypatch):
    """As after `cgenn reference villin --out villin`."""
    monkeypatch.chdir(tmp_path)
    for name in ("villin", "demo"):
        (tmp_path / name).mkdir()
    assert shipped.find("systems", "villin") == shipped.folder("systems") / "villin"
    assert shipped.find("systems", "./villin").samefile(tmp_path / "villin")
    assert shipped.find("workflows", "demo") == shipped.folder("workflows") / "demo.py"
    with pytest.raises(ValueError, match=r"no workflow '\./demo'"):
        shipped.find("workflows", "./demo")
