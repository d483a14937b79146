"""Ask a database of known vulnerabilities about every version in constraints.txt; `make audit` calls this.

Where none can be reached, this says so and succeeds: what cannot be looked up is no fault of the change at hand.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SECONDS = 180


def looked_up() -> list[dict]:
    """Return what pip-audit says of each package; nothing when it cannot say anything in time."""
    options = ("--no-deps", "--disable-pip", "--progress-spinner", "off", "--timeout", "5", "--format", "json")
    command = [sys.executable, "-m", "pip_audit", "--requirement", ROOT / "constraints.txt", *options]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        return json.loads(asked.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError):
        return []


def main() -> int:
    """Print what is known; returns the exit code."""
    packages = looked_up()
    known = [package for package in packages if "vulns" in package]
    if not known:
        print("Audit skipped: no database of vulnerabilities can be reached.")
        return 0
    found = [(package, fault) for package in known for fault in package["vulns"]]
    for package, fault in found:
        fixed = " or ".join(fault["fix_versions"])
        cure = f"upgrade to {fixed}" if fixed else "there is no fix yet"
        print(f"{package['name']} {package['version']}: {fault['id']}; {cure}.")
    print(f"Audit: {len(found)} known vulnerabilities; {len(known)} of {len(packages)} packages could be looked up.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
