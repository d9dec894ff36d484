import json

import pytest

from cgenn.files import atomic, check_apart, sha256, write_json


def test_the_final_name_appears_only_at_the_end(tmp_path):
    target = tmp_path / "folder" / "a.txt"
    with atomic(target) as temporary:
        temporary.write_text("done")
        assert not target.exists()
    assert target.read_text() == "done"
    assert [path.name for path in target.parent.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_failure_leaves_what_was_there(tmp_path, error):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def fail():
        with atomic(target) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert target.read_text() == "old"


def test_json_refuses_what_json_cannot_hold(tmp_path):
    write_json(tmp_path / "a.json", {"a": 1.5})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 1.5}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "b.json", {"a": float("nan")})
    assert not (tmp_path / "b.json").exists()


def test_sha256_of_the_standard_example(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_result_is_not_written_over_what_it_is_made_from(tmp_path):
    source = tmp_path / "a.h5"
    source.touch()
    (tmp_path / "folder").mkdir()
    check_apart(tmp_path / "b.h5", [source])
    with pytest.raises(ValueError, match=r"a.h5: this file is read here and cannot be written too"):
        check_apart(tmp_path / "folder" / ".." / "a.h5", [source])
