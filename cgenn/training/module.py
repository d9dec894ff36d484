"""What lightning trains, and on what: the loss of the potential, and the batches of each epoch."""

from __future__ import annotations

import hashlib
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from cgenn.data.dataset import BeadDataset
from cgenn.mapping.whole import Tree
from cgenn.potential.potential import Potential
from cgenn.potential.priors import Priors
from cgenn.topology import BeadTopology
from cgenn.training.batches import Batches, FrameGroup
from cgenn.training.config import BATCH_FRAMES, TrainingConfig
from cgenn.training.force_matching import Residual
from cgenn.training.loss import Balance, Units, equilibrium_virials, group_tree, square_errors
from cgenn.training.noise import NoisyLabels
from cgenn.units import thermal_energy

ENERGY_LENGTH = 0.003
"""The network's energies come in units of the residual force times this length [nm]."""


class ForceMatching(lightning.LightningModule):
    """The weighted mean square errors of a potential; that of forces as a fraction of what the priors leave."""

    def __init__(
        self,
        potential: Potential,
        priors: Priors,
        topologies: list[BeadTopology],
        temperatures: list[float],
        config: TrainingConfig,
        labels: NoisyLabels | None,
    ) -> None:
        super().__init__()
        self.potential = potential
        self.residual, self.temperatures = Residual(potential, priors, topologies), temperatures
        settings, weights = potential.config, config.weights
        if not settings.bodies:
            weights = weights.model_copy(update={"torques": 0.0})
        self.balance = Balance(weights, learnt=config.balance == "uncertainty")
        self.config, self.labels = config, labels
        self.trees: list[Tree | None] = [None] * len(topologies)
        if settings.electrostatics is not None and (weights.molecular_dipoles or weights.total_dipole):
            self.trees = [group_tree(topology, settings.electrostatics) for topology in topologies]
        self.units = Units(settings.energy_scale / ENERGY_LENGTH, thermal_energy(settings.temperature))

    def training_step(self, batch: list[FrameGroup], number: int) -> Tensor:
        """Loss of a batch, with displacements that depend on seed, epoch, batch and process only."""
        parts = self._parts(batch, (self.config.seed, self.current_epoch, number, self.global_rank), create_graph=True)
        loss = self.balance(parts)
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"the loss is {loss.item()} in epoch {self.current_epoch}, batch {number}; a smaller `learning_rate` "
                f"than {self.config.learning_rate} may help"
            )
        self.log("train_loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=1, sync_dist=True)
        self._log_parts("train", parts, 1)
        return loss

    def validation_step(self, batch: list[FrameGroup], number: int) -> None:
        """The same for the frames kept aside, with the same displacements in every epoch."""
        parts = self._parts(batch, (self.config.seed, -1, number, self.global_rank), create_graph=False)
        size = sum(len(group.positions) for group in batch)
        loss = torch.stack([self.config.weights.model_dump()[name] * part for name, part in parts.items()]).sum()
        self.log("validation_loss", loss, on_epoch=True, prog_bar=True, batch_size=size, sync_dist=True)
        self._log_parts("validation", parts, size)

    def _log_parts(self, stage: str, parts: dict[str, Tensor], size: int) -> None:
        """Each part of a loss of several, as the mean square error in the unit of the part."""
        if len(parts) > 1:
            named = {f"{stage}_{name}": part.detach() for name, part in parts.items()}
            self.log_dict(named, on_step=False, on_epoch=True, batch_size=size, sync_dist=True)

    def _parts(self, batch: list[FrameGroup], key: tuple[int, ...], *, create_graph: bool) -> dict[str, Tensor]:
        """Mean square error of each quantity over all groups of a batch, in its unit."""
        errors: dict[str, tuple[Tensor, int]] = {}
        for group in batch:
            topology = self.residual.topologies[group.dataset]
            moved = self._displaced(group, key)
            graph = moved.graph(self.potential.at_data_temperature(self.temperatures[group.dataset]), topology)
            tree, weights = self.trees[group.dataset], self.config.weights
            if weights.virials and self.config.virials == "equilibrium":
                virials = equilibrium_virials(graph, moved.forces.flatten(0, 1), topology, self.units.energy)
                moved = moved._replace(virials=virials)
            targets = self.residual(moved, graph)
            found = square_errors(
                self.potential, graph, moved, targets, topology, weights, create_graph=create_graph, tree=tree,
                mean_virial=self.config.virials == "equilibrium",
            )  # fmt: skip
            for name, (error, count) in found.items():
                before, counted = errors.get(name, (torch.zeros((), device=self.device), 0))
                errors[name] = before + error, counted + count
        return {name: error / count / self.units.of(name) ** 2 for name, (error, count) in errors.items()}

    def _displaced(self, group: FrameGroup, key: tuple[int, ...]) -> FrameGroup:
        if self.labels is None:
            return group
        digest = hashlib.sha256(repr((*key, group.dataset)).encode()).digest()
        random = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))
        moved, forces = self.labels.displace(group.positions, group.forces, random)
        return group._replace(positions=moved, forces=forces)

    def configure_optimizers(self) -> Any:
        """Adam with decoupled weight decay; the rate rises for a twentieth of the steps and falls as a cosine."""
        config = self.config
        trained = [*self.potential.parameters(), *self.balance.parameters()]
        optimizer = torch.optim.AdamW(trained, lr=config.learning_rate, weight_decay=config.weight_decay)
        steps = int(self.trainer.estimated_stepping_batches)
        rise = 0.0501 if steps == 20 else 0.05  # a rise of exactly one step is a division by zero in torch
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, config.learning_rate, total_steps=steps, pct_start=rise
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_validation_model_eval(self) -> None:
        """Forces need gradients with respect to positions, also when validating."""
        torch.set_grad_enabled(True)


class FrameSource(lightning.LightningDataModule):
    """Gives the trainer the batches of its current epoch."""

    def __init__(
        self,
        datasets: list[BeadDataset],
        splits: list[tuple[np.ndarray, np.ndarray]],
        config: TrainingConfig,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.datasets, self.splits, self.config, self.dtype = datasets, splits, config, dtype

    def train_dataloader(self) -> DataLoader:
        """Shuffled by seed and epoch."""
        return self._loader([train for train, _ in self.splits], shuffle=True)

    def val_dataloader(self) -> DataLoader:
        """In the order of time."""
        return self._loader([held for _, held in self.splits], shuffle=False)

    def _loader(self, frames: list[np.ndarray], *, shuffle: bool) -> DataLoader:
        trainer = self.trainer
        batches = Batches(
            self.datasets,
            frames,
            batch_size=self.config.batch_size or BATCH_FRAMES,
            seed=self.config.seed,
            epoch=trainer.current_epoch if trainer else 0,
            shuffle=shuffle,
            dtype=self.dtype,
            rank=trainer.global_rank if trainer else 0,
            world_size=trainer.world_size if trainer else 1,
        )
        return DataLoader(batches, batch_size=None)
