#!/usr/bin/env bash
# The Debian package, in one command; no root needed:
#   ./provisioning/build-deb.sh [--arch amd64|arm64] [--python 3.11] [--dry] [--output DIRECTORY]
# The package holds the agent with all Python packages below /opt/edge-agent, the systemd units, the default
# configuration and the profiles. Wheels are kept in EDGE_AGENT_CACHE (~/.cache/edge-agent) between builds.
#   --arch    of the devices (default: this machine's). For another architecture than this machine's,
#             published wheels are taken; the ALSA binding is published as source only, so its wheel must be
#             put into the cache's wheels/<arch> (made by this script on such a machine).
#   --dry     fetch and lay out everything, check it, make no package.
set -euo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${EDGE_AGENT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/edge-agent}
prefix=/opt/edge-agent
native=$(dpkg --print-architecture)
arch=$native python=3.11 dry=0 output="$repository/dist"

step() { printf '==> %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

while [ $# -gt 0 ]; do
    case $1 in
        --arch) arch=$2; shift 2 ;;
        --python) python=$2; shift 2 ;;
        --output) output=$2; shift 2 ;;
        --dry) dry=1; shift ;;
        --help | -h) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit ;;
        *) die "unknown argument $1; see --help" ;;
    esac
done
case $arch in amd64) machine=x86_64 ;; arm64) machine=aarch64 ;; *) die "no recipe for $arch; use amd64 or arm64" ;; esac
command -v "python$python" >/dev/null || die "python$python is not here; name another with --python"
wheels="$cache/wheels/$arch-$python"
mkdir -p "$wheels"

# Tools of the build, apart from the checkout's own environment.
tools="$cache/build-$python"
if ! [ -x "$tools/bin/pip" ]; then
    step "build environment in $tools"
    "python$python" -m venv "$tools" || die "no virtual environment could be made; install python3-venv"
    "$tools/bin/pip" install --quiet --disable-pip-version-check --upgrade pip wheel setuptools 'hatchling>=1.25,<2' \
        || die "pip could not fetch the build tools; see its message above"
fi
pip() { "$tools/bin/pip" --disable-pip-version-check --quiet "$@"; }

version=$("$tools/bin/python" -c 'import sys, tomllib; print(tomllib.load(open(sys.argv[1], "rb"))["project"]["version"])' "$repository/pyproject.toml")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

