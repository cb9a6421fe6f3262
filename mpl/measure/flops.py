"""Floating-point operations and bytes of a computation, counted operation by operation while it runs.

Operations of convolutions, matrix products and attention count 2 per multiplication and addition, the shapes being
those that really ran; so a computation that is rearranged to need fewer counts fewer. Not counted are norms,
activations, softmax, sums, resizing, random numbers and schedulers' arithmetic (all of them work per element, where
the others are work per element and channel), work outside of torch such as tokenizers, and bitsandbytes' quantized
layers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

_FLASH_ON_CPU = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_ALLOCATES = ("aten::empty", "aten::new_empty")


def _attention_flops(query: tuple, key: tuple, value: tuple, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)


class FlopCounter:
    """What was counted since it began; `lap` says what since the last lap."""

    def __init__(self, mode: FlopCounterMode) -> None:
        self._mode, self._before = mode, 0

    @property
    def total(self) -> int:
        return self._mode.get_total_flops()

    def lap(self) -> int:
        """Operations since the last lap, or since the beginning."""
        found = self.total - self._before
        self._before = self.total
        return found


@contextlib.contextmanager
def counting_flops() -> Iterator[FlopCounter]:
    """Counts while the block runs. torch's own counter passes the CPU's fused attention by; this one does not."""
    with FlopCounterMode(display=False, custom_mapping={_FLASH_ON_CPU: _attention_flops}) as mode:
        yield FlopCounter(mode)


class Traffic(TorchDispatchMode):
    """Counts bytes that operations read and write while it is entered: every input and every output once.

    So many would go through memory if no operation found its inputs in a cache; what an operation reads again and
    again, or keeps for itself, is not seen. Views cost nothing, and a repeated (expanded) tensor as much as its
    storage.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        read, written = _tensors((args, kwargs)), _tensors(out)
        view = not func._schema.is_mutable and _storages(read) & _storages(written)
        if not view and not func.name().startswith(_ALLOCATES):
            self.bytes += sum(map(_size, (*read, *written)))
        return out


def _tensors(values: Any) -> list[Tensor]:
    """The tensors among the values, each once."""
    return list({id(value): value for value in tree_iter(values) if isinstance(value, Tensor)}.values())


def _storages(tensors: Iterable[Tensor]) -> set[int]:
    return {tensor.untyped_storage()._cdata for tensor in tensors}


def _size(tensor: Tensor) -> int:
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


@dataclass(frozen=True)
class Work:
    """What a call does: floating-point operations, and bytes read and written by its operations."""

    flops: int
    bytes: int

    @property
    def intensity(self) -> float:
        """Floating-point operations per byte."""
        return self.flops / max(self.bytes, 1)


def work_of(call: Callable[[], Any]) -> Work:
    """Counts a call, which is made twice."""
    with torch.no_grad():
        with counting_flops() as counter:
            call()
        with Traffic() as traffic:
            call()
    return Work(counter.total, traffic.bytes)
