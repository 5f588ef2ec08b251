PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup quickstart results peers schema check audit test test-slow test-faults fuzz test-slurm test-gpu test-determinism statistics bench scale bench-gpu docs errors screenshots test-tutorial test-trackers notebook clean

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

quickstart: setup
	$(BIN)/lwspec run specs/quickstart.toml --paper paper/

# The whole plan on real data, at the paths that specs/tiny.toml names: an hour on two cores.
results: setup
	$(BIN)/lwspec run specs/tiny.toml --paper paper/
	cp paper/results.md docs/results.md

# Peers' methods and controls on real data, at the paths that specs/tiny_peers.toml names: an hour.
peers: setup
	$(BIN)/lwspec run specs/tiny_peers.toml --paper paper/
	cp paper/results.md docs/peers.md

# What editors complete and check specs with.
schema: setup
	$(BIN)/lwspec schema > specs/lwspec.schema.json

# The site, in build/site, without a network: open build/site/index.html. Its reference is made of
# what the code declares.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# What the examples of tests/errors print now; read the difference before it is committed.
errors: setup
	PYTHONPATH=. $(BIN)/python tests/catalogue.py

# Pictures of a real toy run for the site: three minutes, with Chromium.
screenshots: setup
	$(BIN)/python -m pages.screenshots

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python tests/audit.py constraints.txt

# Known weaknesses of the pinned packages; says so where no service could be asked.
audit: setup
	$(BIN)/python tests/audit.py constraints.txt

test: check
	$(BIN)/pytest

# What takes half a minute or more for each test.
test-slow: setup
	$(BIN)/pytest -m slow

# Everything that is read, damaged by a fuzzer: about fifteen minutes on two cores. Needs atheris,
# which PyPI has for Linux on x86.
fuzz: setup
	$(BIN)/python -m tests.fuzz --page docs/reliability_fuzz.md

# Starts clusters of its own from Debian's packages, which it installs where they are missing.
test-slurm: setup
	command -v slurmctld >/dev/null || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
		apt-get install -y -qq --no-install-recommends $$(cat tests/slurm/packages.txt); }
	$(BIN)/pytest -m slurm -n 0 --durations=10

# Over a thousand faults over hundreds of plans, and their figures: 15 to 20 minutes on two cores.
# LWSPEC_FAULT_SEED=2 draws other schedules; the same seed repeats them.
test-faults: setup
	rm -rf build/faults
	LWSPEC_FAULT_FIGURES=build/faults OMP_NUM_THREADS=1 $(BIN)/pytest -m faults -n 0 -s tests/faults
	PYTHONPATH=tests $(BIN)/python -m faults.figures build/faults docs/reliability_faults.md

# On a machine with a GPU; what makes training cheap there is held against the plain way.
test-gpu: setup
	$(BIN)/pytest -m gpu -n 0

# Every arm but llmlingua, which needs a download, twice, to the same bytes: some minutes.
test-determinism: setup
	$(BIN)/pytest -m every_arm -n 0

# What the tutorial says, typed in its order: some minutes.
test-tutorial: setup
	$(BIN)/pytest -m tutorial -n 0

# Exports read back with the clients of MLflow and Weights & Biases, which it installs: 120 MB.
test-trackers: setup
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[mlflow,wandb]'
	$(BIN)/pytest -n 0 tests/test_export.py

# What docs/notebook.ipynb shows, from a run of this code.
notebook: setup
	$(BIN)/python tests/notebook.py

# How far the intervals and tests can be trusted, by simulation: about five minutes on one core.
statistics: setup
	$(BIN)/python bench/interval_coverage.py docs/statistics.md

bench: setup
	$(BIN)/python bench/command_line.py
	$(BIN)/python bench/report.py
	$(BIN)/python bench/submission.py
	$(BIN)/python bench/whole_plan.py specs/quickstart.toml "*topic*"

# 100,000 runs and 10 million metric points, written, recorded and looked at.
scale: setup
	$(BIN)/python bench/many_runs.py docs/reliability_scale.md

# The published pair on a GPU of 80 GB: two minutes.
bench-gpu: setup
	$(BIN)/python bench/large.py docs/performance.md

clean:
	rm -rf .venv build *.egg-info
