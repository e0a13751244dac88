"""Kills the learning of a style at random moments, resumes it, and compares the end with an uninterrupted run.

    python -m benchmarks.interrupt EXEMPLARS [--kills 10] [--pairs 12] [--size 96] [--steps 60] [--seed 0]

Each run is a process of its own that gets SIGKILL; a moment is drawn evenly from a quarter of what an uninterrupted run
takes, so that kills befall its beginning as well as its end, to which what was kept brings the next run.
Prints one JSON document: what was under way at each kill, seconds of the parts of each learning, and whether all styles
are equal tensor by tensor.
Exits with 1 where they are not.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from agile3d_cli.bundle import read_style
from agile3d_cli.style import material
from agile3d_cli.style.config import NewStyleConfig, Preset
from agile3d_cli.style.pipeline import learn_style

NAME = "killed"
SHARE = 0.25
LONGEST = 4
"""A run that has not ended after this many times the usual number of starts never will."""


def tensors_hash(bundle: Path) -> str:
    """SHA-256 of names and values of all tensors of a style."""
    found = hashlib.sha256()
    for name, value in sorted(read_style(bundle).tensors.items()):
        found.update(name.encode() + value.contiguous().numpy().tobytes())
    return found.hexdigest()


def run(args: argparse.Namespace, output: Path) -> subprocess.Popen[str]:
    """Starts to learn the style, or goes on; its output is a line for each stage that begins."""
    words = [str(args.exemplars), "--into", str(output), "--seed", str(args.seed)]
    for name in ("pairs", "size", "steps"):
        words += [f"--{name}", str(getattr(args, name))]
    command = [sys.executable, "-m", "benchmarks.interrupt", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def learn(args: argparse.Namespace) -> None:
    """The process that is killed."""
    vars(material)["PRESET_WORK"] = {"fast": Preset(args.pairs, args.size, args.steps)}
    before = ""

    def progress(stage: str, share: float) -> None:
        nonlocal before
        if stage != before:
            sys.stdout.write(f"{stage}\n")
            sys.stdout.flush()
        before = stage

    learn_style(args.exemplars, args.into, NewStyleConfig(NAME, resume=True, seed=args.seed), progress)


def until_done(args: argparse.Namespace, output: Path, moments: list[float]) -> tuple[list[str], list[float]]:
    """Learns the style in ``output``, killed after each of these seconds; tells what was under way, and the seconds."""
    under_way, seconds = list[str](), list[float]()
    for number in range(LONGEST * (len(moments) + 1)):
        started, process = time.perf_counter(), run(args, output)
        try:
            process.wait(moments[number] if number < len(moments) else None)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
        told = process.communicate()[0].split("\n")[:-1]
        seconds.append(round(time.perf_counter() - started, 1))
        if process.returncode == 0:
            return under_way, seconds
        if process.returncode != -signal.SIGKILL:
            sys.exit(f"the run ended with exit code {process.returncode}")
        under_way.append(told[-1] if told else "start")
    sys.exit("the runs never come to an end")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exemplars", type=Path)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--pairs", type=int, default=12, help="stylized faces")
    parser.add_argument("--size", type=int, default=96, help="their edge, pixels")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.into:
        learn(args)
        return
    with tempfile.TemporaryDirectory() as folder:
        places = [Path(folder) / "whole"]
        _, (usual,) = until_done(args, places[0], [])
        chance = random.Random(args.seed)
        under_way, seconds = list[str](), list[list[float]]()
        # A resumed run may end before its moment: the kills that are left befall a further learning.
        while len(under_way) < args.kills:
            places.append(Path(folder) / f"killed-{len(places)}")
            moments = [chance.uniform(0, SHARE * usual) for _ in range(args.kills - len(under_way))]
            stages, took = until_done(args, places[-1], moments)
            under_way += stages
            seconds.append(took)
        hashes = [tensors_hash(place / f"{NAME}.safetensors") for place in places]
    same = len(set(hashes)) == 1
    result: dict[str, Any] = {"uninterrupted_seconds": usual, "killed_at": under_way, "seconds": seconds}
    sys.stdout.write(json.dumps({**result, "sha256": hashes[0], "same": same}, indent=2) + "\n")
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
