#!/bin/sh
# Makes benchmarks/.peers, the environment of the methods that the product is compared with. Quick when nothing changed.
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
environment="$here/.peers"
wanted="$here/peers-requirements.txt"
if [ -f "$environment/installed.txt" ] && cmp -s "$wanted" "$environment/installed.txt"; then
    exit 0
fi
"${PYTHON:-python3}" -m venv "$environment"
# torch comes first and alone: the other packages would otherwise pull in whichever build they meet.
"$environment/bin/python" -m pip install --quiet torch==2.13.0
"$environment/bin/python" -m pip install --quiet -r "$wanted"
cp "$wanted" "$environment/installed.txt"
