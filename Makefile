# Each target is one command of README or CONTRIBUTING.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test bench bench-gate docs build lint format cuda-check cuda-resources clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

demo: $(BIN)/python  ## install and run the demo
	$(BIN)/pip install . && $(BIN)/labelpenet demo

test: $(BIN)/python  ## install with the test extra and run the tests
	$(BIN)/pip install '.[test]' && $(BIN)/python -P -m pytest

# torch and torchvision are the registry's pair: torchvision's kernels load with the torch they were
# built for alone. opencv-python-headless, which labelpenet needs, and the contrib build write the
# same files: the peer among them, selective search, is there if contrib's come last.
.venv-bench/bin/labelpenet: pyproject.toml $(wildcard $(shell git ls-files csrc labelpenet benchmarks))
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/pip install '.[bench]'
	.venv-bench/bin/pip install --no-deps --force-reinstall opencv-contrib-python-headless
	touch $@

bench: .venv-bench/bin/labelpenet  ## time every kernel beside its peers, into benchmarks/results
	$< bench --json benchmarks/results/cpu.json

bench-gate: .venv-bench/bin/labelpenet  ## fail where a kernel lost ground since that was stored
	$< bench --against benchmarks/results/cpu.json

docs:  ## the documentation site into build/site, any warning an error (needs the docs extra)
	mkdocs build --strict

build:  ## compile the extension into labelpenet/, for work in a checkout (needs the dev extra)
	cmake -S . -B build/dev -G Ninja -DLABELPENET_CUDA=$(or $(LABELPENET_CUDA),OFF) \
	  -DPython_EXECUTABLE=$$(which python) -Dpybind11_DIR=$$(python -m pybind11 --cmakedir)
	cmake --build build/dev && cmake --install build/dev --prefix .

lint:  ## what CI checks beside the tests
	ruff check . && ruff format --check .
	mypy
	git ls-files '*.cpp' '*.hpp' '*.cu' '*.cuh' '*.h' | xargs clang-format --dry-run --Werror

format:
	ruff check --fix . ; ruff format .
	git ls-files '*.cpp' '*.hpp' '*.cu' '*.cuh' '*.h' | xargs clang-format -i

cuda-check:  ## on a machine with a CUDA device: build, test, sanitize and time the kernels
	LABELPENET_CUDA=ON $(MAKE) build && python -m benchmarks.device

cuda-resources:  ## registers and spills of the CUDA kernels into docs/cuda.md; needs nvcc, no device
	python -m benchmarks.resources

clean:
	rm -rf build dist labelpenet/_C*.so
