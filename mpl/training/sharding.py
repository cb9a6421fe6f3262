"""FSDP2, as accelerate has it: every process holds a part of each weight, of its average and of its optimiser's state.

What needs the model whole, which is its samples and what is written in the end, gets a copy in the first process.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from accelerate import Accelerator
from accelerate.utils import DistributedType, parse_flag_from_env
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from .task import Task


def is_sharded(accelerator: Accelerator) -> bool:
    """Whether FSDP2 was asked for. Raises ValueError where it was and cannot be, or its first version was."""
    if accelerator.distributed_type == DistributedType.FSDP:
        if not accelerator.is_fsdp2:
            raise ValueError("FSDP_VERSION = 1: must be 2")
        return True
    if parse_flag_from_env("ACCELERATE_USE_FSDP"):  # accelerate itself would go on without a word
        here = f"{accelerator.num_processes} on {accelerator.device.type}"
        raise ValueError(f"ACCELERATE_USE_FSDP = true: weights are shared out among processes on GPUs; here: {here}")
    return False


def fit_for_sharding(task: Task) -> None:
    """Lays weights out as FSDP2 takes them. Raises ValueError for what it cannot do."""
    name, options = task.options.name, task.options
    if options.optimizer.kind == "muon":
        raise ValueError(f"{name}.optimizer.kind = muon: needs matrices whole; with FSDP2 it must be adamw")
    if options.data.stills:
        raise ValueError(
            f"{name}.data.stills = {options.data.stills}: must be 0 with FSDP2, where all weights take part"
        )
    for parameter in task.model.parameters():
        parameter.data = parameter.data.contiguous()  # convolutions may be channels last


def whole(x: Tensor) -> Tensor:
    """A tensor gathered from all processes, which must all ask for it."""
    return x.full_tensor() if isinstance(x, DTensor) else x


def own_part(x: Tensor) -> Tensor:
    """What this process holds of a tensor, in the same memory."""
    return x.to_local() if isinstance(x, DTensor) else x


class WholeCopy:
    """A model beside the sharded one that can be used by the first process alone."""

    def __init__(self, model: nn.Module, accelerator: Accelerator) -> None:
        """From the model before it is sharded."""
        self.accelerator = accelerator
        self.model = copy.deepcopy(model).cpu() if accelerator.is_main_process else None

    def of(self, sharded: nn.Module) -> nn.Module:
        """The copy with the weights of now; other processes must ask, too, and get the sharded model back."""
        weights = self.accelerator.get_state_dict(sharded)
        if self.model is None:
            return sharded
        self.model.load_state_dict(weights)
        return self.model.to(self.accelerator.device)

    def put_away(self) -> None:
        if self.model is not None:
            self.model.cpu()


class ShardedEMA(EMAModel):
    """Averages of this process's parts. In files they are whole, so that another number of processes can go on."""

    def __init__(self, parameters: Sequence[DTensor], **settings: Any) -> None:
        self.layouts = [(p.device_mesh, p.placements, p.shape, p.stride()) for p in parameters]
        super().__init__([own_part(p) for p in parameters], **settings)

    def state_dict(self) -> dict[str, Any]:
        parts = zip(self.shadow_params, self.layouts, strict=True)
        averages = [
            whole(DTensor.from_local(part, mesh, placements, shape=shape, stride=stride)).cpu()
            for part, (mesh, placements, shape, stride) in parts
        ]
        return super().state_dict() | {"shadow_params": averages}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.shadow_params = [
            distribute_tensor(average.to(mesh.device_type), mesh, placements).to_local()
            for average, (mesh, placements, *_) in zip(self.shadow_params, self.layouts, strict=True)
        ]
