#!/bin/sh
# Install polarcast from the wheel beside this file, with the versions of constraints.txt. The recipes run it while an
# image is built. TORCH_INDEX names another index for torch, such as PyTorch's CPU wheels.
set -eu
cd "$(dirname "$0")"
export PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1

if [ "$(ls polarcast-*.whl | wc -l)" -ne 1 ]; then
    echo "install.sh: give one wheel: remove older ones from dist, and run make wheel" >&2
    exit 2
fi
if [ -n "${TORCH_INDEX:-}" ]; then
    pip install --no-deps --index-url "$TORCH_INDEX" "$(grep '^torch==' constraints.txt)"
fi
pip install -c constraints.txt "$(echo ./polarcast-*.whl)[ingest,nowcast]"
polarcast --version
