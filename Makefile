# make demo: crop and score a few pictures. make test: the test suite. Both make .venv first.
# make container-check: build the image and ask it (docs/service.md). make lock: what it is built of.
PYTHON ?= python3
BIN = .venv/bin

.PHONY: demo test lint container-check lock clean

demo: .venv/demo
	$(BIN)/python -m ffdetect.demo cache/demo/pictures examples/portraits/*.jpg --sheet cache/demo/verdicts.png
	$(BIN)/ffdetect crop cache/demo/pictures --out cache/demo/faces --overwrite
	$(BIN)/ffdetect gallery cache/demo/faces --out cache/demo/sheet.png
	$(BIN)/ffdetect predict cache/demo/pictures --out cache/demo/prediction.txt
	$(BIN)/ffdetect predict examples/portraits --out cache/demo/portraits.txt
	@echo
	@echo "pictures  cache/demo/pictures"
	@echo "cache     cache/demo/faces (what scoring reads; ffdetect crop --help says how to keep more)"
	@echo "crops     cache/demo/sheet.png shows them beside their maps"
	@echo "verdicts  cache/demo/verdicts.png: a photograph, and six portraits that no training has seen"
	@echo "scores    cache/demo/prediction.txt (0 real ... 1 fake):"
	@cat cache/demo/prediction.txt
	@echo "six generated portraits, no training has seen them:"
	@cat cache/demo/portraits.txt

test: .venv/test
	$(BIN)/python -m pytest

lint: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

container-check:
	sh container/check.sh

lock:
	rm -rf build/lock
	$(PYTHON) -m venv build/lock
	build/lock/bin/pip install -q ".[serve,provenance,heic]"
	( echo "# By \`make lock\`, for Python 3.11 on Linux. CUDA's libraries, where torch has them, torch chooses."; \
	build/lock/bin/pip freeze --exclude ffdetect | grep -v '^\(nvidia-\|cuda-\|triton\)' ) > requirements.lock

# A stamp for each set of extras, renewed when the dependencies change.
.venv/%: setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install -q -e ".[$*]"
	touch $@

clean:
	rm -rf .venv cache/demo build *.egg-info
