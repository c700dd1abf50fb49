#!/bin/sh
# JupyterHub's proxy is a package of npm's: it is put into the environment, whose bin folder is $1.
place="$(dirname "$1")/proxy"
[ -e "$place/node_modules/.bin/configurable-http-proxy" ] && exit 0
echo "Installing configurable-http-proxy for the tests with JupyterHub …"
PATH="$(cd "$1" && pwd):$PATH" npm install --silent --no-fund --no-audit --prefix "$place" 'configurable-http-proxy@5' && exit 0
echo "It could not be installed: is npm's registry up? The tests that need it will be skipped."