step "edge-asr-agent $version"
pip wheel --no-deps --no-build-isolation --wheel-dir "$work/own" "$repository"
own=("$work"/own/*.whl)

step "wheels for $arch, Python $python, in $wheels"
other=()
if [ "$arch" = "$native" ]; then
    # The ALSA binding is built here (gcc and libasound2-dev); everything else is published.
    pip wheel --no-build-isolation --find-links "$wheels" --wheel-dir "$wheels" "${own[0]}[cpu,alsa,fleet]"
    rm -f "$wheels"/edge_asr_agent-*.whl
else
    ls "$wheels"/pyalsaaudio-*"$machine".whl >/dev/null 2>&1 && alsa=,alsa || alsa=
    [ -n "$alsa" ] || step "no ALSA binding for $arch in $wheels: a package made like this hears files only"
    [ -n "$alsa" ] || [ $dry = 1 ] || die "build its wheel on a $arch machine with this script, and put it into $wheels"
    other=(--python-version "$python" --implementation cp --abi "cp${python/./}" --abi abi3 --abi none)
    for glibc in 2_17 2_27 2_28 2_34 2014; do
        case $glibc in 2014) other+=(--platform "manylinux2014_$machine") ;; *) other+=(--platform "manylinux_${glibc}_$machine") ;; esac
    done
    pip download --only-binary=:all: "${other[@]}" --find-links "$wheels" --dest "$wheels" "${own[0]}[cpu,fleet$alsa]"
    rm -f "$wheels"/edge_asr_agent-*.whl
fi

step "files"
root="$work/root"
site="$root$prefix/lib/python$python/site-packages"
mkdir -p "$root$prefix/bin" "$site"
extras=cpu,fleet
ls "$wheels"/pyalsaaudio-*.whl >/dev/null 2>&1 && extras=cpu,alsa,fleet
pip install --no-index --find-links "$wheels" --no-compile --target "$site" ${other[@]+--only-binary=:all: "${other[@]}"} "${own[0]}[$extras]"
rm -rf "$site/bin" "$site"/edge_asr_agent-*.dist-info/direct_url.json
ln -s "/usr/bin/python$python" "$root$prefix/bin/python3"
printf 'home = /usr/bin\ninclude-system-site-packages = false\nversion = %s\n' "$python" >"$root$prefix/pyvenv.cfg"
mkdir -p "$root/usr/bin"
cat >"$root/usr/bin/edge-agent" <<END
#!$prefix/bin/python3 -I
import sys

from edge_agent.cli import main

sys.exit(main())
END
chmod 755 "$root/usr/bin/edge-agent"
mkdir -p "$root/usr/sbin"
{ printf '#!%s/bin/python3 -I\n' "$prefix"; tail -n +2 "$repository/provisioning/enroll/enroll.py"; } >"$root/usr/sbin/edge-agent-enroll"
chmod 755 "$root/usr/sbin/edge-agent-enroll"
install -Dm644 -t "$root/lib/systemd/system" "$repository"/systemd/*.service "$repository"/systemd/*.timer
install -Dm644 "$repository/systemd/edge-agent.sysusers.conf" "$root/usr/lib/sysusers.d/edge-agent.conf"
install -Dm644 "$repository/systemd/edge-agent.tmpfiles.conf" "$root/usr/lib/tmpfiles.d/edge-agent.conf"
install -Dm644 "$repository/provisioning/deb/agent.toml" "$root/etc/edge-agent/agent.toml"
install -Dm644 -t "$root/usr/share/doc/edge-agent" "$repository"/README*.md "$repository/CHANGELOG.md" "$repository/provisioning/deb/cloud-init.yaml"
# The pages that the README leads to, at the same places.
for page in docs examples mosquitto/README.md enroll/README.md fleet/README.md; do
    mkdir -p "$(dirname "$root/usr/share/doc/edge-agent/provisioning/$page")"
    cp -r "$repository/provisioning/$page" "$root/usr/share/doc/edge-agent/provisioning/$page"
done
install -Dm644 "$repository/LICENSE" "$root/usr/share/doc/edge-agent/copyright"

# What no device needs: headers, static libraries, tests of libraries, sources of extensions.
find "$site" \( -name '*.h' -o -name '*.a' -o -name '*.pyx' -o -name '*.pxd' \) -type f -delete
find "$site" -depth -type d \( -name tests -o -name test -o -name include \) -not -path '*/edge_agent/*' -exec rm -rf {} +
find "$root" -name __pycache__ -prune -exec rm -rf {} +

step "checks"
foreign=$(find "$site" -name '*.so*' -type f -exec readelf -h {} + 2>/dev/null | sed -n 's/^ *Machine: *//p' | sort -u)
case "$arch:$foreign" in
    amd64:*X86-64 | arm64:AArch64) ;;
    *) die "libraries of another machine got in: $foreign" ;;
esac
if grep -rIl "$work" "$root" >"$work/leaks"; then die "paths of the build got in: $(head -3 "$work/leaks")"; fi
size=$(du -sk "$root" | cut -f1)
step "$arch: $(find "$root" -type f | wc -l) files, $((size / 1024)) MB installed"
[ $dry = 0 ] || exit 0

next="${python%.*}.$((${python#*.} + 1))"
mkdir -p "$root/DEBIAN" "$output"
sed -e "s/@VERSION@/$version/; s/@ARCH@/$arch/; s/@SIZE@/$size/; s/@PYTHON@/$python/g; s/@NEXT@/$next/" \
    "$repository/provisioning/deb/control" >"$root/DEBIAN/control"
install -m755 -t "$root/DEBIAN" "$repository"/provisioning/deb/{postinst,prerm,postrm}
printf '/etc/edge-agent/agent.toml\n' >"$root/DEBIAN/conffiles"
package="$output/edge-agent_${version}_$arch.deb"
dpkg-deb --root-owner-group -Zzstd -z12 --build "$root" "$package" >&2
printf '%s\n' "$package"
