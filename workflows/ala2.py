"""The alanine dipeptide benchmark: 10 000 frames of five beads in, the free-energy surface of (phi, psi) out.

    cgenn run ala2 --data ala2_5bead_cgnet_10k.npz --reference ala2_phi_psi_reference_hist.npz --json

Data: Wang et al. 2019 (doi 10.1021/acscentsci.8b00913), positions, forces and a histogram of a run of one million
frames. For each seed: train with displaced copies, refine in short simulations, run in OpenMM, compare.
"""

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

import cgenn
from cgenn.files import write_json

TOPOLOGY = cgenn.BeadTopology.build(
    ["ACE-C", "ALA-N", "ALA-CA", "ALA-C", "NME-N"],
    [12.011, 14.007, 12.011, 12.011, 14.007],
    names=["C", "N", "CA", "C", "N"],
    residue_names=["ACE", "ALA", "ALA", "ALA", "NME"],
    residue_index=[0, 1, 1, 1, 2],
    bonds=[(0, 1), (1, 2), (2, 3), (3, 4)],
)
TO_KCAL = (1 / 41.84) ** 2
"""(kJ/mol/nm)^2 in (kcal/mol/A)^2."""


def main(
    data: Annotated[Path, typer.Option(exists=True, help="Bead positions and forces (npz with `units`).")],
    reference: Annotated[Path, typer.Option(exists=True, help="Histogram of (phi, psi), npz with `full`.")],
    out: Annotated[Path, typer.Option(help="Folder for everything.")] = Path("runs/ala2"),
    seeds: Annotated[int, typer.Option(help="Independent trainings.")] = 3,
    quick: Annotated[bool, typer.Option(help="Two epochs and a few steps: shows that it runs.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train on 10 000 frames of alanine dipeptide and compare the simulated surface with the reference."""
    console = Console(stderr=True, highlight=False)
    epochs, rounds, replicas, steps = (2, 1, 20, 400) if quick else (30, 1, 300, 3000)
    histogram = np.load(reference)["full"]
    dataset = out / f"{data.stem}.h5"
    if not dataset.exists():
        cgenn.import_beads(data, TOPOLOGY, dataset, temperature=300.0)
    found = []
    for seed in range(seeds):
        folder = out / f"seed-{seed}"
        console.rule(f"seed {seed}: training")
        network = cgenn.NetworkConfig(cutoff=0.8)
        training = cgenn.TrainingConfig(network=network, epochs=epochs, noise=0.01, seed=seed)
        potential = cgenn.train(dataset, training, folder / "model")
        console.rule(f"seed {seed}: refinement")
        short = cgenn.SimulationConfig(
            timestep=0.004, steps=steps, equilibration=steps // 4, report_interval=10, replicas=replicas, seed=seed
        )
        potential = cgenn.refine(potential, dataset, short, folder / "refined", rounds=rounds)
        console.rule(f"seed {seed}: simulation")
        final = short.model_copy(update={"replicas": 2 * replicas, "steps": 3 * steps // 2, "seed": seed + 1000})
        run = cgenn.simulate(potential, dataset, final, folder / "run")
        report = cgenn.compare(run, dataset, folder / "report", reference_histogram=histogram)
        found.append((report, potential, run))
    result = summary(found)
    write_json(out / "ala2.json", result)
    typer.echo(
        json.dumps(result, indent=2) if as_json else "\n".join(f"{key}: {value}" for key, value in result.items())
    )


def summary(found: list) -> dict:
    """Means over the seeds; the force errors are those of the validation frames."""
    headlines = [report.numbers["headline"] for report, _, _ in found]
    errors = [potential.provenance["force_errors"] for _, potential, _ in found]
    mean = {
        key: float(np.mean([entry[key] for entry in headlines])) for key in ("js", "js_mirrored", "js_sampling_floor")
    }
    return {
        **mean,
        "js_of_each_seed": [entry["js"] for entry in headlines],
        "force_mse": float(np.mean([entry["model"] for entry in errors])) * TO_KCAL,
        "force_mse_null": float(np.mean([entry["null"] for entry in errors])) * TO_KCAL,
        "force_mse_noise_floor": float(np.mean([entry["floor"] for entry in errors])) * TO_KCAL,
        "backend": found[0][2].record["backend"],
        "ns_per_day": float(np.mean([run.record["ns_per_day_all_replicas"] for _, _, run in found])),
        "report": str(found[0][0].html),
        "units": {
            "js": "nat",
            "force_mse": "(kcal/mol/A)^2, mean square of a component",
            "ns_per_day": "ns/day, all replicas",
        },
    }


if __name__ == "__main__":
    typer.run(main)
