# reelkind: `make` lists what can be done. Everything lands in .venv, build/ and the user's cache folder.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt
BASE   := $(VENV)/.base-installed
WEB    := $(VENV)/.web-installed
FULL   := $(VENV)/.full-installed
SERVER := $(VENV)/.server-prepared
GATE   := $(VENV)/.gate-installed
PEERS  := $(VENV)/.peers-installed

.DEFAULT_GOAL := help
.PHONY: help setup demo serve web styles test check format train export bench measure gpu-check setup-gate clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(BASE): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "reelkind needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V). Try: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
		{ echo "cannot make $(VENV): on Debian or Ubuntu install the package python3-venv" >&2; exit 1; }
	@echo "installing the client and the command line into $(VENV)"
	@$(PIP) -e '.[serve]'
	@touch $@

$(SERVER): $(BASE) serving/server-constraints.txt
	@$(BIN)/reelkind serve --prepare
	@touch $@

$(WEB): $(BASE)
	@echo "installing the web page into $(VENV)"
	@$(PIP) -e '.[web]'
	@touch $@

$(FULL): $(BASE)
	@echo "installing PyTorch and the development tools into $(VENV) (5.5 GB, about two minutes)"
	@$(PIP) -e '.[serve,train,export,bench,yt8m,web,dev]'
	@touch $@

$(GATE): $(FULL)
	@$(PIP) -e '.[gate]'
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

check: $(FULL) ## formatting, lint, types; TensorRT's parser and builder where TensorRT-RTX is installed
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@mkdir -p build/typing && ln -sfn ../.. build/typing/reelkind  # mypy does not read package-dir
	@$(BIN)/mypy $(addprefix -p reelkind.,core client deployment serving export training web cli benchmarks)
	@if $(BIN)/python -c 'import tensorrt_rtx' 2>/dev/null; then $(BIN)/reelkind export gate --bundle bundles/clip --bundle bundles/lite --bundle bundles/lite2; \
		else echo "gate not run: TensorRT-RTX is not installed (make setup-gate)"; fi

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
	@$(BIN)/python -m reelkind.benchmarks.timeline borders
	@$(BIN)/python -m reelkind.benchmarks.timeline overlap

gpu-check: ## measure on this machine's GPU with the Python packages of $(PYTHON); GPU_ARGS=--dry-run says what
	@mkdir -p build/typing && ln -sfn ../.. build/typing/reelkind
	@PYTHONPATH=build/typing $(PYTHON) -m reelkind.benchmarks.gpu_check \
		--random efficientnet_v2_s --random resnet50 $(GPU_ARGS)

clean: ## remove .venv and build/ (the server environment in the cache folder stays)
	@rm -rf $(VENV) build *.egg-info
