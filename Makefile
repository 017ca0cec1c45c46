# Two commands for a new user: `make demo` and `make test`. Everything lands in .venv and demo.

PYTHON ?= python3.11
VENV ?= .venv
BIN = $(VENV)/bin
PARTICIPANTS ?= 2

.PHONY: demo evaluate benchmark test test-slow lint docs clean

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

# All figures of the documents: phantoms that nothing was tuned on and, where the folders exist,
# real scans. Writes docs/evaluation.md and the figures of the README.
GM_CHALLENGE ?= ../shared/data/gm-challenge
GM_HELD_OUT ?= 9604 9709Ses1 9709Ses2
EPI ?= ../shared/data/epi-mean/data_leipzig_rest/derivatives
DS_CORD ?= ../shared/data/ds-cord
evaluate: $(VENV)/.installed
	rm -rf demo/evaluation
	$(BIN)/scsnet-bids-phantom demo/evaluation/data --participants 20 --seed 2025 --motion-mm 0.9 \
		--compressed 10 --compression 0.4
	$(BIN)/scsnet-bids demo/evaluation/data demo/evaluation/out participant \
		--work-dir demo/evaluation/work
	$(BIN)/scsnet-bids demo/evaluation/data demo/evaluation/out-dwi participant \
		--segment-from b0+dwi --work-dir demo/evaluation/work
	test ! -d $(DS_CORD) || $(BIN)/scsnet-bids $(DS_CORD) demo/evaluation/cord participant \
		--work-dir demo/evaluation/work-cord
	test ! -d $(DS_CORD) || $(BIN)/scsnet-bids $(DS_CORD) demo/evaluation/cord-dwi participant \
		--segment-from b0+dwi --work-dir demo/evaluation/work-cord
	$(BIN)/python docs/write_evaluation.py demo/evaluation \
		$(if $(wildcard $(GM_CHALLENGE)),--gray $(GM_CHALLENGE) $(GM_HELD_OUT)) \
		$(if $(wildcard $(EPI)),--epi $(EPI)/moco $(EPI)/label) \
		$(if $(wildcard $(DS_CORD)),--cord $(DS_CORD) demo/evaluation/cord demo/evaluation/cord-dwi $(DS_CORD)/derivatives/meandwi)
	test ! -d $(DS_CORD) || $(BIN)/python docs/make_picture.py demo/evaluation/cord sub-01

# Speed and quality beside other tools, on this machine; the tables of docs/benchmarks.md.
BENCHMARK ?= --full
benchmark: $(VENV)/.installed
	$(BIN)/scsnet-bids-benchmark all $(BENCHMARK) --out demo/benchmark \
		$(if $(wildcard $(DS_CORD)),--data $(DS_CORD) --cord-masks $(DS_CORD)/derivatives/meandwi) \
		$(if $(wildcard $(GM_CHALLENGE)),--shapes $(GM_CHALLENGE)/derivatives/labels \
		--held-out $(GM_HELD_OUT))
	$(BIN)/python docs/write_benchmarks.py demo/benchmark

test: $(VENV)/.installed-test
	$(BIN)/pytest

# Runs that are killed, starved of space, or repeated; KILLS is the number of moments to kill at.
KILLS ?= 20
test-slow: $(VENV)/.installed-test
	SCSNET_KILLS=$(KILLS) $(BIN)/pytest -m slow

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell scsnet_bids workflows boilerplate tests docs *.md Makefile setup.cfg
	# Types and layers are checked on the package as it installs: the folder mapping hides
	# workflows/ from static tools in the source tree.
	rm -rf build
	$(BIN)/pip install --quiet --no-deps --target build/installed .
	cd build/installed && ../../$(BIN)/mypy --config-file ../../pyproject.toml -p scsnet_bids
	cd build/installed && ../../$(BIN)/lint-imports --config ../../pyproject.toml

# The documentation as pages, in build/docs/index.html; a warning ends it.
docs: $(VENV)/.installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[docs]"
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs build/docs

$(VENV)/.installed: setup.cfg constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $@

clean:
	rm -rf $(VENV) build demo work *.egg-info
