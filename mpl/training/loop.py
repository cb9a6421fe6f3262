"""The training loop: accelerate, EMA, a budget in minutes, exact resumption. Knows tasks, not models."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from tqdm import tqdm

from .optim import build_optimizers, rate
from .report import draw_curves, write_card
from .task import Task


@dataclass(frozen=True)
class Run:
    """Where and how long a training runs."""

    out: Path  # component folder the EMA weights are written to
    work: Path  # state, logs, curves, samples
    minutes: float
    seed: int = 0
    sample_every: float = 10.0  # minutes
    save_every: float = 5.0  # minutes
    max_steps: int | None = None  # ends earlier than the budget; for tests


@dataclass
class Progress:
    """What must survive a kill beside weights and optimisers."""

    step: int = 0
    samples: int = 0
    seconds: float = 0.0  # spent in this training over all its starts

    def state_dict(self) -> dict[str, float]:
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, float]) -> None:
        vars(self).update(state)


def mixed_precision() -> str:
    """bf16 where the machine is fast at it (CUDA, AVX-512-BF16 or AMX CPUs), else fp32."""
    if torch.cuda.is_available():
        return "bf16"
    capabilities = torch.cpu.get_capabilities()
    return "bf16" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "no"


class Loop:
    """Runs one task until its budget is spent; a run that was killed goes on where it was last saved."""

    def __init__(self, task: Task, run: Run) -> None:
        self.task, self.run = task, run
        self.accelerator = Accelerator(mixed_precision=mixed_precision())
        self.optimizers = build_optimizers(task.model, task.options.optimizer)
        prepared = self.accelerator.prepare(task.model, *self.optimizers)
        self.model, self.optimizers = prepared[0], list(prepared[1:])
        self.trained = [p for p in task.model.parameters() if p.requires_grad]
        self.ema = EMAModel(self.trained, decay=task.options.optimizer.ema, foreach=True)
        self.progress = Progress()
        self.accelerator.register_for_checkpointing(self.ema, self.progress)
        self.run.work.mkdir(parents=True, exist_ok=True)
        self.state = self.run.work / "state"
        left = self.state.with_name("state.old")
        if left.is_dir() and not self.state.is_dir():  # killed between the two renames of a save
            os.replace(left, self.state)
        if self.state.is_dir():
            self.accelerator.load_state(str(self.state))

    @property
    def share(self) -> float:
        """Share of the budget that is spent, in [0, 1]."""
        spent = self.progress.seconds / max(1e-9, 60 * self.run.minutes)
        if self.run.max_steps:
            spent = max(spent, self.progress.step / self.run.max_steps)
        return min(1.0, spent)

    def train(self) -> None:
        bar = tqdm(total=round(60 * self.run.minutes), unit="s", disable=not self.accelerator.is_main_process)
        bar.update(round(self.progress.seconds))
        last_save = last_sample = self.progress.seconds
        with (self.run.work / "log.jsonl").open("a") as log:
            while self.share < 1.0:
                started = time.monotonic()
                figures = self.step()
                seconds = self.charge(time.monotonic() - started)
                figures |= {"step": self.progress.step, "minutes": round(self.progress.seconds / 60, 3)}
                log.write(json.dumps(figures) + "\n")
                rate_now = self.task.options.data.batch / seconds
                bar.set_postfix_str(f"loss {figures['loss']:.4f}, {rate_now:.1f} samples/s")
                bar.update(round(self.progress.seconds) - bar.n)
                if self.progress.seconds - last_save > 60 * self.run.save_every:
                    log.flush()
                    self.save_state()
                    last_save = self.progress.seconds
                if self.progress.seconds - last_sample > 60 * self.run.sample_every:
                    self.sample()
                    last_sample = self.progress.seconds
        bar.close()
        self.finish()

    def charge(self, seconds: float) -> float:
        """Counts a step against the budget; a process that was paused or starved meanwhile is not charged for it."""
        usual = self.progress.seconds / max(1, self.progress.step - 1)
        charged = min(seconds, 3 * usual) if self.progress.step > 20 else seconds
        self.progress.seconds += charged
        return charged

    def step(self) -> dict[str, Any]:
        """One optimiser step on a batch that depends on seed, step and process alone."""
        index = self.progress.step * self.accelerator.num_processes + self.accelerator.process_index
        seed = random.Random(f"{self.run.seed}/{index}").getrandbits(62)
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)  # dropout draws from the global stream
        share = self.share
        drawing = time.monotonic()
        batch = self.task.draw(seed, share)
        drawing = time.monotonic() - drawing
        self.model.train()
        with self.accelerator.autocast():
            loss, figures = self.task.loss(self.model, batch, generator)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * rate(self.progress.step, share, self.task.options.optimizer)
            optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        norm = self.accelerator.clip_grad_norm_(self.trained, self.task.options.optimizer.clip)
        for optimizer in self.optimizers:
            optimizer.step()
        self.ema.step(self.trained)
        self.progress.step += 1
        self.progress.samples += len(batch.captions) * self.accelerator.num_processes
        value = loss.item()
        if value != value:
            raise FloatingPointError(
                f"train {self.task.options.name}: loss is not a number at step {self.progress.step}"
            )
        return {"loss": value, "norm": float(norm), "draw_seconds": round(drawing, 4), **figures}

    def save_state(self) -> None:
        """State for resumption, replaced as a whole so that a kill in mid-write leaves the earlier one."""
        fresh, old = self.state.with_name("state.new"), self.state.with_name("state.old")
        self.accelerator.save_state(str(fresh))
        if self.accelerator.is_main_process:
            shutil.rmtree(old, ignore_errors=True)
            if self.state.is_dir():
                os.replace(self.state, old)
            os.replace(fresh, self.state)
            shutil.rmtree(old, ignore_errors=True)
            log = self.run.work / "log.jsonl"
            if log.is_file():
                draw_curves(log, self.run.work / "curves.png", self.task.options.name)

    def sample(self) -> None:
        if not self.accelerator.is_main_process:
            return
        self.ema.store(self.trained)
        self.ema.copy_to(self.trained)
        self.task.model.eval()
        self.task.sample(self.run.work / f"samples-{self.progress.step:06d}.png")
        self.ema.restore(self.trained)

    def finish(self) -> None:
        """Writes the EMA weights with their card; the training state stays for a longer budget."""
        self.save_state()
        if not self.accelerator.is_main_process:
            return
        self.ema.copy_to(self.trained)
        self.task.model.eval()
        self.task.sample(self.run.work / f"samples-{self.progress.step:06d}.png")
        self.task.save(self.run.out)
        write_card(self.task.home(self.run.out), self.task, self.progress, self.run)


def forget(work: Path) -> None:
    """Removes what earlier starts of a run left in its work folder, and nothing else that may lie there."""
    for name in ("state", "state.new", "state.old"):
        shutil.rmtree(work / name, ignore_errors=True)
    for path in (work / "log.jsonl", work / "curves.png", *work.glob("samples-*.png")):
        path.unlink(missing_ok=True)
