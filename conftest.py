"""For all tests, those of the plugins as well."""

import os
import sys

pytest_plugins = ["shared", "order", "truth", "pytester"]

# Tests start pijobs hundreds of times. Without bytecode each start would compile all of it again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
