"""What docs/sampling.md shows is run."""

import re
from pathlib import Path

import numpy as np
import torch

PAGE = Path(__file__).parents[2] / "docs" / "sampling.md"


def test_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        exec(compile(block, str(PAGE), "exec"), names)
    assert np.isfinite(names["free_energy"]).all()
    assert ((names["reporter"].acceptance > 0) & (names["reporter"].acceptance <= 1)).all()
    assert (len(names["coldest"]), names["coldest"].temperature) == (10, 300.0)
    assert names["frames"].positions.shape == (100, 4, 3)
