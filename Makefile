# Two commands: `make app` opens the dashboard, `make test` runs everything that CI runs.
# `make LOCKED=1 ...` installs exactly the tested set, checked by its hashes: see requirements.lock.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TOOLS := $(VENV)/tools
install = $(BIN)/python -m pip install --quiet $(if $(LOCKED),--require-hashes -r requirements.lock,-r $(1))

.PHONY: app test fuzz lint docs pictures looks audit release lock sbom clean

app: $(VENV)/.app
	$(BIN)/streamlit run app.py

# One process more than cores, because many tests wait for a browser or for another process.
WORKERS = $(shell $(PYTHON) -c "import os; print(min(4, 1 + (os.cpu_count() or 1)))")
test: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

# Random files, documents and requests: `make fuzz MINUTES=600`. The suite tries the same few in each run.
MINUTES ?= 10
fuzz: $(VENV)/.dev
	end=$$(( $$(date +%s) + 60 * $(MINUTES) )); while [ $$(date +%s) -lt $$end ]; do \
		DCP_FUZZ_EXAMPLES=500 $(BIN)/python -m pytest tests/fuzz --timeout=0 -x || exit 1; done

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documentation, in site/; a broken link or reference is an error.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

# The pictures of the README, taken in Chromium.
pictures: $(VENV)/.dev
	$(BIN)/python -m tools.pictures

# Take the small pictures of all pages again, with which the tests compare them.
looks: $(VENV)/.dev
	DCP_RENEW_LOOKS=1 $(BIN)/python -m pytest tests/browser/test_every_page.py -k looks_as_it_did

# The sample report of an audit: continues for two hours, or shorter with HOURS=0.5.
audit: $(VENV)/.dev
	$(BIN)/python -m dcp_core audit signs-resnet8 --hours $(or $(HOURS),2) --price-per-1000 1 --into precomputed/audit

# The wheel, and the archive of the victims that it leaves out, in dist/.
release: $(VENV)/.dev
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	$(BIN)/python tools/release.py dist

# The tested set with hashes, for Linux on x86-64 with Python 3.11 and a CPU build of torch, which must be in an index
# or folder that pip's settings name.
lock: $(TOOLS)/.made
	$(TOOLS)/bin/uv pip compile --quiet --upgrade --generate-hashes --python-version 3.11 \
		--python-platform x86_64-manylinux_2_28 --custom-compile-command "make lock" \
		$(if $(WHEELS),--find-links $(WHEELS)) --output-file requirements.lock requirements-dev.txt requirements-docs.txt

# What the tested set consists of, in CycloneDX's format, in dist/.
sbom: $(TOOLS)/.made
	mkdir -p dist
	$(TOOLS)/bin/cyclonedx-py requirements --output-format JSON --output-file dist/sbom.json requirements.lock

$(VENV)/.app: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(call install,requirements.txt)
	touch $@

$(VENV)/.dev: requirements.txt requirements-dev.txt requirements-pretrained.txt
	$(PYTHON) -m venv $(VENV)
	$(call install,requirements-dev.txt)
	touch $@ $(VENV)/.app

$(VENV)/.docs: requirements.txt requirements-docs.txt
	$(PYTHON) -m venv $(VENV)
	$(call install,requirements-docs.txt)
	touch $@

$(TOOLS)/.made:
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet "uv>=0.9,<1" "cyclonedx-bom>=7,<8"
	touch $@

clean:
	rm -rf $(VENV)
