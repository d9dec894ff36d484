import pydantic
import pytest

from cgenn.config import Config


class Inner(Config):
    width: float = 1.0


class Example(Config):
    steps: int
    inner: Inner = Inner()

    @pydantic.field_validator("steps")
    @classmethod
    def _positive(cls, steps):
        if steps < 1:
            raise ValueError("expected at least 1")
        if steps > 9:
            raise ValueError(f"expected at most 9, got {steps} steps")
        return steps


def read(tmp_path, text):
    (tmp_path / "a.toml").write_text(text)
    return Example.read(tmp_path / "a.toml")


def test_toml_becomes_a_frozen_model(tmp_path):
    example = read(tmp_path, "steps = 3\n[inner]\nwidth = 2.5\n")
    assert (example.steps, example.inner.width) == (3, 2.5)
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        example.steps = 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps = 3\ncolour = 1", r"a.toml: unknown key `colour`"),
        ("steps = 3\n[inner]\nwidht = 1", r"a.toml: unknown key `inner.widht`"),
        ("", r"a.toml: `steps` is missing"),
        ("steps = 0", r"a.toml: `steps`: expected at least 1, got 0"),
        ("steps = 10", r"a.toml: `steps`: expected at most 9, got 10 steps$"),
        ("steps = 'many'", r"a.toml: `steps`: .*integer.* got 'many'"),
        ("steps = ", r"a.toml: not valid TOML"),
    ],
)
def test_mistakes_name_file_and_key(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"no file .*absent.toml"):
        Example.read(tmp_path / "absent.toml")
