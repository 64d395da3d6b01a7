# make demo    encode, decode and measure the samples (sets up .venv-demo, without TensorFlow)
# make test    the tests (sets up .venv-dev, with TensorFlow)
# make test-all    and the slow ones: the wheel installed by itself, training on JAX and on several devices, some further runs
# make test-browser   the page of cvae demo in Chromium, if it is installed; pictures of it -> build/screenshots
# make check   lint, types, import contract
# make fix     format and sort
# make fuzz    containers, packs, models, pictures and archives that nobody wrote, a minute each
# make docs    the documentation site -> site/index.html
# make notebook   runs the notebooks again and keeps what they print and draw
# make bench   ratios of speed -> docs/benchmarks.md; NPZ=mnist.npz: on its test images
# make results DATA=folder-with-npz-files   figures of the shipped models -> docs/results.md
# make results-any-size DATA=...   of these only the pictures of any size

PYTHON ?= python3
DATA ?= $(HOME)/.keras/datasets
DEMO := .venv-demo/bin
DEV := .venv-dev/bin
PAGE := .venv-page/bin

export PIP_DISABLE_PIP_VERSION_CHECK := 1

# The page in a browser takes a minute and a Chromium: it is asked for by its own name.
PYTEST := $(DEV)/pytest -q -n auto --dist worksteal --ignore tests/browser

.PHONY: demo test test-all test-browser check fix fuzz docs notebook bench results results-any-size clean

demo: .venv-demo/installed
	$(DEMO)/python samples/demo.py

test: .venv-dev/installed
	$(PYTEST) -m "not slow"

test-all: .venv-dev/installed
	$(PYTEST)

test-browser: .venv-page/installed
	$(PAGE)/pytest -q -rs tests/browser tests/demo

check: .venv-dev/installed
	$(DEV)/ruff check .
	$(DEV)/ruff format --check .
	$(DEV)/mypy
	$(DEV)/lint-imports

fix: .venv-dev/installed
	$(DEV)/ruff check --fix .
	$(DEV)/ruff format .

fuzz: .venv-dev/installed
	$(DEV)/python -m tests.fuzz build/fuzz $(TARGETS)

docs: .venv-dev/installed
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=src $(DEV)/mkdocs build --quiet

notebook: .venv-dev/installed
	cd docs/notebooks && ../../$(DEV)/jupyter-execute --inplace *.ipynb

bench: .venv-dev/installed
	$(DEV)/python benchmarks/speed.py --out docs/benchmarks.md $(if $(NPZ),--data $(NPZ))

results: .venv-dev/installed
	$(DEV)/python benchmarks/results.py $(DATA) --out docs/results.md

results-any-size: .venv-dev/installed
	$(DEV)/python benchmarks/results.py $(DATA) --out docs/results.md --any-size

.venv-demo/installed: pyproject.toml
	$(PYTHON) -m venv .venv-demo
	$(DEMO)/pip install --quiet --editable .
	touch $@

.venv-dev/installed: pyproject.toml
	$(PYTHON) -m venv .venv-dev
	$(DEV)/pip install --quiet "pip>=25.1"
	$(DEV)/pip install --quiet --editable ".[train,eval,jxl,tensorboard,s3]" --group dev
	touch $@

# Gradio asks for Pillow below 13, so it is not in the environment of the other tests.
.venv-page/installed: pyproject.toml
	$(PYTHON) -m venv .venv-page
	$(PAGE)/pip install --quiet "pip>=25.1"
	$(PAGE)/pip install --quiet --editable ".[demo]" --group page
	touch $@

clean:
	rm -rf .venv-demo .venv-dev .venv-page build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis site
