#!/bin/sh
# The browser tests drive a real Chromium: Debian's, where it is missing and can be installed.
for name in chromium chromium-browser google-chrome; do
  command -v "$name" >/dev/null && exit 0
done
if command -v apt-get >/dev/null; then
  echo "Installing Chromium for the browser tests …"
  if [ "$(id -u)" = 0 ]; then as_root=; else as_root="sudo -n"; fi
  $as_root apt-get update -q && $as_root apt-get install -y -q chromium && exit 0
fi
echo "The browser tests need Chromium: install the package 'chromium' (or Google Chrome) and try again."
exit 1
