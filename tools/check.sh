#!/usr/bin/env bash
# Formatting and lints: what CI asks of the text of the code.
set -euo pipefail
cd "$(dirname "$0")/.."
echo "==> cargo fmt" && cargo fmt --all --check
echo "==> cargo clippy" && cargo clippy -q --workspace --all-targets -- -D warnings
if command -v ruff >/dev/null; then
    echo "==> ruff" && ruff check -q python examples tools && ruff format -q --check python
fi
