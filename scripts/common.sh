# Sourced by the scripts here; nothing in it runs by itself.
# shellcheck shell=bash
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
SCRIPT=$(basename "$0")
export LC_ALL=C.UTF-8

say() { printf '%s\n' "$*"; }
die() {
  printf '%s: %s\n' "$SCRIPT" "$*" >&2
  exit 1
}
# usage: the script's own head comment, as its help.
usage() { awk 'NR > 1 && !/^#/ { exit } NR > 1 { sub(/^# ?/, ""); print }' "$0"; }

# need PROGRAM=PACKAGE...: installs the packages whose program is missing (as root, with apt-get), or names them.
need() {
  local pair missing=()
  for pair; do
    command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
  done
  [[ ${#missing[@]} -gt 0 ]] || return 0
  if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
    die "please install: ${missing[*]} (as root: apt-get install ${missing[*]})"
  fi
  say "installing ${missing[*]}"
  local log
  log=$(mktemp)
  if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    die "could not install ${missing[*]}"
  fi
  rm -f "$log"
}

# need_to_build, need_to_mount: what every other script relies on.
need_to_build() {
  need cc=gcc
  # rustup puts cargo here, and a shell that was open before does not know it.
  command -v cargo >/dev/null || PATH=$PATH:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin
  command -v cargo >/dev/null || die "cargo is missing: install Rust from https://rustup.rs and try again"
}
need_to_mount() {
  need fusermount3=fuse3
  [[ -e /dev/fuse ]] || modprobe fuse 2>/dev/null || true
  [[ -e /dev/fuse ]] || die "/dev/fuse is missing: this kernel (or container) offers no FUSE"
}

# need_to_part: what network namespaces and disks of a test's own take.
need_to_part() {
  [[ $(id -u) = 0 ]] || die "network namespaces and disks of its own take root"
  need ip=iproute2 iptables=iptables mkfs.ext4=e2fsprogs mount=mount
  need_to_mount
}

# build: builds all programs in $YFS_PROFILE (release unless set) and sets BIN to where they are. With $YFS_BIN set,
# nothing is built and the programs are taken from there.
build() {
  if [[ -n ${YFS_BIN:-} ]]; then
    [[ -x $YFS_BIN/yfs ]] || die "YFS_BIN=$YFS_BIN holds no yfs program"
    BIN=$(cd "$YFS_BIN" && pwd)
    return
  fi
  need_to_build
  local profile=${YFS_PROFILE:-release} dir
  (cd "$ROOT" && cargo build --quiet --workspace --bins --profile "$profile") || die "the build failed"
  [[ $profile = dev ]] && dir=debug || dir=$profile
  BIN=$(target_dir)/$dir
}
target_dir() {
  local dir=${CARGO_TARGET_DIR:-$ROOT/target}
  [[ $dir = /* ]] || dir=$ROOT/$dir
  printf '%s\n' "$dir"
}

# wait_for SECONDS COMMAND...: until the command succeeds; fails when it does not in time.
wait_for() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [[ $SECONDS -lt $deadline ]] || return 1
    sleep 0.05
  done
}
listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
# free_ports N: N ports that nobody listens on, below the range used for outgoing connections.
free_ports() {
  local found=() port
  while [[ ${#found[@]} -lt $1 ]]; do
    port=$((10000 + (RANDOM * 32768 + RANDOM) % 22000))
    [[ " ${found[*]} " = *" $port "* ]] || listens "$port" || found+=("$port")
  done
  printf '%s\n' "${found[@]}"
}

# Processes are noted with their start time, so that a process id used again is never taken for ours.
started_at() { awk '{ sub(/.*\) /, ""); print $20 }' "/proc/$1/stat" 2>/dev/null; }
is_ours() { [[ -n $2 && $(started_at "$1") = "$2" ]] && ! is_zombie "$1"; }
is_zombie() { [[ $(awk '{ sub(/.*\) /, ""); print $1 }' "/proc/$1/stat" 2>/dev/null) = Z ]]; }
is_gone() { ! is_ours "$1" "$2"; }
# end PID STARTED: ends a process kindly, and after ten seconds not.
end() {
  is_ours "$1" "$2" || return 0
  kill "$1" 2>/dev/null || return 0
  wait_for 10 is_gone "$1" "$2" && return 0
  say "process $1 does not end: killing it"
  kill -9 "$1" 2>/dev/null || true
}

# mounted_below DIR: the mountpoints below (or at) a directory, deepest first.
mounted_below() {
  awk -v dir="$1" '{ print $5 }' /proc/self/mountinfo | awk -v dir="$1" '$0 == dir || index($0, dir "/") == 1' | sort -r
}
# unmount_below DIR: takes away what a failed run left mounted there.
unmount_below() {
  local at
  while read -r at; do
    umount -l "$at" 2>/dev/null || fusermount3 -u -z "$at" 2>/dev/null || true
  done < <(mounted_below "$1")
}

# in_scratch PROGRAM ARGS...: runs one of our programs with a scratch directory of its own (--dir). The program cleans
# up after itself; this is for the case that it is interrupted.
in_scratch() {
  local program=$1 dir rc=0
  shift
  dir=$(mktemp -d "${TMPDIR:-/tmp}/$program.XXXXXX")
  # In a process group of its own, which is ended as a whole on an interrupt.
  setsid "$BIN/$program" --dir "$dir/run" "$@" &
  local group=$!
  # shellcheck disable=SC2064
  trap "kill -- -$group 2>/dev/null; sleep 1; kill -9 -- -$group 2>/dev/null; unmount_below '$dir'; exit 130" INT TERM
  wait "$group" || rc=$?
  trap - INT TERM
  unmount_below "$dir"
  rmdir "$dir" 2>/dev/null || true # with what a failed run keeps in it, it stays
  return $rc
}

# rsm_all PROGRAM DIR OPTIONS...: all tests of rsm_tester with these options, in four processes side by side. Logs go to
# DIR; what failed is shown.
rsm_all() {
  local program=$1 dir=$2 part rc=0
  local -A pids=()
  shift 2
  mkdir -p "$dir"
  for part in seed 100-107 108-112 113-116; do
    timeout -k 10 900 "$program" "$part" --dir "$dir/$part" "$@" >"$dir/$part.out" 2>&1 &
    pids[$part]=$!
  done
  for part in "${!pids[@]}"; do
    if ! wait "${pids[$part]}" || ! grep -q '^tests done' "$dir/$part.out"; then
      say "rsm_tester $part $* failed:"
      tail -n 40 "$dir/$part.out"
      rc=1
    fi
  done
  return $rc
}
