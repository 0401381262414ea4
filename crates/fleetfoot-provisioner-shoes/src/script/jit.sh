#!/bin/bash
# Makes this machine a runner for one job.
set -e
umask 022

JIT_CONFIG=@JIT_CONFIG@
RUNNER_VERSION=@RUNNER_VERSION@
RUNNER_USER=@RUNNER_USER@
RUNNER_BASE_DIRECTORY=@RUNNER_BASE_DIRECTORY@
RUNNER_DOWNLOADS=@RUNNER_DOWNLOADS@
RUNNER_CHECKSUMS=@RUNNER_CHECKSUMS@

# The job finds no credential in a file.
rm -f -- "${MAIN_SCRIPT_PATH:-$0}"

fail() {
    echo "fleetfoot: $*" >&2
    exit 1
}

is_root() {
    [ "$(id -u)" -eq 0 ]
}

as_runner() {
    if ! is_root; then
        "$@"
    elif command -v sudo > /dev/null; then
        sudo -E -u "${RUNNER_USER}" -- "$@"
    else
        runuser -u "${RUNNER_USER}" -- "$@"
    fi
}

own() {
    if is_root; then
        chown -R "${RUNNER_USER}" "$1"
    fi
}

if command -v sw_vers > /dev/null; then
    platform=osx
    export HOME="/Users/${RUNNER_USER}"
else
    platform=linux
    export HOME="/home/${RUNNER_USER}"
fi
case "$(uname -m)" in
    aarch64 | arm64) architecture=arm64 ;;
    armv7l | armv6l) architecture=arm ;;
    *) architecture=x64 ;;
esac
if is_root && ! id "${RUNNER_USER}" > /dev/null 2>&1; then
    fail "this machine has no user ${RUNNER_USER}"
fi

tarball="actions-runner-${platform}-${architecture}-${RUNNER_VERSION#v}.tar.gz"
cached="/usr/local/etc/runner-${RUNNER_VERSION}"
runner="${RUNNER_BASE_DIRECTORY}/runner"

download() {
    command -v curl > /dev/null || fail "curl is missing, and so is a runner in ${cached}"
    curl --fail --silent --show-error --location --retry 5 --output "${tarball}.part" \
        "${RUNNER_DOWNLOADS}/${RUNNER_VERSION}/${tarball}" || fail "cannot download ${tarball}"
    wanted=$(printf '%s\n' "${RUNNER_CHECKSUMS}" | sed -n "s/^${platform}-${architecture} //p")
    if [ -n "${wanted}" ]; then
        if command -v sha256sum > /dev/null; then
            found=$(sha256sum "${tarball}.part")
        else
            found=$(shasum -a 256 "${tarball}.part")
        fi
        [ "${found%% *}" = "${wanted}" ] || fail "${tarball} has the checksum ${found%% *}, not ${wanted}"
    fi
    mv "${tarball}.part" "${tarball}"
}

unpack() {
    mkdir -p "${runner}"
    tar -xzf "${tarball}" -C "${runner}"
}

# The first that is there: a runner, an unpacked one, an archive here, an archive kept, a download.
cd "${RUNNER_BASE_DIRECTORY}"
if [ -e "${runner}/run.sh" ]; then
    :
elif [ -e "${cached}/run.sh" ]; then
    rm -rf "${runner}"
    mv "${cached}" "${runner}"
elif [ -e "${tarball}" ]; then
    unpack
elif [ -e "/usr/local/etc/${tarball}" ]; then
    mv "/usr/local/etc/${tarball}" "${tarball}"
    unpack
else
    download
    unpack
fi
own "${runner}"

cd "${runner}"
started=/myshoes-actions-runner-hook-job-started.sh
completed=/myshoes-actions-runner-hook-job-completed.sh
if [ -e "${started}" ]; then
    export ACTIONS_RUNNER_HOOK_JOB_STARTED="${started}"
fi
if [ -e "${completed}" ]; then
    export ACTIONS_RUNNER_HOOK_JOB_COMPLETED="${completed}"
fi

# What --jitconfig would say, by the environment: an argument can be read by every user of the machine. The runner takes
# it out.
export ACTIONS_RUNNER_INPUT_JITCONFIG="${JIT_CONFIG}"
# The machine's own environment is read by the runner's user and not before: sudo sets PATH anew.
as_runner bash -c 'if [ -r /etc/environment ]; then set -a; . /etc/environment; set +a; fi; exec ./run.sh'
