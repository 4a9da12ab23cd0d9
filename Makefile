# Every path here is relative, because make splits names at spaces; and modules are run with `python -m`, because the
# scripts in .venv/bin name their interpreter by its absolute path, which some systems cut at a space or at 127 letters.

PYTHON ?= python3
EXTRAS ?= train,jupyter,sample,earthengine,emulator,stac,geostat,dev
RESULTS := runs/deforestation

# The kernel called python3 is to be the one in .venv, whatever other kernels of that name the user has installed.
export JUPYTER_PREFER_ENV_PATH := 1
unexport JUPYTER_PATH
# Nor are modules from elsewhere to shadow what is installed in .venv.
unexport PYTHONPATH
export PIP_DISABLE_PIP_VERSION_CHECK := 1
RUN := PATH="$$PWD/.venv/bin:$$PATH" .venv/bin/python -m

# Written last, so that an interrupted installation is taken up again. It holds the folder and the extras: an
# editable installation does not survive a move of the folder.
STAMP := .venv/installed
INSTALLED := $(shell .venv/bin/python -c "" 2>/dev/null && \
	test "$$(cat $(STAMP) 2>/dev/null)" = "$$(pwd -P) $(EXTRAS)" && echo yes)
ifneq ($(INSTALLED),yes)
.PHONY: $(STAMP)
endif

.DEFAULT_GOAL := help
.PHONY: help demo test test-ui lab format clean

help: ## list these targets
	@echo "usage: make TARGET [PYTHON=python3.12]"
	@sed -n 's/^\([a-z-]*\):.*## /  \1	/p' Makefile

demo: $(STAMP) ## map a real forest and when it was cut, into runs/deforestation (minutes)
	@mkdir -p $(RESULTS)
# papermill saves after every cell: under another name, until the last one has run.
	$(RUN) papermill --kernel python3 notebooks/finetune_deforestation.ipynb $(RESULTS)/notebook.partial.ipynb
	@mv $(RESULTS)/notebook.partial.ipynb $(RESULTS)/notebook.ipynb
	@echo
	@echo "The results are in $$PWD/$(RESULTS):"
	@ls $(RESULTS)
	@echo "Look at loss_map.png first; 'make lab' opens the notebook."

test: $(STAMP) ## style, types, tests, and every notebook in its quick form
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy
# By file: what a file prepares is prepared once. One test, one thread; as many at a time as there are cores.
	$(RUN) pytest -n auto --dist loadfile
	TIMO_QUICK=1 $(RUN) pytest --nbval-lax --nbval-current-env notebooks

# A browser of the system or of Playwright's; `apt-get` needs root.
test-ui: $(STAMP) ## the workbench in a real browser (installs Chromium when root)
	@.venv/bin/python tests/ui/find_browser.py || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
		&& apt-get update -q && apt-get install -y -q chromium; } || { \
		echo "No Chromium. Install it: 'sudo apt-get install -y chromium'," \
			"or '.venv/bin/python -m playwright install chromium'." >&2; exit 1; }
	$(RUN) pytest -m ui tests/ui

lab: $(STAMP) ## open JupyterLab
	$(RUN) jupyterlab $(LAB_FLAGS)

format: $(STAMP) ## lay the code out as `make test` wants it
	$(RUN) ruff check --fix
	$(RUN) ruff format

clean: ## remove the environment and what tools left behind; results in runs/ stay
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "timo needs Python 3.11 or newer; '$(PYTHON)' is missing or older." \
			"Install one, or name it: make $(or $(MAKECMDGOALS),demo) PYTHON=python3.12" >&2; \
		exit 1; }
	@rm -f $(STAMP)
	@.venv/bin/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| "$(PYTHON)" -m venv --clear .venv
	.venv/bin/python -m pip install -c constraints.txt -e ".[$(EXTRAS)]"
	@echo "$$(pwd -P) $(EXTRAS)" > $(STAMP)
