"""Peak memory of a computation, counted tensor by tensor; with fake tensors, of one that never runs.

Fake tensors are those of torch's "meta" device: shapes, strides and storages without memory. Every tensor that an
operation returns is seen as it is made, and forgotten when the last that refers to its storage is gone. What libraries
allocate inside an operation and free before it ends is not seen, save for the copies that are known (`like`).
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

_CONVOLUTION = torch.ops.aten.convolution.default


class Tracker(TorchDispatchMode):
    """Counts the bytes of living tensors while it is entered.

    Args:
        ignored: modules whose parameters and buffers do not count (they are counted once, elsewhere).
        like: "cuda" for fake tensors that stand for those of a GPU: cuDNN works on copies in channels-last memory where
            input or weights are; "cpu" takes everything as it comes.
    """

    def __init__(self, ignored: Iterable[nn.Module] = (), like: str = "cpu") -> None:
        super().__init__()
        if like not in ("cpu", "cuda"):
            raise ValueError(f"like = {like!r}: must be cpu or cuda")
        self.like = like
        self.now = self.peak = 0  # bytes
        self._seen: dict[int, weakref.ref] = {}
        for module in ignored:
            for tensor in (*module.parameters(), *module.buffers()):
                self._see(tensor, counts=False)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        copies: list[Tensor] = []
        if func is _CONVOLUTION and any(map(_channels_last, args[:2])):
            if out.is_meta:  # the libraries' choice, which the meta device makes by the input alone
                out = out.contiguous(memory_format=torch.channels_last)
            if self.like == "cuda":
                wrong = [t for t in args[:2] if not t.is_contiguous(memory_format=torch.channels_last)]
                copies = [self._see(t.contiguous(memory_format=torch.channels_last)) for t in wrong]
        tree_map_only(Tensor, self._see, out)
        del copies  # they live as long as the operation
        return out

    def _see(self, tensor: Tensor, counts: bool = True) -> Tensor:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes() if counts else 0
        if key not in self._seen:
            self._seen[key] = weakref.ref(storage, partial(self._gone, key, size))
            self.now += size
            self.peak = max(self.peak, self.now)
        return tensor

    def _gone(self, key: int, size: int, _: Any) -> None:
        del self._seen[key]
        self.now -= size

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._seen.clear()  # and with them their callbacks


class _Faked(TorchFunctionMode):
    """What fake tensors do not do by themselves as real ones would.

    Attention has no matrix of scores: kernels on CPUs and GPUs alike make the result and a sum for each row. Group
    norms keep channels-last memory on a CPU and work on contiguous copies on a GPU. What is brought to the CPU, such as
    a timestep that is looked up in a schedule, is zero.
    """

    def __init__(self, like: str) -> None:
        super().__init__()
        self.like = like

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is F.scaled_dot_product_attention and args[0].is_meta:
            return self._attention(args[0], args[2])
        if func is F.group_norm and args[0].is_meta:
            return self._norm(args[0], args[1])
        if func is Tensor.cpu and args[0].is_meta:
            return torch.zeros(args[0].shape, dtype=args[0].dtype, device="cpu")
        return func(*args, **(kwargs or {}))

    def _norm(self, x: Tensor, groups: int) -> Tensor:
        x = x.contiguous() if self.like == "cuda" else x
        statistics = torch.empty(2, len(x), groups, device="meta", dtype=torch.float32)
        out = torch.empty_like(x)
        del statistics
        return out

    @staticmethod
    def _attention(query: Tensor, value: Tensor) -> Tensor:
        batch, heads, length, _ = query.shape
        sums = torch.empty(batch, heads, length, device="meta", dtype=torch.float32)
        out = query.new_empty(batch, length, heads, value.shape[-1]).transpose(1, 2)
        del sums  # where they are made, not where they are used: only training uses them
        return out


def _channels_last(tensor: Tensor) -> bool:
    """Whether a picture's memory is channels-last and nothing else."""
    last = tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    return last and not tensor.is_contiguous()


def tracked_peak(function: Callable[[], Any], ignored: Iterable[nn.Module] = (), like: str = "cpu") -> int:
    """The most bytes that tensors made by `function`, real or fake ones, take at once, without gradients."""
    with torch.no_grad(), _Faked(like), Tracker(ignored, like) as tracker:
        function()
    return tracker.peak


def measured_peak(function: Callable[[], Any], device: torch.device | str = "cpu") -> int:
    """The most bytes that `function` really has allocated at once, by the device's own allocator, without gradients.

    On the CPU from the profiler's record of every allocation, on a GPU from the caching allocator. What was allocated
    before does not count. Libraries that ask the system for memory themselves (oneDNN, cuDNN) are not seen.
    """
    device = torch.device(device)
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        with torch.no_grad():
            function()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with torch.no_grad(), torch.profiler.profile(profile_memory=True) as profile:
        function()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak
