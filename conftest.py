"""For all tests, those of the plugins as well."""

pytest_plugins = ["truth", "pytester"]
