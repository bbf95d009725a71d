"""The database of definitions, accounts, sessions and the audit log, for the core and for plugins."""

from pijobs.database.access import FILE as FILE
from pijobs.database.access import Database as Database
from pijobs.database.columns import exact_text as exact_text
from pijobs.database.columns import long_text as long_text
from pijobs.database.engine import SETTING as SETTING
