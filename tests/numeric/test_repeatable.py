"""The same sums give the same bits, however many threads share them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

MANY = """
import agile3d_cli
import torch

torch.set_num_threads(2)
torch.manual_seed(0)
found = set()
for size, stride in ((1, 1), (2, 2)):
    x, weight = torch.randn(1, 256, size, size, requires_grad=True), torch.randn(256, 256, 3, 3)
    y = torch.nn.functional.conv2d(x, weight, padding=1, stride=stride)
    gradient = torch.randn_like(y)
    for _ in range(400):
        (back,) = torch.autograd.grad(y, x, gradient, retain_graph=True)
        found.add(back.numpy().tobytes())
print(len(found))
"""
"""Gradients of small convolutions, such as those at the end of the identity network."""


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core: nothing is shared")
def test_repeated_gradients_of_small_convolutions_are_bit_identical() -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MKL_")}
    done = subprocess.run([sys.executable, "-c", MANY], env=clean, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2"]
