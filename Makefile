# Two commands for a new user: `make demo` and `make test`. Everything lands in .venv and demo.

PYTHON ?= python3.11
VENV ?= .venv
BIN = $(VENV)/bin
PARTICIPANTS ?= 2

.PHONY: demo evaluate test lint clean

demo: $(VENV)/.installed
	rm -rf demo
	$(BIN)/scsnet-bids-phantom demo/data --participants $(PARTICIPANTS)
	$(BIN)/scsnet-bids demo/data demo/out participant --work-dir demo/work
	$(BIN)/scsnet-bids demo/data demo/out group
	@echo
	@echo "Region tables, one per participant:"
	@ls demo/out/sub-*/dwi/*_seg-SCSNet_scalarstats.tsv
	@echo "All participants together:"
	@ls demo/out/group_*.tsv

# The figures of the README: phantoms that nothing was tuned on, against their known truth.
evaluate: $(VENV)/.installed
	rm -rf demo/evaluation
	$(BIN)/scsnet-bids-phantom demo/evaluation/data --participants 8 --seed 2025 --motion-mm 0.9
	$(BIN)/scsnet-bids demo/evaluation/data demo/evaluation/out participant \
		--work-dir demo/evaluation/work
	$(BIN)/scsnet-bids-evaluate demo/evaluation/data demo/evaluation/out

test: $(VENV)/.installed-test
	$(BIN)/pytest

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell scsnet_bids workflows boilerplate tests docs *.md Makefile setup.cfg
	# Types and layers are checked on the package as it installs: the folder mapping hides
	# workflows/ from static tools in the source tree.
	rm -rf build/installed
	$(BIN)/pip install --quiet --no-deps --target build/installed .
	cd build/installed && ../../$(BIN)/mypy --config-file ../../pyproject.toml -p scsnet_bids
	cd build/installed && ../../$(BIN)/lint-imports --config ../../pyproject.toml

$(VENV)/.installed: setup.cfg constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $@

clean:
	rm -rf $(VENV) build demo work *.egg-info
