"""The number format of matrix products. Weights, gradients and optimizer state are float32 in every one."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # reading a config does not wait for torch
    import torch

Precision = Literal["float32", "bfloat16", "float16"]
BFLOAT16_CPU_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})  # x86, x86, Arm
CPUINFO = Path("/proc/cpuinfo")


def choose_precision(wanted: Literal["auto"] | Precision, device: torch.device) -> Precision:
    """The format to use: the one asked for or, for ``auto``, what the hardware does well.

    bfloat16 on a GPU of compute capability 8 or later and on a CPU with instructions for it, float16 (with
    scaled gradients) on a GPU of capability 7, float32 elsewhere.
    """
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        import torch

        major, _ = torch.cuda.get_device_capability(device)
        return "bfloat16" if major >= 8 else "float16" if major == 7 else "float32"
    if device.type == "cpu" and cpu_has_bfloat16(CPUINFO):
        return "bfloat16"
    return "float32"


def cpu_has_bfloat16(cpuinfo: Path) -> bool:
    """Does the processor multiply bfloat16 natively? Unknown (no such file, as on a Mac) counts as no."""
    try:
        text = cpuinfo.read_text(errors="replace")
    except OSError:
        return False
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return not BFLOAT16_CPU_FLAGS.isdisjoint(value.split())
    return False


def precision_context(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Context of a forward pass whose matrix products are done in this format."""
    if precision == "float32":
        return nullcontext()
    import torch

    return torch.autocast(device.type, dtype=getattr(torch, precision))


def no_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Context in which matrix products are in the format of their factors, whatever is chosen around it."""
    import torch

    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


def gradient_scaler(precision: Precision, device: torch.device) -> torch.amp.GradScaler:
    """Scales the loss so that small float16 gradients do not vanish; does nothing for the other formats."""
    import torch

    return torch.amp.GradScaler(device.type, enabled=precision == "float16")
