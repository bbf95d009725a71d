"""The command line: the only place that turns errors into exit codes.

0 ok · 1 failure at run time · 2 usage or configuration · 3 storage unreachable · 4 a plugin failed.
"""
