#!/bin/sh
# install.sh FOLDER: a virtual environment with what requirements.lock says, and this project.
set -eu
cd "$(dirname "$0")/.."
source=$(mktemp -d)  # setuptools writes beside what it installs
cp -r preprocess ffdetect pyproject.toml setup.cfg README.md LICENSE "$source"
python3 -m venv "$1"
"$1/bin/pip" install --no-cache-dir -q -r requirements.lock
"$1/bin/pip" install --no-cache-dir -q --no-deps "$source"
"$1/bin/pip" check
rm -r "$source"
