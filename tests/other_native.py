"""A pytest plugin (-p tests.other_native): the extension comes from the file that BRAIDLM_NATIVE_FILE names.

So tests run on a build that is installed nowhere, such as the one with sanitizers.
"""

import importlib.util
import os
import sys

_spec = importlib.util.spec_from_file_location("braidlm._native", os.environ["BRAIDLM_NATIVE_FILE"])
assert _spec is not None and _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
sys.modules["braidlm._native"] = _module
_spec.loader.exec_module(_module)
