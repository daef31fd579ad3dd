.PHONY: check test test-ref bench

check:
	ruff check .
	ruff format --check .
	mypy

test:
	pytest -n 2 --dist loadfile

test-ref:
	BRAIDLM_OPS=reference pytest -n 2 --dist loadfile tests/ops tests/state tests/families

bench:
	python -m benchmarks.table
