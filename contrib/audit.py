"""``make audit``: known vulnerabilities of what we depend on. Run by the Python of an environment with pip-audit.

Exit code 1: there are some; 2: it could not be found out.
"""

from __future__ import annotations

import json
import subprocess
import sys

COMMAND = (sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip", "--progress-spinner=off", "--format=json")
#: What is told of a package that the source does not know is no error to pip-audit, though nobody looked at it then.
NOBODY_LOOKED = "its source of vulnerabilities, pypi.org, could not be reached, or knows other packages"


def judged(output: str, errors: str) -> tuple[str, int]:
    """What to tell, and the exit code.

    :param output: of pip-audit, as JSON.
    """
    try:
        found = json.loads(output)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = errors.strip().splitlines()[-1:] or ["it said nothing"]
        return f"not audited: {NOBODY_LOOKED}: {last[0][:300]}", 2
    audited = [one for one in found if "skip_reason" not in one]
    left_out = [one["name"] for one in found if "skip_reason" in one]
    bad = [
        f"{one['name']} {one['version']}: {fault['id']}, mended in {', '.join(fault['fix_versions']) or 'no release'}"
        for one in audited for fault in one["vulns"]
    ]  # fmt: skip
    lines = [*bad, f"{len(audited)} packages were audited, {len(bad)} known vulnerabilities"]
    if left_out:
        lines.append(f"not audited, since {NOBODY_LOOKED}: {', '.join(left_out)}")
    return "\n".join(lines), 1 if bad else 2 if left_out else 0


if __name__ == "__main__":
    done = subprocess.run([*COMMAND, "--requirement", sys.argv[1]], capture_output=True, text=True, check=False)
    told, code = judged(done.stdout, done.stderr)
    print(told)
    sys.exit(code)
