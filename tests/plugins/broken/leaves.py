"""Ends the process that imports it."""

import sys

sys.exit("this plugin wants to be a program")
