#!/bin/sh
# Pin every requirement with its hashes again (needs uv): run by `make lock`.
# An argument such as `--upgrade` or `--upgrade-package duckdb` is handed on to uv.
set -eu
cd "$(dirname "$0")/.."

pin() { uv pip compile --quiet --config-file requirements/uv.toml "$@"; }
set -- "$@" -c requirements/torch.in --no-emit-package torch

pin "$@" pyproject.toml -o requirements/lock.txt
pin "$@" pyproject.toml -c requirements/lock.txt --extra test --extra check --extra data -o requirements/dev.txt
pin "$@" pyproject.toml -c requirements/dev.txt --extra docs -o requirements/docs.txt
pin "$@" requirements/build.in -c requirements/lock.txt -o requirements/build.txt
pin "$@" requirements/peers.in -o requirements/peers.txt
for alone in reference smollm2 peers-alone; do
    pin --no-deps "requirements/$alone.in" -o "requirements/$alone.txt"
done
