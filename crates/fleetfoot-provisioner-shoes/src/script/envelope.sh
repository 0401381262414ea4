#!/bin/bash
set -e
# The script may hold a credential: nobody but its user reads it.
umask 077
export COMPRESSED_SCRIPT=@COMPRESSED_SCRIPT@
export MAIN_SCRIPT_PATH=@MAIN_SCRIPT_PATH@
echo "${COMPRESSED_SCRIPT}" | base64 -d | gzip -d > "${MAIN_SCRIPT_PATH}"
unset COMPRESSED_SCRIPT
chmod +x "${MAIN_SCRIPT_PATH}"
exec bash "${MAIN_SCRIPT_PATH}"
