#!/bin/sh
# Makes every *.wbxml here from the *.xml of the same name, with Debian's libwbxml2-utils (0.11.8).
# The bytes are committed, so that building and testing need no libwbxml; run this after changing
# an .xml. Text in braces is a placeholder: it becomes an inline string, and the sandbox replaces it.
set -eu
cd "$(dirname "$0")"
for xml in *.xml; do
  { printf '%s' '<?xml version="1.0" encoding="utf-8"?><!DOCTYPE ActiveSync PUBLIC "-//MICROSOFT//DTD ActiveSync//EN" "http://www.microsoft.com/">'
    tr -d '\n' < "$xml"; } > .whole
  # WBXML 1.3, no string table, no public identifier (MS-ASWBXML 2.1.2.1)
  xml2wbxml -v 1.3 -n -a -k -o "${xml%.xml}.wbxml" .whole >/dev/null
done
rm -f .whole
