# Two commands: `make demo` adapts a small CLIP to bundled images; `make test` runs the tests. Both set up .venv first.
PYTHON ?= python3
BIN := .venv/bin
# what is imported is compiled once and kept, what is not never: installing takes half as long
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-all test-lowest fuzz check format docs tutorial dist bench clean

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q --no-compile -c constraints.txt -e '.[dev]'
	touch $@

demo: .venv/ready
	$(BIN)/farshot demo --out demo

# a process per core; the tests of a file stay together, since they share what is slow to make
test: .venv/ready
	$(BIN)/pytest -m 'not slow' -n auto --maxprocesses 8 --dist loadfile

test-all: test
	$(BIN)/pytest -m slow

# the tests with the lowest versions that pyproject.toml allows, for which PYTHON must be the lowest one, too
test-lowest:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "Run make test-lowest PYTHON=python3.11")'
	$(PYTHON) -m venv --clear .venv-lowest
	.venv-lowest/bin/pip install -q uv
	.venv-lowest/bin/uv pip install -q --python .venv-lowest/bin/python --resolution lowest-direct -e '.[dev]'
	.venv-lowest/bin/pytest -m 'not slow' -n auto --maxprocesses 8 --dist loadfile

# each target for SECONDS, one after the other; findings go to fuzz-found/
SECONDS ?= 600
fuzz: .venv/ready
	$(BIN)/pip install -q -c constraints.txt -e '.[fuzz]'
	$(BIN)/python -m fuzz --seconds $(SECONDS) $(TARGETS)

check: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: .venv/ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: .venv/ready
	$(BIN)/properdocs build --strict --quiet
	@echo "The documentation: site/index.html. To search it, serve it: $(PYTHON) -m http.server -d site"

# runs docs/tutorial.ipynb and writes what its cells print and show into it
tutorial: .venv/ready
	$(BIN)/python -m tools.notebook docs/tutorial.ipynb

# the source distribution, the wheel and the man page, checked; and conda-forge's recipe for them
dist: .venv/ready
	rm -rf build dist
	$(BIN)/python -m tools.man_page man/farshot.1
	$(BIN)/python -m build --no-isolation
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl
	@test -z "$$(find dist -type f -size +10000k)" || { echo "A file in dist/ is larger than 10 MB." >&2; exit 1; }
	$(BIN)/python -m tools.conda_recipe dist/*.tar.gz build/recipe.yaml

bench: .venv/ready
	$(BIN)/farshot bench --pools mini-crops mini-land mini-skin mini-xray --model mini --shots 1 5 --tasks 100 \
		--methods zero-shot prototypes linear-probe tip-adapter clap --store bench.db
	$(BIN)/farshot table --store bench.db

clean:
	rm -rf .venv .venv-lowest demo build dist man site fuzz-found
