"""Runs a potential in OpenMM, into a folder that the same call continues after a kill.

Folder: topology.pdb (the first frame), trajectory.h5 (a bead dataset), state.csv, checkpoint.chk, run.json, and
dipole.csv, trajectory.dcd or .xtc where asked for.

A checkpoint is loaded again as soon as it is written, and the neighbour lists are forgotten: what follows is then the
same, whether the run goes on or is killed and continued. On the Reference platform it is the same to the last bit,
except for "membrane" and "area": OpenMM's checkpoints do not hold the state of that barostat, which starts anew.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch  # isort: skip  (before openmm, see backends.py)
import openmm
import openmm.app
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from cgenn.files import atomic
from cgenn.potential.potential import Potential
from cgenn.simulation.backends import choose_backend
from cgenn.simulation.bonded import EXPLICIT_PAIRS
from cgenn.simulation.config import SimulationConfig
from cgenn.simulation.folder import Run, RunFolder, model_digest
from cgenn.simulation.force import LearnedForce
from cgenn.simulation.mechanics import check_turns
from cgenn.simulation.moments import BeadMoments
from cgenn.simulation.orientation_sites import site_topology
from cgenn.simulation.reporters import DipoleReporter, H5MDReporter, StateReporter
from cgenn.simulation.rigid import CONSTRAINT_TOLERANCE, RigidBeads
from cgenn.simulation.start import Start, StartSource
from cgenn.simulation.system import assemble
from cgenn.simulation.transfer import beyond_training
from cgenn.simulation.watch import Watch
from cgenn.threads import torch_threads
from cgenn.topology import BeadTopology

log = logging.getLogger(__name__)

BAROSTAT_INTERVAL = 25
BAROSTATS = ("npt", "membrane", "area")
"""Ensembles whose box changes."""
_REFRESH = 0.5


def simulate(
    potential: Potential | str | Path,
    start: StartSource,
    config: SimulationConfig,
    out: str | Path,
    *,
    progress: bool = True,
) -> Run:
    """Simulate beads, or continue a run that was interrupted; a finished run is only opened.

    Args:
        potential: a potential or the path of its file.
        start: path of a bead dataset, from which frames are drawn; or (topology, positions), (topology, positions,
            box) or (topology, positions, box, orientations), positions and box in nm, orientations as unit quaternions
            (w, x, y, z).
        config: settings. More `steps` than before extend a finished run; anything else must stay as it was.
        out: the run's folder.
        progress: show a bar.

    Raises:
        ValueError: if the settings do not fit the model or the start, the time step is far too long for the lightest
            axis of an oriented bead, or `out` holds another run.
        SimulationError: if the simulation blows up, naming step, bead and term; the last checkpoint is kept.
    """
    potential = potential if isinstance(potential, Potential) else Potential.load(potential)
    config.check_cutoff(potential.config.cutoff)
    origin = Start.read(start, config.replicas, config.seed, potential.config.bodies)
    if config.dipole_interval is not None and potential.config.electrostatics is None:
        raise ValueError("`dipole_interval` is given, but the potential has no electrostatics")
    electric = potential.config.electrostatics
    if config.ensemble in ("npt", "membrane") and electric and electric.slab:
        raise ValueError(
            f'ensemble "{config.ensemble}" would squeeze the vacuum of a slab: use "nvt", or a barostat of your own'
        )
    if config.ensemble in BAROSTATS and origin.box is None:
        raise ValueError(f'ensemble "{config.ensemble}" needs a box, but the start has none')
    temperature = config.temperature or potential.config.temperature
    potential = potential.at_data_temperature(temperature)
    advice = check_turns(origin.topology, config.timestep, temperature)
    for said in (advice, *beyond_training(potential, origin.topology, temperature, periodic=origin.box is not None)):
        if said is not None:
            log.warning("%s", said)
    listed = origin.box is None and len(origin.topology) <= EXPLICIT_PAIRS
    platform, properties = choose_platform(config, "Reference" if listed else "CPU")
    unused = {name for name in ("store", "tension") if not getattr(config, name)}
    settings = {
        **config.model_dump(exclude={"steps", "formats", "cutoff", "threads"} | unused),
        "temperature": temperature,
        "platform": platform.getName(),
        "model_sha256": model_digest(potential),
        "start_sha256": origin.digest,
    }
    folder = RunFolder.claim(Path(out), settings)
    if not folder.is_done(config.steps):
        driver = _Driver.build(potential, origin, config, temperature, platform, properties, folder, advice)
        with torch_threads(config.threads):
            driver.drive(progress)
    folder.export(config.formats)
    return Run.open(out)


def choose_platform(config: SimulationConfig, without_gpu: str = "CPU") -> tuple[openmm.Platform, dict[str, str]]:
    """The platform and its properties; `without_gpu` is what "auto" means where there is no GPU.

    On small molecules, whose pairs are listed one by one, the threads of the CPU platform cost more than they help.

    Raises:
        ValueError: if it is not there.
    """
    names = [openmm.Platform.getPlatform(i).getName() for i in range(openmm.Platform.getNumPlatforms())]
    name: str = config.platform
    if name == "auto":
        name = "CUDA" if "CUDA" in names and torch.cuda.is_available() and config.device != "cpu" else without_gpu
    if name not in names:
        raise ValueError(f"platform {name!r} is not available here, expected one of {', '.join(names)}")
    properties = {}
    if name in ("CUDA", "OpenCL", "HIP"):
        properties["Precision"] = "double" if config.precision == "double" else "mixed"
        if ":" in config.device:
            properties["DeviceIndex"] = config.device.split(":")[1]
    return openmm.Platform.getPlatform(name), properties


def make_barostat(config: SimulationConfig, temperature: float) -> openmm.Force:
    """That of the ensemble: of a membrane across z, whose height "area" keeps, in vacuum, without pressure."""
    if config.ensemble == "npt":
        barostat = openmm.MonteCarloBarostat(config.pressure, temperature, BAROSTAT_INTERVAL)
    else:
        kind, free = openmm.MonteCarloMembraneBarostat, config.ensemble == "membrane"
        barostat = kind(
            config.pressure if free else 0.0, config.tension, temperature,
            kind.XYIsotropic, kind.ZFree if free else kind.ZFixed, BAROSTAT_INTERVAL,
        )  # fmt: skip
    barostat.setRandomNumberSeed(config.seed + 1)  # OpenMM takes 0 for "any"
    return barostat


@dataclass
class _Driver:
    """A simulation on its way, and what it writes."""

    simulation: openmm.app.Simulation
    learned: LearnedForce
    moments: BeadMoments | None
    watch: Watch
    config: SimulationConfig
    folder: RunFolder
    topology: BeadTopology
    temperature: float

    @classmethod
    def build(
        cls,
        potential: Potential,
        origin: Start,
        config: SimulationConfig,
        temperature: float,
        platform: openmm.Platform,
        properties: dict[str, str],
        folder: RunFolder,
        advice: str | None,
    ) -> _Driver:
        """Set everything up as at the start, or as at the last checkpoint if there is one."""
        system, beads, learned = assemble(
            potential, origin.topology, box=origin.box, replicas=config.replicas, backend=config.backend,
            precision=config.precision, device=config.device, removeCMMotion=config.ensemble != "nve",
        )  # fmt: skip
        if config.ensemble in BAROSTATS:
            system.addForce(make_barostat(config, temperature))
        simulation = openmm.app.Simulation(
            site_topology(beads, RigidBeads.of(beads)), system,
            _integrator(config, temperature, rigid=learned.rigid is not None), platform, properties,
        )  # fmt: skip
        watch = Watch(config.report_interval, potential, origin.topology, learned, origin.positions, advice)
        moments = BeadMoments.of(potential, origin.topology, learned)
        driver = cls(simulation, learned, moments, watch, config, folder, origin.topology, temperature)
        if folder.checkpoint.exists():
            driver._load(folder.checkpoint.read_bytes())
        else:
            driver._begin(origin)
        folder.describe(potential, choose_backend(config.backend), platform.getName())
        return driver

    def _begin(self, origin: Start) -> None:
        self.folder.write_topology(origin)
        if self.moments is not None:
            self.moments.announce_slab(origin.particles, origin.box)
        context = self.simulation.context
        context.setPositions(origin.particles.reshape(-1, 3))
        with self._explained():
            if self.config.minimize:
                openmm.LocalEnergyMinimizer.minimize(context)
            context.setVelocitiesToTemperature(self.temperature, self.config.seed + 1)
        context.setStepCount(-self.config.equilibration)
        context.setTime(-self.config.equilibration * self.config.timestep)

    def drive(self, progress: bool) -> None:
        """Go on to the last step."""
        simulation, config = self.simulation, self.config
        with ExitStack() as stack:
            reporters = self._open_reporters(stack)
            simulation.reporters = [self.watch, *reporters]
            show = stack.enter_context(_progress(config, simulation.currentStep, progress))
            started, before = time.monotonic(), self.folder.entries["seconds"]
            pace = _Pace()
            while simulation.currentStep < config.steps:
                boundary = (simulation.currentStep // config.checkpoint_steps + 1) * config.checkpoint_steps
                boundary = min(boundary, config.steps)
                while simulation.currentStep < boundary:
                    with self._explained(), pace.measure() as chunk:
                        simulation.step(min(chunk, boundary - simulation.currentStep))
                    show(simulation.currentStep)
                for reporter in reporters:
                    reporter.flush()
                self._save(before + time.monotonic() - started)
        self.folder.finish(config)

    def _open_reporters(self, stack: ExitStack) -> list[H5MDReporter | StateReporter | DipoleReporter]:
        """Those that write files, cut back to the checkpoint."""
        config, done = self.config, max(self.simulation.currentStep, 0)
        reports = done // config.report_interval
        frames = H5MDReporter(
            self.folder.trajectory, config.report_interval, self.topology, temperature=self.temperature,
            periodic=self.learned.periodic, replicas=config.replicas, moments=self.moments, append=reports > 0,
            velocities="velocities" in config.store, forces="forces" in config.store,
            provenance={"simulation": self.folder.entries["settings"]},
            flushed=config.checkpoint_steps // config.report_interval,
        )  # fmt: skip
        stack.push(lambda kind, *_: frames.close(discard=kind is not None))
        if reports:
            frames.file.truncate(reports * config.replicas)
            self.folder.cut(self.folder.states, reports)
        rows = StateReporter(
            self.folder.states, config.report_interval, moments=self.moments, rigid=self.learned.rigid,
            append=reports > 0,
        )  # fmt: skip
        stack.callback(rows.close)
        if config.dipole_interval is None or self.moments is None:
            return [frames, rows]
        reports = done // config.dipole_interval
        if reports:
            self.folder.cut(self.folder.dipoles, reports * config.replicas)
        dipoles = DipoleReporter(
            self.folder.dipoles, config.dipole_interval, self.moments, periodic=self.learned.periodic,
            replicas=config.replicas, append=reports > 0,
        )  # fmt: skip
        stack.callback(dipoles.close)
        return [frames, rows, dipoles]

    def _save(self, seconds: float) -> None:
        checkpoint = self.simulation.context.createCheckpoint()
        with atomic(self.folder.checkpoint) as temporary:
            temporary.write_bytes(checkpoint)
        self.folder.note(self.simulation.currentStep, seconds)
        self._load(checkpoint)

    def _load(self, checkpoint: bytes) -> None:
        context = self.simulation.context
        context.loadCheckpoint(checkpoint)
        self.learned.forget()
        if self.config.ensemble == "npt" and context.getPlatform().getName() == "Reference":
            # The checkpoint does not hold the random numbers and the step size of the barostat: start them anew.
            for force in self.simulation.system.getForces():
                if isinstance(force, openmm.MonteCarloBarostat):
                    force.setRandomNumberSeed((self.config.seed + context.getStepCount()) % 2**31 + 1)
            context.reinitialize(preserveState=True)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what OpenMM makes of an exception in the learned force back into that exception, or say what broke."""
        self.learned.error = None
        try:
            yield
        except openmm.OpenMMException as error:
            cause = self.learned.error
            if isinstance(cause, KeyboardInterrupt) or (cause is None and _interrupted(str(error))):
                raise KeyboardInterrupt from None
            if cause is None or isinstance(cause, (ArithmeticError, ValueError)):
                raise self.watch.explain(self.simulation, str(cause or error)) from (cause or error)
            raise cause from error


