# Each target is one command of README or CONTRIBUTING.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test build lint format cuda-check cuda-resources clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

demo: $(BIN)/python  ## install and run the demo
	$(BIN)/pip install . && $(BIN)/labelpenet demo

test: $(BIN)/python  ## install with the test extra and run the tests
	$(BIN)/pip install '.[test]' && $(BIN)/python -P -m pytest

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
	python -m benchmarks.device

cuda-resources:  ## registers and spills of the CUDA kernels into docs/cuda.md; needs nvcc, no device
	python -m benchmarks.resources

clean:
	rm -rf build dist labelpenet/_C*.so
