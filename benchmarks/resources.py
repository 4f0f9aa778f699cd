"""What the CUDA kernels take of a multiprocessor, as the compiler reports it; no device is needed.

`python -m benchmarks.resources` compiles them with `-Xptxas -v`, prints a table, writes it into
docs/cuda.md, and exits with 1 where a kernel spills registers.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "cuda.md"
BEGIN, END = "<!-- resources -->", "<!-- end of resources -->"

_ENTRY = re.compile(r"Compiling entry function '(\S+)' for '(\S+)'")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")


@dataclass(frozen=True, order=True)
class Kernel:
    """One kernel of one architecture; shared memory is what the kernel declares itself."""

    name: str
    registers: int
    stack: int
    spilled: int
    shared: int


def parse(log: str) -> list[Kernel]:
    """The kernels of a compiler's log, by demangled name."""
    found = []
    parts = _ENTRY.split(log)[1:]
    for symbol, text in zip(parts[::3], parts[2::3], strict=True):
        stack, used, shared = _STACK.search(text), _USED.search(text), _SHARED.search(text)
        if stack is None or used is None:
            raise ValueError(f"{symbol}: the compiler's report is not as expected")
        spilled = int(stack[2]) + int(stack[3])
        bytes_shared = 0 if shared is None else int(shared[1])
        found.append(Kernel(symbol, int(used[1]), int(stack[1]), spilled, bytes_shared))
    names = _demangled([kernel.name for kernel in found])
    return sorted(
        Kernel(name, k.registers, k.stack, k.spilled, k.shared)
        for name, k in zip(names, found, strict=True)
    )


def markdown(kernels: list[Kernel], arch: str) -> str:
    """A table for people."""
    lines = [f"`{arch}`, {len(kernels)} kernels:", ""]
    lines += ["| kernel | registers | stack, bytes | spilled, bytes | static shared, bytes |"]
    lines += ["| --- | ---: | ---: | ---: | ---: |"]
    lines += [
        f"| `{k.name}` | {k.registers} | {k.stack} | {k.spilled} | {k.shared} |" for k in kernels
    ]
    return "\n".join(lines)


def compile_all(arch: str, folder: Path) -> str:
    """Compiles the kernels afresh and returns the log."""
    configure = ["cmake", "-S", ROOT, "-B", folder, "-G", "Ninja", "-DLABELPENET_CUDA=ON"]
    configure += [f"-DLABELPENET_CUDA_ARCHS={arch}-real", "-DCMAKE_CUDA_FLAGS=-Xptxas -v"]
    pybind11 = subprocess.check_output([sys.executable, "-m", "pybind11", "--cmakedir"], text=True)
    configure += [f"-Dpybind11_DIR={pybind11.strip()}", f"-DPython_EXECUTABLE={sys.executable}"]
    subprocess.run(configure, check=True, capture_output=True)
    build = ["cmake", "--build", folder, "--target", "labelpenet_cuda", "--clean-first"]
    return subprocess.run(build, check=True, capture_output=True, text=True).stdout


def main(arguments: list[str] | None = None) -> int:
    """Prints the table and puts it into the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.resources", description=__doc__)
    parser.add_argument("--arch", default="90", help="compute capability without the dot")
    parser.add_argument("--log", type=Path, help="a log of nvcc -Xptxas -v; nothing is compiled")
    options = parser.parse_args(arguments)
    folder = ROOT / "build" / "resources"
    log = options.log.read_text() if options.log else compile_all(options.arch, folder)
    kernels = parse(log)
    table = markdown(kernels, f"sm_{options.arch}")
    print(table)
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{table}\n{END}{rest.partition(END)[2]}")
    return int(not kernels or any(kernel.spilled for kernel in kernels))


def _demangled(symbols: list[str]) -> list[str]:
    """Without namespaces and arguments."""
    done = subprocess.run(
        ["c++filt"], input="\n".join(symbols), text=True, capture_output=True, check=True
    )
    names = []
    for line in done.stdout.splitlines():
        name = re.sub(r"labelpenet::|\(anonymous namespace\)::|^void ", "", line)
        name = re.sub(r"\((int|bool)\)", "", name)
        names.append(_without_arguments(name))
    return names


def _without_arguments(name: str) -> str:
    """Up to the parenthesis that opens the list of arguments."""
    depth = 0
    for i, character in enumerate(name):
        depth += {"<": 1, ">": -1}.get(character, 0)
        if character == "(" and depth == 0:
            return name[:i]
    return name


if __name__ == "__main__":
    raise SystemExit(main())
