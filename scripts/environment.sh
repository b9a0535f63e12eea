# Sourced by the other scripts: makes .venv from the lock, once, and again when the lock has changed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
TOP=$PWD
PYTHON=$TOP/.venv/bin/python
# Where mkfs, losetup, sshd and nginx stand, which not every PATH has.
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
# Hundreds of servers and commands are started: they need not compile everything each time.
unset PYTHONDONTWRITEBYTECODE

find_python() {
  local candidate
  for candidate in "${LIBRARIAN_PYTHON:-}" python3.11 python3.12 python3.13 python3.14 python3 \
    /usr/local/bin/python3 "$HOME"/.pyenv/versions/3.1[1-9]*/bin/python3; do
    if [ -n "$candidate" ] && "$candidate" -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "No Python 3.11 or newer with venv and pip was found. Install one (Debian: apt-get install python3-venv)," >&2
  echo "or name it: LIBRARIAN_PYTHON=/path/to/python3 $0" >&2
  return 1
}

# ensure_environment runtime|dev
ensure_environment() {
  local lock=requirements/$1.txt stamp want
  mkdir -p .venv
  exec 9>.venv/.lock
  flock 9
  want=$(cat "$lock" pyproject.toml | sha256sum | cut -c-64)
  for stamp in .venv/.stamp-dev ".venv/.stamp-$1"; do
    # What tests and checks need includes what a run needs.
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(cat "requirements/${stamp##*-}.txt" pyproject.toml | sha256sum | cut -c-64)" ]; then
      exec 9>&-
      return
    fi
  done
  echo "Setting up .venv from $lock (once) …" >&2
  rm -f .venv/.stamp-*
  if command -v uv >/dev/null; then
    [ -x "$PYTHON" ] || uv venv --quiet --allow-existing --python "$(find_python)" .venv
    uv pip install --quiet --python "$PYTHON" --require-hashes -r "$lock"
    uv pip install --quiet --python "$PYTHON" --no-deps --no-build-isolation --editable .
  else
    [ -x "$PYTHON" ] || "$(find_python)" -m venv .venv
    "$PYTHON" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$lock"
    "$PYTHON" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
  fi
  echo "$want" >".venv/.stamp-$1"
  exec 9>&-
}
