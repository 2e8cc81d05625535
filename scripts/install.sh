#!/bin/sh
# Installs this clone into .venv, editable; extras by name: sh scripts/install.sh test peers
set -e
cd "$(dirname "$0")/.."
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'Python 3.11 or later is needed' >&2; exit 2; }
if ! python3 -c 'import ensurepip' 2>/dev/null; then  # Debian keeps it in a package of its own
    as_root=$([ "$(id -u)" = 0 ] || echo sudo)
    $as_root apt-get update -qq
    $as_root apt-get install -qq -y python3-venv
fi
[ -x .venv/bin/pip ] || python3 -m venv .venv
extras=fast
for extra in "$@"; do
    extras="$extras,$extra"
done
.venv/bin/pip install --quiet --disable-pip-version-check --editable ".[$extras]"
