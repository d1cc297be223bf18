#!/usr/bin/env bash
# Compares the protos with those that clients already have: on a branch, with
# where it left main; on main itself, with the commit before. BASE=<commit>
# compares with another one.
set -euo pipefail
buf=${BUF:-buf}

base=${BASE:-}
if [ -z "$base" ]; then
	head=$(git rev-parse HEAD)
	for main in origin/main main; do
		base=$(git merge-base HEAD "$main" 2>/dev/null || true)
		[ "$base" = "$head" ] && base=
		[ -n "$base" ] && break
	done
	[ -n "$base" ] || base=$(git rev-parse --verify -q HEAD~1 || true)
fi
if [ -z "$base" ] || ! git cat-file -e "$base:proto" 2>/dev/null; then
	echo "proto-breaking: skipped, no earlier commit with proto/ to compare with."
	exit 0
fi

old=$(mktemp -d)
trap 'rm -rf "$old"' EXIT
# third_party/ is not in Git: the old tree borrows ours.
git archive "$base" buf.yaml proto | tar -x -C "$old"
cp -r third_party "$old/"
"$buf" breaking proto --against "$old/proto"
echo "proto-breaking: nothing breaks against $(git log -1 --format='%h %s' "$base")."
