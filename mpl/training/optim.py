"""Optimisers: Muon for inner weight matrices with AdamW for everything else, and the learning-rate shape."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable

import torch
from torch import Tensor, nn

from .options import OptimizerOptions

# Coefficients of the quintic Newton-Schulz iteration (Jordan et al. 2024, "Muon: an optimizer for hidden layers").
_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def orthogonalize(matrices: Tensor, steps: int = 5) -> Tensor:
    """Nearest semi-orthogonal matrices, approximately: (n, rows, cols) in, same shape out, singular values near 1.

    Each step multiplies x by a polynomial of x xᵀ, so for wide matrices, as convolutions are, the steps are taken on
    the small square x xᵀ alone and x is multiplied once: half the work. Float32 bears it, bfloat16 would not.
    """
    x = matrices.float()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    if x.shape[-1] > 2 * x.shape[-2]:
        x = _through_gram(x, steps)
    else:
        for _ in range(steps):
            x = _polynomial(x @ x.mT) @ x
    return x.mT if tall else x


def _polynomial(gram: Tensor) -> Tensor:
    a, b, c = _NEWTON_SCHULZ
    factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
    factor.diagonal(dim1=-2, dim2=-1).add_(a)
    return factor


def _through_gram(x: Tensor, steps: int) -> Tensor:
    gram = x @ x.mT
    product = factor = _polynomial(gram)
    for _ in range(steps - 1):
        gram = factor @ gram @ factor
        factor = _polynomial(gram)
        product = factor @ product
    return product @ x


class Muon(torch.optim.Optimizer):
    """Momentum orthogonalised per weight matrix; convolution kernels count as (out, in·k·k) matrices.

    `torch.optim.Muon` takes 2-D parameters only, and most weights here are convolutions. Same-shaped matrices are
    orthogonalised in one batch, which is what makes it affordable on a CPU.
    """

    def __init__(
        self, params: Iterable[Tensor], lr: float = 0.02, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            same_shape: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is None:
                    continue
                buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                buffer.lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(buffer, group["momentum"]).reshape(len(p), -1)
                same_shape[tuple(update.shape)].append((p, update))
            for (rows, cols), pairs in same_shape.items():
                updates = orthogonalize(torch.stack([update for _, update in pairs]))
                scale = group["lr"] * max(1.0, rows / cols) ** 0.5
                for (p, _), update in zip(pairs, updates, strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(update.view_as(p), alpha=-scale)


def _is_inner_matrix(name: str, p: Tensor) -> bool:
    """Hidden weights only: the first and last layers and the embeddings have no fixed scale on one side."""
    outer = (
        "conv_in",
        "conv_out",
        "embed",
        "positional",
        "head",
        "time_embedding",
        "shared",
        "skip_mix",
        "coordinate_map",
        "layout_draft",
        "outline_draft",
    )
    return p.ndim >= 2 and min(len(p), p[0].numel()) >= 16 and not any(word in name for word in outer)


def build_optimizers(
    model: nn.Module, options: OptimizerOptions, undecayed: Collection[str] = ()
) -> list[torch.optim.Optimizer]:
    """One or two optimisers over the parameters that require gradients; AdamW leaves some of them undecayed by name."""
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    inner = [p for n, p in named if options.kind == "muon" and _is_inner_matrix(n, p)]
    ids = {id(p) for p in inner}
    rest = [(n, p) for n, p in named if id(p) not in ids]
    decayed = [p for n, p in rest if p.ndim >= 2 and n not in undecayed]
    plain = [p for n, p in rest if p.ndim < 2 or n in undecayed]
    groups = [
        {"params": decayed, "weight_decay": options.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW([g for g in groups if g["params"]], lr=options.lr, betas=options.betas, fused=True)
    ]
    if inner:
        optimizers.append(Muon(inner, lr=options.matrix_lr, weight_decay=options.weight_decay))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def rate(step: int, progress: float, options: OptimizerOptions) -> float:
    """Learning-rate factor in [0, 1]: linear warm-up in steps, flat, then linear to zero by the end of the budget."""
    warm = min(1.0, (step + 1) / max(1, options.warmup_steps))
    falling = (1.0 - progress) / max(1e-9, 1.0 - options.decay_from)
    return warm * min(1.0, max(0.0, falling))
