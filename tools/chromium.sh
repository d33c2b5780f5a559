#!/bin/sh
# Give the browser tests a Chromium: use what is there, else install Debian's with apt where this may be done.
# Never fails: without a browser those tests are skipped, and say so.

set -u

for name in chromium chromium-browser google-chrome; do
    command -v "$name" > /dev/null && exit 0
done
[ -n "${ATTNLENS_CHROMIUM:-}" ] && exit 0

without() {
    echo "no Chromium: $1; the browser tests will be skipped" >&2
    exit 0
}

command -v apt-get > /dev/null || without "none is installed, and apt-get is not at hand"
[ "$(id -u)" -eq 0 ] || without "none is installed, and installing it needs root (apt-get install chromium)"

echo "installing Chromium for the browser tests"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
if ! { apt-get update -q && apt-get install -q -y --no-install-recommends chromium; } > "$log" 2>&1; then
    tail -n 3 "$log" >&2
    rm -f "$log"
    without "apt-get could not install it"
fi
rm -f "$log"
