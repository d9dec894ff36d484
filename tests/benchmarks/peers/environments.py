"""Environments of the competitors: packages of fixed versions, each set in a folder of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

TORCH = "torch==2.13.0"
PINS = {
    "nequip": (TORCH, "nequip==0.19.1", "e3nn==0.6.0", "vesin==0.6.2"),
    "mace": (TORCH, "mace-torch==0.3.16"),
    "torchmdnet": (TORCH, "torchmd-net==3.1.0"),
}
"""What is installed where. A CPU build of torch serves, and where pip finds one it is taken."""


def python(folder: Path, name: str, timeout: float) -> Path:
    """The interpreter of an environment, which is installed unless it is there as it should be.

    Raises:
        ValueError: if it cannot be installed within `timeout` [s], with the reason.
    """
    place, pins = folder / name, "\n".join(PINS[name])
    interpreter, written = place / "bin" / "python", place / "pins.txt"
    if written.is_file() and written.read_text() == pins:
        return interpreter
    shutil.rmtree(place, ignore_errors=True)
    try:
        for command in (
            [sys.executable, "-m", "venv", str(place)],
            [str(interpreter), "-m", "pip", "install", "--quiet", *PINS[name]],
        ):
            subprocess.run(command, capture_output=True, text=True, check=True, timeout=timeout)
    except (OSError, subprocess.SubprocessError) as error:
        shutil.rmtree(place, ignore_errors=True)
        raise ValueError(f"{', '.join(PINS[name])} could not be installed: {_reason(error)}") from None
    written.write_text(pins)
    return interpreter


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return f"it took more than {error.timeout:.0f} s"
    if isinstance(error, subprocess.CalledProcessError) and error.stderr.strip():
        return error.stderr.strip().splitlines()[-1]
    return str(error)
