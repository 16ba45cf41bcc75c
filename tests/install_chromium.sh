#!/bin/sh
# The browser tests need a Chromium; on a Debian machine where we may, install it, elsewhere say what to do.
set -eu
command -v chromium >/dev/null 2>&1 && exit 0
if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null
else
    echo "Chromium is not installed: the browser tests will be skipped; install the package chromium to run them."
fi