def _interrupted(message: str) -> bool:
    """Whether this is what OpenMM makes of a Ctrl-C just before or after the learned force: no text, or its name."""
    return message.strip() in ("", "<NULL>") or "KeyboardInterrupt" in message


def _integrator(config: SimulationConfig, temperature: float, rigid: bool) -> openmm.Integrator:
    integrator: openmm.Integrator = openmm.VerletIntegrator(config.timestep)
    if config.ensemble != "nve":
        integrator = openmm.LangevinMiddleIntegrator(temperature, config.friction, config.timestep)
        integrator.setRandomNumberSeed(config.seed + 1)  # OpenMM takes 0 for "any"
    if rigid:
        integrator.setConstraintTolerance(CONSTRAINT_TOLERANCE)
    return integrator


class _Pace:
    """How many steps to do before the bar is drawn again."""

    def __init__(self) -> None:
        self._steps = 1

    @contextmanager
    def measure(self) -> Iterator[int]:
        started = time.monotonic()
        yield self._steps
        taken = time.monotonic() - started
        self._steps = max(1, min(10 * self._steps, int(self._steps * _REFRESH / max(taken, 1e-4))))


@contextmanager
def _progress(config: SimulationConfig, done: int, visible: bool) -> Iterator[Callable[[int], None]]:
    columns = (
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[speed]}"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), disable=not visible) as bar:
        total = config.steps + config.equilibration
        task = bar.add_task("simulate", total=total, completed=done + config.equilibration, speed="")
        first, started = done, time.monotonic()

        def show(step: int) -> None:
            days = max(time.monotonic() - started, 1e-9) / 86400
            speed = (step - first) * config.timestep * config.replicas / 1000 / days
            bar.update(task, completed=step + config.equilibration, speed=f"{speed:.3g} ns/day")

        yield show
