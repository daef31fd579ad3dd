.PHONY: check test test-ref test-ref-slice native sanitize sanitize-slice bench

check:
	ruff check .
	ruff format --check .
	find src -name '*.cpp' -o -name '*.h' | xargs clang-format --dry-run --Werror
	mypy

test:
	pytest -n 2 --dist loadfile

# Tests on the reference path alone; the slice is what CI runs of them.
test-ref: tests = tests/ops tests/state tests/families
test-ref-slice: tests = tests/ops/test_contracts.py tests/state/test_kinds.py tests/families/test_golden.py
test-ref test-ref-slice:
	BRAIDLM_OPS=reference pytest -n 2 --dist loadfile $(tests)

# The native extension alone, from objects that are kept in build/native, to where the installed package looks for it.
native:
	cmake -S . -B build/native -DCMAKE_BUILD_TYPE=Release -DPython_EXECUTABLE="$$(command -v python)"
	cmake --build build/native --parallel "$$(nproc)"
	cmake --install build/native --prefix "$$(python -c 'import sysconfig; print(sysconfig.get_path("platlib"))')"

# Operations under AddressSanitizer and UndefinedBehaviorSanitizer, built apart from the installed extension; the slice
# is what CI runs of them, without the levels of AVX-512. detect_leaks=0: what Python itself keeps until its end is no
# leak of ours.
sanitize: tests = tests/ops tests/decode
sanitize-slice: tests = tests/ops/test_native_*.py tests/decode/test_decode.py
sanitize-slice: levels = -DBRAIDLM_AVX512=OFF
sanitize sanitize-slice:
	cmake -S . -B build/$@ -DCMAKE_BUILD_TYPE=RelWithDebInfo -DBRAIDLM_SANITIZE=ON $(levels) \
		-DPython_EXECUTABLE="$$(command -v python)"
	cmake --build build/$@ --parallel 2
	BRAIDLM_NATIVE_FILE="$$(echo build/$@/_native*.so)" ASAN_OPTIONS=detect_leaks=0 \
		LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libubsan.so)" \
		python -m pytest -p tests.other_native --timeout 900 $(tests)

bench:
	python -m benchmarks.table
