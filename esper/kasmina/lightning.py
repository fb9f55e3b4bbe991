"""Growth inside a Lightning training loop: a callback.

Lightning loads a module's weights before it restores its callbacks, and strictly; fossilized seeds are among
the weights. So the topology of a checkpoint is put back when the module is told that a checkpoint comes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from esper.errors import MissingPackage
from esper.kasmina.attach import attach
from esper.kasmina.checkpoints.state import growth_values, restore_growth, restore_slots
from esper.kasmina.checkpoints.values import Decoder, Encoder
from esper.kasmina.errors import NoExample, SeveralOptimizers
from esper.kasmina.lifecycle.bank import ATTRIBUTE
from esper.kasmina.training.growth import Growth
from esper.kasmina.training.optimizer import GrowthOptimizer

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError as error:
    raise MissingPackage(package="lightning", purpose="the callback", extra="lightning") from error


class GrowthCallback(Callback):
    """Grows a LightningModule, or a part of it, while a Trainer trains it.

    slots, incubation, example: as `attach` takes them; without `example` the module's own
    `example_input_array` is the batch. module: the name of the part that grows; all of it if left out.
    output: which part of a slot's module's output is meant. monitor, monitor_accuracy: the names under which
    the module logs its validation loss and accuracy. growth: further arguments of `Growth`, such as `policy`,
    `blueprints`, `loss` and `evaluate`.

    The module's one optimizer becomes a GrowthOptimizer. Growth steps at the end of each training epoch;
    where the Trainer validates, of each in which it did, so that no stale figure is judged by. Checkpoints of
    the Trainer hold all of it, and a fit that goes on from one grows on.
    Raises NoExample and SeveralOptimizers, and what `attach` and `Growth` raise, when fitting starts.
    """

    def __init__(
        self,
        slots: str | Sequence[str],
        *,
        example: Any = None,
        module: str = "",
        output: int | str | None = None,
        incubation: str = "straight_through",
        monitor: str = "val_loss",
        monitor_accuracy: str | None = None,
        **growth: Any,
    ) -> None:
        self.slots = slots
        self.example = example
        self.module = module
        self.monitor, self.monitor_accuracy = monitor, monitor_accuracy
        self._attach = partial(attach, slots=slots, output=output, incubation=incubation)
        self._options = growth
        self.growth: Growth | None = None
        self._validated = False
        self._saved: dict[str, Any] | None = None
        self._told: Callable[[dict[str, Any]], None] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.teardown(trainer, pl_module, stage)  # a call that failed ended without
        host = self._host(pl_module)
        if ATTRIBUTE not in host.__dict__:
            example = pl_module.example_input_array if self.example is None else self.example
            if example is None:
                raise NoExample(module=type(pl_module).__name__)
            self._attach(host, example=example)
        if self._told is None:
            self._told = pl_module.on_load_checkpoint
            pl_module.on_load_checkpoint = partial(self._put_back, pl_module, self._told)  # type: ignore[method-assign]

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._told is not None:
            pl_module.__dict__.pop("on_load_checkpoint", None)
            self._told = None
        self._saved = None  # it belongs to the call that loaded it

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if len(trainer.optimizers) != 1:
            raise SeveralOptimizers(module=type(pl_module).__name__, count=len(trainer.optimizers))
        (optimizer,) = trainer.optimizers
        if not isinstance(optimizer, GrowthOptimizer):
            optimizer = GrowthOptimizer(optimizer)
            trainer.optimizers = [optimizer]
        optimizer.scaler = getattr(trainer.precision_plugin, "scaler", None)
        clip = "clip_value" if trainer.gradient_clip_algorithm == "value" else "clip_norm"
        options = {clip: trainer.gradient_clip_val or None, **self._options}  # Lightning's 0 clips nothing
        self.growth = Growth(self._host(pl_module), optimizer, **options)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._saved is not None and self.growth is not None:
            restore_growth(self.growth, self._saved)
            self._saved = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = outputs if isinstance(outputs, Tensor) else (outputs or {}).get("loss")
        if loss is not None and self.growth is not None:
            self.growth.observe(loss * trainer.accumulate_grad_batches, batch)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validated = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validated = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.growth is None or (trainer.enable_validation and not self._validated):
            return

        def logged(name: str | None) -> float | None:
            value = None if name is None else trainer.callback_metrics.get(name)
            return None if value is None else float(value)

        self.growth.step(val_loss=logged(self.monitor), val_accuracy=logged(self.monitor_accuracy))

    def state_dict(self) -> dict[str, Any]:
        """All of a growing run as JSON text and tensors."""
        if self.growth is None:
            return {}
        encoder = Encoder()
        text = json.dumps(encoder.encode(growth_values(self.growth), "growth"), allow_nan=False)
        return {"values": text, "tensors": encoder.tensors}

    def _host(self, pl_module: LightningModule) -> nn.Module:
        return pl_module.get_submodule(self.module)

    def _put_back(
        self,
        pl_module: LightningModule,
        told: Callable[[dict[str, Any]], None],
        checkpoint: dict[str, Any],
    ) -> None:
        """Called with a checkpoint before its weights are loaded: puts slots and seeds into the module."""
        state = checkpoint.get("callbacks", {}).get(self.state_key)
        if state:
            values: dict[str, Any] = Decoder(state["tensors"]).decode(json.loads(state["values"]))
            restore_slots(self._host(pl_module), values)
            self._saved = values
        told(checkpoint)
