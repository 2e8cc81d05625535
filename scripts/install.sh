#!/bin/sh
# Installs this clone into .venv, editable; extras by name: sh scripts/install.sh test peers
set -e
cd "$(dirname "$0")/.."
for python in python3 python3.13 python3.12 python3.11; do
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break
    python=
done
[ "$python" ] || { echo 'Python 3.11 or later is needed' >&2; exit 2; }
known=$("$python" -c 'import tomllib
print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"])')
extras=fast
for extra in "$@"; do
    case " $known " in
        *" $extra "*) extras="$extras,$extra" ;;
        *) echo "unknown extra $extra: they are $known" >&2; exit 2 ;;
    esac
done
if ! "$python" -c 'import ensurepip' 2>/dev/null; then # Debian keeps it in a package of its own
    command -v apt-get >/dev/null || { echo "$python has no venv: install it" >&2; exit 2; }
    as_root=$([ "$(id -u)" = 0 ] || echo sudo)
    $as_root apt-get update -qq
    $as_root apt-get install -qq -y "$(basename "$python")-venv"
fi
[ -x .venv/bin/pip ] || "$python" -m venv .venv
.venv/bin/pip install --quiet --disable-pip-version-check --editable ".[$extras]"
