"""The Lightning module that fits tail and head, and goes on after a kill."""

import logging
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.callbacks import LambdaCallback, ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torchmetrics.classification import BinaryAccuracy, MulticlassAccuracy

from defectloc.config import TrainingConfig
from defectloc.data.module import FoldData
from defectloc.errors import DefectlocError
from defectloc.model.classifier import Classifier
from defectloc.model.start import start_head
from defectloc.model.trunk import autocast
from defectloc.model.weights import read
from defectloc.signals import Preempted, at_epoch_end, listen, obey

LAST = "last.ckpt"
History = list[dict[str, float | int | None]]


class DefectClassifier(pl.LightningModule):
    """Class-weighted cross-entropy on the two logits, by Adam, until the training accuracy passes the target."""

    def __init__(
        self,
        classifier: Classifier,
        training: TrainingConfig,
        class_weights: list[float],
        seed: int,
        from_images: bool = False,
    ) -> None:
        """`class_weights`: [good, defective]; `from_images`: inputs are images, not the trunk's output."""
        super().__init__()
        self.classifier, self.training_config, self.seed = classifier, training, seed
        self.from_images = from_images
        self.history: History = []
        self.best: dict[str, torch.Tensor] | None = None
        self.started = time.perf_counter()
        self.register_buffer("class_weights", torch.tensor(class_weights), persistent=False)
        # To validate its arguments a metric would wait for the device at each step.
        self._train_accuracy = BinaryAccuracy(validate_args=False)
        self._validation_accuracy = MulticlassAccuracy(num_classes=2, average="macro", validate_args=False)
        self._losses: dict[str, list[torch.Tensor]] = {"train": [], "validation": []}

    def features(self, inputs: torch.Tensor) -> torch.Tensor:
        """Give the trunk's output for inputs: images `(N, 3, H, W)` or, unless `from_images`, the output itself."""
        inputs = inputs.to(memory_format=torch.channels_last).float()
        return self.classifier.features(inputs).float() if self.from_images else inputs

    def logits(self, inputs: torch.Tensor) -> torch.Tensor:
        """Give the logits `(N, 2)` for inputs."""
        return self.classifier.channels(self.features(inputs)).mean((2, 3))

    def loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Average the cross-entropies of logits `(N, 2)` and labels `(N,)` 0/1, weighted by the class weights."""
        weights = self.get_buffer("class_weights")
        return F.cross_entropy(logits.float(), labels, weight=weights)

    def on_train_epoch_start(self) -> None:
        """Make all randomness of an epoch a function of (seed, epoch), so that a resumed fit repeats it."""
        torch.manual_seed(self.seed * 1_000_003 + self.current_epoch)
        self._losses = {"train": [], "validation": []}

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> torch.Tensor:
        """Lightning's hook."""
        inputs, labels = batch
        logits = self.logits(inputs)
        loss = self.loss(logits, labels)
        self._train_accuracy.update(logits.argmax(1), labels)
        self._note_loss("train", loss.detach(), labels)
        return loss

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> None:
        """Lightning's hook."""
        inputs, labels = batch
        logits = self.logits(inputs)
        self._validation_accuracy.update(logits.argmax(1), labels)
        self._note_loss("validation", self.loss(logits, labels), labels)

    def on_train_epoch_end(self) -> None:
        """Note the epoch, and stop where the training accuracy has passed its target.

        The training figures are those of the steps as they were made, as in the case study.
        """
        validated = bool(self._losses["validation"])
        self.history.append(
            {
                "epoch": self.current_epoch + 1,
                "train_loss": self._mean("train"),
                "train_accuracy": float(self._train_accuracy.compute()),
                "validation_loss": self._mean("validation") if validated else None,
                "validation_balanced_accuracy": float(self._validation_accuracy.compute()) if validated else None,
            }
        )
        for name in ("train_loss", "train_accuracy"):
            self.log(name, torch.tensor(self.history[-1][name]), prog_bar=True, logger=False)
        self._train_accuracy.reset()
        self._validation_accuracy.reset()
        if self.training_config.keep == "validation" and self._waited == 0:
            learnt = {name: p for name, p in self.classifier.named_parameters() if p.requires_grad}
            kept = learnt | dict(self.classifier.tail.named_buffers(prefix="tail"))
            self.best = {name: value.detach().cpu().clone() for name, value in kept.items()}
        if self.finished:
            self.trainer.should_stop = True

    @property
    def _waited(self) -> int:
        """Count the epochs since the lowest loss on the validation split; without one, the last epoch is the best."""
        losses = [epoch["validation_loss"] for epoch in self.history]
        if not losses or any(loss is None for loss in losses):
            return 0
        return len(losses) - 1 - losses.index(min(losses))  # type: ignore[type-var]

    def keep_best(self) -> None:
        """Go back to the weights of the epoch that is to be kept."""
        if self.best is not None:
            self.classifier.load_state_dict(self.best, strict=False)

    @property
    def finished(self) -> bool:
        """Tell whether the last epoch passed the target, was the last allowed, or has waited in vain."""
        if not self.history:
            return False
        accuracy = self.history[-1]["train_accuracy"]
        assert accuracy is not None
        passed = accuracy > self.training_config.target_train_accuracy
        waited = self.training_config.keep == "validation" and self._waited >= self.training_config.patience
        return passed or waited or len(self.history) >= self.training_config.epochs

    def configure_optimizers(self) -> Any:
        """Lightning's hook."""
        learnt = [p for p in self.classifier.parameters() if p.requires_grad]
        rate = self.training_config.learning_rate
        optimizer = torch.optim.Adam(learnt, lr=rate)
        if self.training_config.schedule == "constant":
            return optimizer
        steps = int(self.trainer.estimated_stepping_batches)
        # Smith and Topin 2018, "Super-Convergence"; Adam's momentum has no cycle: the published gain is the rate's.
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, cycle_momentum=False)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the history, by which a resumed fit knows whether it had finished, the best weights and the seconds."""
        checkpoint.update(history=self.history, best=self.best, seconds=time.perf_counter() - self.started)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take them back; the start moves back by the seconds that other processes took, so that they count."""
        self.history, self.best = checkpoint["history"], checkpoint.get("best")
        self.started = time.perf_counter() - checkpoint.get("seconds", 0.0)

    def _note_loss(self, split: str, loss: torch.Tensor, labels: torch.Tensor) -> None:
        """Keep the weighted sum of a batch's losses and the sum of its weights, on the device."""
        weight = self.get_buffer("class_weights")[labels].sum()
        # As numbers they would make the device wait for the host at each step.
        self._losses[split].append(torch.stack([loss * weight, weight]))

    def _mean(self, split: str) -> float:
        """Divide the sums of a whole split: in batches of one class the weights would cancel."""
        total, weight = torch.stack(self._losses[split]).cpu().double().sum(0).tolist()
        return total / weight


