"""Which number format is chosen for which hardware."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nanollama import precision
from nanollama.precision import choose_precision, cpu_has_bfloat16, gradient_scaler, precision_context

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("capability", "expected"),
    [
        ((6, 1), "float32"),
        ((7, 0), "float16"),
        ((7, 5), "float16"),
        ((8, 0), "bfloat16"),
        ((9, 0), "bfloat16"),
    ],
)
def test_auto_on_gpus(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert choose_precision("auto", GPU) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("flags\t\t: fpu avx2 avx512f\n", "float32"),
        ("processor : 0\nflags\t\t: fpu avx512_bf16 fsrm\n", "bfloat16"),
        ("flags\t\t: fpu amx_bf16\n", "bfloat16"),
        ("Features\t: fp asimd bf16 i8mm\n", "bfloat16"),
        ("model name : bf16\n", "float32"),
        ("", "float32"),
    ],
)
def test_auto_on_cpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, expected: str) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(text)
    monkeypatch.setattr(precision, "CPUINFO", cpuinfo)
    assert choose_precision("auto", CPU) == expected


def test_a_machine_that_does_not_tell_has_no_bfloat16(tmp_path: Path) -> None:
    assert not cpu_has_bfloat16(tmp_path / "missing")


@pytest.mark.parametrize("wanted", ["float32", "bfloat16", "float16"])
def test_what_is_asked_for_is_used(wanted: precision.Precision) -> None:
    assert choose_precision(wanted, CPU) == wanted
    with precision_context(wanted, CPU):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == getattr(torch, wanted)


def test_only_float16_scales_gradients() -> None:
    assert gradient_scaler("float16", CPU).is_enabled()
    assert not gradient_scaler("bfloat16", CPU).is_enabled()
    assert not gradient_scaler("float32", CPU).is_enabled()
