#!/usr/bin/env bash
# What is known against the packages that are locked, where a database can be reached, and a bill of
# materials. Exit code 1 where something is known.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${1:?usage: tests/audit.sh BIN, the folder of the programs}
mkdir -p build

PYTHONWARNINGS=ignore "$bin/cyclonedx-py" requirements constraints.txt --pyproject pyproject.toml \
  --output-reproducible --output-file build/bom.json
echo "bill of materials: build/bom.json"

found=$(mktemp)
trap 'rm -f "$found"' EXIT
code=0
"$bin/pip-audit" --requirement constraints.txt --no-deps --disable-pip --progress-spinner off \
  --format json --output "$found" || code=$?
if [ ! -s "$found" ]; then
  echo "known faults: not looked up, since no database could be reached (exit code $code)"
  exit 0
fi
"$bin/python" - "$found" <<'PY'
import json
import sys

packages = json.load(open(sys.argv[1], encoding="utf-8"))["dependencies"]
known = [(each, fault) for each in packages for fault in each.get("vulns", ())]
for package, fault in known:
    mended = ", ".join(fault["fix_versions"]) or "nothing yet"
    print(f"{package['name']} {package['version']}: {fault['id']}, mended in {mended}")
print(f"known faults: {len(known)} in {len(packages)} packages")
sys.exit(1 if known else 0)
PY
