# Everything a newcomer needs; each target sets up what it lacks. Needs Python 3.11 or newer, git and make.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || echo python3)
BIN := .venv/bin
STAMP := .venv/.installed
SPARK := .venv/.spark
PEERS := .venv-peers/.installed

.PHONY: setup spark demo test lint format dev serve status bench-platform bench-io bench-swap bench-corruptions bench-handbook bench-features bench-imbalance bench-registrations bench-datasets bench-drift bench-promotion check-bento lock clean bench-backtest bench-explanations bench-serving

setup: $(STAMP)  ## a .venv with the locked packages, hashes checked

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.lock
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

# Apart from the rest, because it has 0.4 GB: for FRAUD_ENGINE=spark, and for the tests of it. Spark needs Java, too.
spark: $(SPARK)

$(SPARK): requirements-spark.lock $(STAMP)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements-spark.lock
	@touch $(SPARK)

demo: setup  ## six simulated months to a promoted, packaged model
	$(BIN)/fraud run --from 2025-01 --to 2025-06

# What a module sets up is for one worker. How many there are, and that long modules come first, is in conftest.py.
test: setup spark lint  ## every check and test
	$(BIN)/python -m fraud_assets_tests.once_more --numprocesses auto --dist loadfile --no-loadscope-reorder

lint: setup  ## format, lint, types, import rule
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

dev: setup  ## Dagster UI on 3000 with daemon and sensor, MLflow UI on 5001
	$(BIN)/fraud dev

serve: setup  ## the promoted bento on 5000
	$(BIN)/fraud serve

status: setup
	$(BIN)/fraud status

bench-platform: setup  ## the platform against a bare script doing the same computing
	$(BIN)/python -m benchmarks.platform

bench-explanations: setup  ## what reason codes cost, beside SHAP
	$(BIN)/python -m benchmarks.explanations

bench-io: setup  ## a month into Postgres and out of it, against server-side COPY of the same rows
	$(BIN)/python -m benchmarks.io

bench-swap: setup  ## a running service follows a promotion and a rollback in this home, under load
	$(BIN)/python -m benchmarks.swap

# Needs wrk, for example from `apt-get install wrk`.
bench-serving: setup  ## the service under load, beside FastAPI: ready features, raw transactions, overload, exactness
	$(BIN)/python -m benchmarks.serving

bench-corruptions: setup  ## 5,000 random corruptions of files: nothing is lost or changed in silence
	$(BIN)/python -m benchmarks.corruptions

bench-handbook: setup  ## the published protocol of the Fraud Detection Handbook, its models and the platform's
	$(BIN)/python -m benchmarks.handbook

bench-features: setup  ## the platform's features against pandas' rolling windows, and against bare SQL
	$(BIN)/python -m benchmarks.features

bench-imbalance: setup  ## what class weights, undersampling and SMOTE bring on the Handbook's folds
	$(BIN)/python -m benchmarks.imbalance

bench-registrations: setup  ## account registrations out of time: the platform beside plain models on the raw columns
	$(BIN)/python -m benchmarks.tabular

bench-datasets: setup  ## other people's files: from the file alone to a live model, and out of time (DATA=, CONTRACT= for yours)
	$(BIN)/python -m benchmarks.datasets $(if $(DATA),--data $(DATA)) $(if $(CONTRACT),--contract $(CONTRACT))

bench-drift: setup $(PEERS)  ## how often the drift report is wrong, what it finds and costs, beside evidently and NannyML (KEEP=folder to resume)
	$(BIN)/python -m benchmarks.drift $(if $(KEEP),--keep $(KEEP))

# An environment of their own: evidently does not load with pandas 3, which the platform has.
$(PEERS): requirements-peers.lock $(STAMP)
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-peers
	$(BIN)/uv pip install --quiet --compile-bytecode --python .venv-peers --require-hashes -r requirements-peers.lock
	@touch $(PEERS)
bench-promotion: setup  ## how often the promotion decision is wrong: equal pairs over twelve looks, better ones over three
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.promotion

bench-backtest: setup  ## does the drift sensor pay? a simulated year in which fraud changes, under retraining policies
	$(BIN)/python -m benchmarks.backtest

check-bento: setup  ## serve the bento with only its own requirements, and compare with `fraud score`
	$(BIN)/python -m benchmarks.bento_alone

# Of the peers: evidently does not load with pandas 3, NannyML asks for no statsmodels and needs it, and the kaleido that
# would be chosen for it is built for one processor only.
lock: setup  ## requirements.lock from pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes --no-emit-index-url --quiet --output-file requirements.lock
	echo 'pyspark>=4' | $(BIN)/uv pip compile - --universal --python-version 3.11 --generate-hashes --no-emit-index-url --quiet --output-file requirements-spark.lock
	printf '%s\n' evidently==0.7.23 nannyml==0.13.1 statsmodels 'pandas<3' pyarrow 'kaleido!=0.2.1.post1' | $(BIN)/uv pip compile - --universal --python-version 3.11 --generate-hashes --no-emit-index-url --quiet --output-file requirements-peers.lock
	printf '%s\n' dagster-k8s boto3 | $(BIN)/uv pip compile - --constraint requirements.lock --universal --python-version 3.11 --generate-hashes --no-emit-index-url --quiet --output-file deploy/kubernetes/requirements.lock
	echo uv | $(BIN)/uv pip compile - --universal --python-version 3.11 --generate-hashes --no-emit-index-url --quiet --output-file requirements-uv.lock

clean:  ## stop the embedded database and remove what was made
	-@test -x $(BIN)/fraud && $(BIN)/fraud db stop
	rm -rf .fraud .venv .venv-peers .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info build
