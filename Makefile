# make book: set up, run every chapter, render the site.   make test: set up, run the tests.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.stamp
export OMP_NUM_THREADS := 1

# make table: any Python with torch and numpy will do; the book's own where it is set up
MINUTES ?= 9
DATA    ?=
TRAINER := $(if $(wildcard $(STAMP)),$(BIN)/python,$(PYTHON))

# make pdf: pages of the built site on paper
PAGES    ?= notebooks/primer
CHROMIUM ?= $(firstword $(shell command -v chromium chromium-browser google-chrome))
PRINTER  := --headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking \
            --virtual-time-budget=30000 --no-pdf-header-footer

.PHONY: book run test lint format test-site ledger table table-small pdf clean help

help:
	@echo "make book       run every chapter and render the site into _build/html"
	@echo "make test       run ruff and the tests"
	@echo "make format     let ruff write the code as make test wants it"
	@echo "make run        run the chapters only (incremental)"
	@echo "make ledger     show every claim of the executed chapters"
	@echo "make table      run missing rows of the CIFAR table for MINUTES=9, with DATA=DIR"
	@echo "make table-small  the same for the small protocol, which needs no GPU"
	@echo "make test-site  drive the rendered site in a headless browser; npm, where it is, fetches axe-core"
	@echo "make pdf        print pages of the built site, PAGES='notebooks/primer book/index', by Chromium"
	@echo "make clean      remove what the build made (the environment stays)"

# torch comes without hashes: which of its files is right depends on the machine
$(STAMP): requirements-hashes.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; set PYTHON=...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-hashes.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

run: $(STAMP)
	$(BIN)/mflib run

book: $(STAMP)
	$(BIN)/mflib run
	$(BIN)/jupyter-book build . --warningiserror --nitpick --keep-going
	@echo "open _build/html/index.html"

test: $(STAMP) lint
	$(BIN)/python -m pytest -n 2 -m "not site"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test-site: $(STAMP)
	$(BIN)/python -m pytest -n 2 -m site

ledger: $(STAMP)
	$(BIN)/mflib ledger

table:
	$(TRAINER) -m mflib.cifar all --minutes $(MINUTES) $(if $(DATA),--data $(DATA)) $(ARGS)
	-$(TRAINER) -m mflib.cifar table

table-small:
	$(TRAINER) -m mflib.cifar all --protocol small --minutes $(MINUTES) $(if $(DATA),--data $(DATA)) $(ARGS)
	-$(TRAINER) -m mflib.cifar table

pdf:
	@test -n "$(CHROMIUM)" || { echo "no Chromium found: install it, or set CHROMIUM=..."; exit 1; }
	@for page in $(PAGES); do \
	  test -f _build/html/$$page.html || { echo "$$page: no such page; make book first"; exit 1; }; \
	  mkdir -p _build/pdf/$$(dirname $$page) && home=$$(mktemp -d) && \
	  $(CHROMIUM) $(PRINTER) --user-data-dir=$$home --print-to-pdf=_build/pdf/$$page.pdf \
	    "file://$(CURDIR)/_build/html/$$page.html" 2>/dev/null && \
	  rm -rf $$home && echo "_build/pdf/$$page.pdf" || exit 1; \
	done

clean:
	rm -rf _build
