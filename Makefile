# Needs make and Python 3.11 or newer with venv; all else is installed into .venv.
PYTHON ?= $(shell command -v python3.11 || echo python3)
VENV := .venv
RUN := $(VENV)/bin/python -m
INSTALL := $(RUN) pip --disable-pip-version-check install

.PHONY: demo test test-slow test-cluster test-all lint format

# A fit on real photographs with real weights: about five minutes on two cores, once everything is installed.
demo: $(VENV)/.demo
	$(RUN) defectloc.train data=elpv subset=mono fold=0 data.limit=240

test: lint
	$(RUN) pytest -m "not slow" --numprocesses 2 --dist worksteal

test-slow: $(VENV)/.cluster $(VENV)/.browser $(VENV)/.trackers
	$(RUN) pytest -m slow

# What needs a launcher's package, a Slurm or buildah is skipped with a reason where that is missing.
test-cluster: $(VENV)/.cluster
	$(RUN) pytest -m slow -rs tests/cluster

test-all:
	$(MAKE) test
	$(MAKE) test-slow

lint: $(VENV)/.dev
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy

format: $(VENV)/.dev
	$(RUN) ruff check --fix
	$(RUN) ruff format

# The stamps keep pip, which brings several GB, from running again before pyproject.toml changes.
$(VENV)/.demo: pyproject.toml | $(VENV)/.created
	@echo "Installing into $(VENV): torch brings several GB of CUDA libraries, so the first time takes a while."
	$(INSTALL) --editable '.[offline,demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.created
	@echo "Installing into $(VENV): torch brings several GB of CUDA libraries, so the first time takes a while."
	$(INSTALL) --editable '.[offline,demo,explain,export,openvino,dev]'
	@touch $@ $(VENV)/.demo

# Optional: tests that need these packages are skipped without them. No stamp then, so that the next run tries again.
$(VENV)/.cluster: $(VENV)/.dev
	@if $(INSTALL) --quiet --editable '.[cluster,ray,tune]'; then touch $@; else \
		echo "The extras 'cluster', 'ray' and 'tune' could not be installed; their tests are skipped." >&2; fi

$(VENV)/.browser: $(VENV)/.dev
	@if $(INSTALL) --quiet --editable '.[browser]'; then touch $@; else \
		echo "The extra 'browser' could not be installed; its tests are skipped." >&2; fi

$(VENV)/.trackers: $(VENV)/.dev
	@if $(INSTALL) --quiet --editable '.[tensorboard,mlflow]'; then touch $@; else \
		echo "The extras 'tensorboard' and 'mlflow' could not be installed; their tests are skipped." >&2; fi

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null || { echo "'$(PYTHON)' is not \
	Python 3.11 or newer, which defectloc needs; name one with 'make PYTHON=/path/to/python3.11 ...'." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@
