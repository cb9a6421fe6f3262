"""The training loop: accelerate, EMA, a budget in minutes, exact resumption. Knows tasks, not models."""

from __future__ import annotations

import contextlib
import json
import math
import random
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, broadcast_object_list, gather_object
from diffusers.training_utils import EMAModel
from torch import Tensor
from tqdm import tqdm

from mpl.devices import choose_device, choose_dtype
from mpl.terminal import RunFailed

from .files import ORIGIN, Origin, has_state, recover, replace_folder, write_origin
from .optim import build_optimizers, rate
from .report import LONGEST_DRAW, Progress, Run, cut_log, draw_curves, shown_path, trace, write_card
from .sharding import ShardedEMA, WholeCopy, fit_for_sharding, is_sharded, own_part, whole
from .task import Task


def mixed_precision(optimizer: str) -> str:
    """accelerate's word for the number format that is fast on this machine.

    Muon has no float16: it is one of two optimisers then, and a scaler of gradients undoes its scale before each.
    """
    dtype, _ = choose_dtype("auto", choose_device("auto")[0])
    if optimizer == "muon" and dtype == torch.float16:
        return "no"
    return {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "no"}[dtype]


@contextlib.contextmanager
def held_interrupts() -> Iterator[threading.Event]:
    """Ctrl-C sets the event instead of breaking off in mid-step; pressed again, it breaks off at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # where signals cannot be handled
        yield asked
        return
    before = signal.getsignal(signal.SIGINT)

    def ask(number: int, frame: Any) -> None:
        asked.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


class Loop:
    """Runs one task until its budget is spent; a run that was killed goes on where it was last saved.

    Of several processes the first alone keeps the clock and writes files.
    """

    def __init__(self, task: Task, run: Run) -> None:
        self.task, self.run = task, run
        # A batch of single frames passes the layers over frames by, on one process perhaps and not on the next.
        ddp = DistributedDataParallelKwargs(find_unused_parameters=task.options.data.stills > 0)
        on_cpu = choose_device("auto")[0].type == "cpu"  # unasked, accelerate joins no processes on a CPU
        precision = mixed_precision(task.options.optimizer.kind)
        self.accelerator = Accelerator(cpu=on_cpu, mixed_precision=precision, kwargs_handlers=[ddp])
        self.main, self.sharded = self.accelerator.is_main_process, is_sharded(self.accelerator)
        task.to(self.accelerator.device)
        if run.fresh or not has_state(run.work):
            task.prepare()
        if self.sharded:
            fit_for_sharding(task)
            self.copy = WholeCopy(task.model, self.accelerator)
        self.optimizers = build_optimizers(task.model, task.options.optimizer, task.undecayed)
        prepared = self.accelerator.prepare(task.model, *self.optimizers)
        self.model, self.optimizers = prepared[0], list(prepared[1:])
        self.trained = [p for p in task.model.parameters() if p.requires_grad]
        average = ShardedEMA if self.sharded else EMAModel
        self.ema = average(self.trained, decay=task.options.optimizer.ema, foreach=True)
        self.progress = Progress()
        if run.init_from:
            self.progress.init_from = shown_path(run.init_from)
        self.progress.lineage = began = trace(task, run.init_from)
        self.accelerator.register_for_checkpointing(self.ema, self.progress)
        self.state, self.log = run.work / "state", run.work / "log.jsonl"
        if self.main:
            run.work.mkdir(parents=True, exist_ok=True)
            if run.fresh:
                forget(run.work)
            recover(self.state)
            if not self.state.is_dir():
                write_origin(run.work, Origin(run.init_from, run.seed, run.preset))
        self.accelerator.wait_for_everyone()
        found = gather_object([self.state.is_dir()])
        if any(found):
            if not all(found):
                raise ValueError(f"--work {run.work}: must be on a disk that all processes share; some see no state")
            self.load_state()
            if not run.init_from:  # states of earlier versions leave out what the preset starts from
                self.progress.lineage = self.progress.lineage or began
        if self.main:
            cut_log(self.log, self.progress.step)

    @property
    def parts(self) -> list[Tensor]:
        """The trained weights as their averages are kept: this process's part of each where they are sharded."""
        return [own_part(p) for p in self.trained]

    @property
    def share(self) -> float:
        """Share of the budget that is spent, in [0, 1]."""
        spent = self.progress.seconds / max(1e-9, 60 * self.run.minutes)
        if self.run.max_steps:
            spent = max(spent, self.progress.step / self.run.max_steps)
        return min(1.0, spent)

    def train(self) -> None:
        """Trains until the budget is spent, then writes the weights.

        Raises:
            RunFailed: the loss is not a number.
            KeyboardInterrupt: on Ctrl-C, after the step and with the state saved.
        """
        saved = sampled = spent = self.progress.seconds
        bar = tqdm(total=round(60 * self.run.minutes), initial=round(spent), unit="s", disable=not self.main)
        with held_interrupts() as interrupt, bar, self.log.open("a") if self.main else contextlib.nullcontext() as log:
            while self.share < 1.0:
                started = time.monotonic()
                figures = self.step()
                # The slowest of all: the others' steps wait for it.
                drawing = max(gather_object([figures["draw_seconds"] + figures["encode_seconds"]]))
                seconds, stop = self.agree(self.charge(time.monotonic() - started, drawing), interrupt.is_set())
                self.progress.seconds += seconds
                self.note(figures, log, bar)
                if stop:
                    self.break_off(log)
                if self.progress.seconds - saved > 60 * self.run.save_every:
                    self.save_state(log)
                    saved = self.progress.seconds
                if self.progress.seconds - sampled > 60 * self.run.sample_every:
                    self.sample()
                    sampled = self.progress.seconds
        self.finish()

    def charge(self, seconds: float, drawing: float) -> float:
        """What a step costs of the budget; a process that was paused or starved meanwhile is not charged for it.

        Of its seconds those of drawing count up to `LONGEST_DRAW`: where samples are used again, most steps draw none.
        """
        if self.progress.step <= 20:
            return seconds
        usual = self.progress.seconds / (self.progress.step - 1)
        return min(drawing, LONGEST_DRAW) + min(seconds - drawing, 3 * usual)

    def agree(self, *values: Any) -> list[Any]:
        """The first process's values, so that all stop, save and sample after the same steps."""
        return broadcast_object_list(list(values))

    def note(self, figures: dict[str, Any], log: Any, bar: tqdm) -> None:
        """A line of the log and the bar."""
        if not self.main:
            return
        figures |= {"step": self.progress.step, "minutes": round(self.progress.seconds / 60, 3)}
        log.write(json.dumps(figures) + "\n")
        pace = self.progress.samples / max(1e-9, self.progress.seconds)
        bar.set_postfix_str(f"loss {figures['loss']:.4f}, {pace:.1f} samples/s")
        bar.update(round(self.progress.seconds) - bar.n)

    def seed(self) -> int:
        """The coming step's. A process's seeds follow each other, so that a task can tell those of the steps before.

        A run that goes on from another's weights draws what that one did not, under the same `--seed`, too.
        """
        told = [self.run.seed, self.accelerator.process_index, *filter(None, [len(self.progress.lineage)])]
        return random.Random("/".join(map(str, told))).getrandbits(62) + self.progress.step

    def step(self) -> dict[str, Any]:
        """One optimiser step on a batch that depends on seed, step and process alone; figures to log."""
        seed = self.seed()
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)  # dropout draws from the global stream
        share = self.share
        drawing = time.monotonic()
        batch = self.task.draw(seed, share)
        drawing, encoding = time.monotonic() - drawing, self.task.encode_seconds
        self.model.train()
        with self.accelerator.autocast():
            loss, figures = self.task.loss(self.model, batch, generator)
        value = self.accelerator.reduce(loss.detach(), reduction="mean").item()
        if not math.isfinite(value):  # before it reaches the weights
            raise RunFailed(
                f"train {self.task.options.name}: the loss is {value} at step {self.progress.step + 1}; "
                f"the state saved last is in {self.run.work}; a lower learning rate may help"
            )
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * rate(self.progress.step, share, self.task.options.optimizer)
            optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        norm = self.accelerator.clip_grad_norm_(self.trained, self.task.options.optimizer.clip)
        for optimizer in self.optimizers:
            optimizer.step()
        self.ema.step(self.parts)
        self.progress.step += 1
        self.progress.samples += len(batch.captions) * self.accelerator.num_processes
        numbers = {name: float(figure) for name, figure in figures.items()}
        known = {name: number for name, number in numbers.items() if number == number}
        seconds = {"draw_seconds": round(drawing - encoding, 4), "encode_seconds": round(encoding, 4)}
        return {"loss": value, "norm": float(whole(norm)), **seconds, **known}

    def load_state(self) -> None:
        """Goes on from the saved state, with the rates and decays that the preset now says."""
        if self.sharded == (self.state / "model.safetensors").is_file():
            how = "without" if self.sharded else "with"
            raise ValueError(
                f"--work {self.run.work}: the state there was saved {how} FSDP2; go on {how} it, or add --fresh"
            )
        settings = [[dict(group, params=None) for group in o.param_groups] for o in self.optimizers]
        self.accelerator.load_state(str(self.state))
        self.ema.to(self.accelerator.device)
        self.ema.decay = self.task.options.optimizer.ema
        for optimizer, groups in zip(self.optimizers, settings, strict=True):
            for group, setting in zip(optimizer.param_groups, groups, strict=True):
                group.update({key: value for key, value in setting.items() if key != "params"})

    def save_state(self, log: Any = None) -> None:
        """State for resumption, replaced as a whole so that a kill in mid-write leaves the earlier one."""
        fresh = self.state.with_name("state.new")
        self.accelerator.save_state(str(fresh))
        self.accelerator.wait_for_everyone()
        if self.main:
            if log:
                log.flush()
            replace_folder(fresh, self.state)
            if self.log.is_file():
                draw_curves(self.log, self.run.work / "curves.png", self.task.options.name)
        self.accelerator.wait_for_everyone()

    def break_off(self, log: Any) -> None:
        """Saves, says so, and raises KeyboardInterrupt."""
        self.save_state(log)
        if self.main:
            told = (
                f"train {self.task.options.name}: stopped at step {self.progress.step}; the state is in {self.run.work}"
            )
            print(f"\n{told}; the same command without --fresh goes on", file=sys.stderr, flush=True)
        raise KeyboardInterrupt

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """The model in eval mode with its averaged weights; entered by all processes, for the first one to use."""
        trained = self.task.model
        self.ema.store(self.parts)
        self.ema.copy_to(self.parts)
        if self.sharded:
            self.task.model = self.copy.of(trained)
        self.task.model.eval()
        try:
            yield
        finally:
            self.task.model = trained
            self.ema.restore(self.parts)
            if self.sharded:
                self.copy.put_away()

    def sample(self) -> None:
        """Samples of the averaged weights, while the other processes wait."""
        with self.averaged():
            if self.main:
                self.draw_samples()
        self.accelerator.wait_for_everyone()

    def draw_samples(self) -> None:
        """Pictures are for people to look at: where they fail, the training is not lost with them."""
        try:
            self.task.sample(self.run.work / f"samples-{self.progress.step:06d}.png")
        except Exception as error:
            tqdm.write(f"train {self.task.options.name}: no samples at step {self.progress.step}: {error}", sys.stderr)

    def finish(self) -> None:
        """Writes the averaged weights, then their card and samples; the state stays for a longer budget."""
        self.save_state()
        with self.averaged():
            if self.main:
                self.task.save(self.run.out)
                write_card(self.task.home(self.run.out), self.task, self.progress, self.run)
                self.draw_samples()
        self.accelerator.wait_for_everyone()


def forget(work: Path) -> None:
    """Removes what earlier starts of a run left in its work folder, and nothing else that may lie there."""
    for name in ("state", "state.new", "state.old"):
        shutil.rmtree(work / name, ignore_errors=True)
    for path in (work / "log.jsonl", work / "curves.png", work / ORIGIN, *work.glob("samples-*.png")):
        path.unlink(missing_ok=True)
