.PHONY: check test test-ref native sanitize bench

check:
	ruff check .
	ruff format --check .
	find src -name '*.cpp' -o -name '*.h' | xargs clang-format --dry-run --Werror
	mypy

test:
	pytest -n 2 --dist loadfile

test-ref:
	BRAIDLM_OPS=reference pytest -n 2 --dist loadfile tests/ops tests/state tests/families

# The native extension alone, from objects that are kept in build/native, to where the installed package looks for it.
native:
	cmake -S . -B build/native -DCMAKE_BUILD_TYPE=Release -DPython_EXECUTABLE="$$(command -v python)"
	cmake --build build/native --parallel "$$(nproc)"
	cmake --install build/native --prefix "$$(python -c 'import sysconfig; print(sysconfig.get_path("platlib"))')"

# Operations under AddressSanitizer and UndefinedBehaviorSanitizer, built apart from the installed extension.
# detect_leaks=0: what Python itself keeps until its end is no leak of ours.
sanitize:
	cmake -S . -B build/sanitize -DCMAKE_BUILD_TYPE=RelWithDebInfo -DBRAIDLM_SANITIZE=ON \
		-DPython_EXECUTABLE="$$(command -v python)"
	cmake --build build/sanitize --parallel 2
	BRAIDLM_NATIVE_FILE="$$(echo build/sanitize/_native*.so)" ASAN_OPTIONS=detect_leaks=0 \
		LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libubsan.so)" \
		python -m pytest -p tests.other_native --timeout 900 tests/ops tests/decode

bench:
	python -m benchmarks.table