def _start(module: DefectClassifier, data: FoldData, device: str, precision: str) -> None:
    """Start the head as a logistic regression, unless the fit is resumed."""

    def features(inputs: torch.Tensor) -> torch.Tensor:
        # In Lightning's own steps the trunk has this precision by itself.
        with autocast(device, precision):
            return module.features(inputs)

    if not module.history:
        weights = [float(weight) for weight in module.get_buffer("class_weights")]
        start_head(module.classifier, data.ordered_dataloader(), weights, features)


def fit(module: DefectClassifier, data: FoldData, folder: Path, device: str, precision: str) -> None:
    """Fit in place on `device`, in `precision` 'float32' or 'bfloat16'.

    Leaves each epoch's end in `folder`, and goes on from there when it is called again.
    """
    last = folder / LAST
    if last.exists() and _resume_finished(module, last):
        return
    bar = sys.stdout.isatty()
    callbacks: list[pl.Callback] = [
        ModelCheckpoint(folder, filename="last", save_on_train_epoch_end=True, enable_version_counter=False),
        # Lightning's own handlers, in place by then, would stop within an epoch.
        LambdaCallback(on_train_start=lambda *_: listen(), on_train_epoch_start=lambda *_: obey()),
    ]
    if module.training_config.start == "logistic":
        callbacks.append(LambdaCallback(on_fit_start=lambda *_: _start(module, data, device, precision)))
    callbacks += [TQDMProgressBar()] if bar else []
    for name in ("pytorch_lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        # Advice on workers and logging intervals, and on the folder that holds the checkpoint of a killed fit.
        for kind in (UserWarning, FutureWarning, DeprecationWarning):
            warnings.filterwarnings("ignore", category=kind, module=r"pytorch_lightning|lightning")
        warnings.filterwarnings("ignore", message=".*does not have many workers.*|.*exists and is not empty.*")
        trainer = pl.Trainer(
            accelerator=device,
            devices=1,
            precision="bf16-mixed" if precision == "bfloat16" else "32-true",
            max_epochs=module.training_config.epochs,
            logger=False,
            callbacks=callbacks,
            enable_progress_bar=bar,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            # Within a Slurm job Lightning would take its tasks for the processes of one fit, and requeue by itself.
            plugins=[LightningEnvironment()],
        )
        # Lightning keeps the mode it finds, and what was only evaluated so far would not update its statistics.
        module.train()
        try:
            with at_epoch_end():
                trainer.fit(module, datamodule=data, ckpt_path=last if last.exists() else None, weights_only=True)
        except SIGTERMException as stop:
            # Before the first epoch Lightning's own handler takes it, and leaves with 0, which reads as success.
            raise Preempted("SIGTERM") from stop
        except Preempted:
            raise
        except SystemExit as stop:
            raise KeyboardInterrupt from stop
    module.keep_best()


def _resume_finished(module: DefectClassifier, last: Path) -> bool:
    """Take over a fit that was killed between its last epoch and its results; what is unreadable counts as missing."""
    try:
        content = read(last)
    except DefectlocError as error:
        print(f"note: {error} The fit starts again.", file=sys.stderr)
        last.unlink()
        return False
    module.on_load_checkpoint(content)
    if module.finished:
        module.load_state_dict(content["state_dict"])
        module.keep_best()
    return module.finished
