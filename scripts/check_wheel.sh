#!/usr/bin/env bash
# Builds the wheel, installs it into an empty environment and runs it outside the checkout, first with a site-packages
# that cannot be written to (numba's cache must then go to the user's cache folder), then with an ordinary one.
#
# PYTHON: interpreter that has `build` (default .venv/bin/python); PIP_ARGS: arguments for `pip install`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python="$(realpath --no-symlinks "${PYTHON:-.venv/bin/python}")"
constraints="$PWD/constraints.txt"
work="$(mktemp -d)"
cleanup() {
    chmod -R u+w "$work"
    rm -rf "$work"
}
trap cleanup EXIT

echo "== build the wheel"
"$python" -m build --wheel --outdir "$work/dist" . >"$work/build.log" 2>&1 || { cat "$work/build.log"; exit 1; }
wheel="$(echo "$work"/dist/*.whl)"
ls -l "$wheel"

echo "== install it into an empty environment"
"$python" -m venv "$work/venv"
# shellcheck disable=SC2086 # PIP_ARGS holds several arguments
"$work/venv/bin/python" -m pip install --quiet ${PIP_ARGS:-} --constraint "$constraints" "$wheel"
site="$("$work/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"

mkdir "$work/away" "$work/cache"
cd "$work/away"
export XDG_CACHE_HOME="$work/cache" HF_HUB_OFFLINE=1
unset NUMBA_CACHE_DIR PYTHONPATH

# Root may write anywhere whatever the mode bits say, unless it gives that right up.
plain=()
if [ "$(id -u)" = 0 ]; then
    plain=(setpriv --bounding-set=-dac_override,-dac_read_search)
fi

echo "== run it where site-packages is read-only"
chmod -R a-w "$site"
if "${plain[@]}" touch "$site/tasc/probe" 2>/dev/null; then
    echo "error: $site can still be written to, so this check would prove nothing" >&2
    exit 1
fi
"${plain[@]}" "$work/venv/bin/tasc" demo --quick
# no pipe into `grep --quiet`: it leaves at the first match, and with pipefail a find that is still writing fails the check
if [ -z "$(find "$XDG_CACHE_HOME/numba" -name '*.nbi' -print -quit)" ]; then
    echo "error: no kernel in $XDG_CACHE_HOME/numba" >&2
    exit 1
fi
if [ -n "$(find "$site/tasc" -name '*.nbi' -print -quit)" ]; then
    echo "error: kernels were cached in a read-only site-packages" >&2
    exit 1
fi
chmod -R u+w "$site"

echo "== run it where site-packages can be written to"
"$work/venv/bin/tasc" demo --quick
echo "== the built wheel works"
