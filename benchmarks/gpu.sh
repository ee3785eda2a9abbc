#!/bin/sh
# Everything that is to be known of a GPU, in under nine minutes, installation included.
#
#     sh benchmarks/gpu.sh [--out gpu.json] [--quick] [--parts card,training] [--seconds 530]
#     sh benchmarks/gpu.sh --python .venv/bin/python ...   # what is installed already
#
# A machine needs Python 3.11 or newer with pip ($PYTHON, by default python3) and NVIDIA's driver.
# Without --python, a virtual environment .venv-gpu is made beside the source. gpu.py measures.
set -eu
began=$(date +%s)
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
python=
if [ "${1:-}" = --python ]; then
  [ $# -ge 2 ] || { echo "gpu.sh: --python needs the path of one." >&2; exit 1; }
  python=$2
  shift 2
fi
if [ -z "$python" ]; then
  base=${PYTHON:-python3}
  "$base" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "gpu.sh: muscope needs Python 3.11 or newer; set PYTHON to one." >&2
    exit 1
  }
  python=$root/.venv-gpu/bin/python
  [ -x "$python" ] || "$base" -m venv "$root/.venv-gpu"
  if [ ! -e "$root/.venv-gpu/.installed" ]; then
    (cd "$root" && "$python" -m pip install --quiet --disable-pip-version-check \
      -c constraints.txt -e '.[cuda,atari]' mctx)  # mctx is what the search is compared with.
    touch "$root/.venv-gpu/.installed"
  fi
fi
exec "$python" "$here/gpu.py" --began "$began" "$@"
