#!/usr/bin/env bash
# Runs every fuzz test of the tree, one after the other: go test fuzzes only one
# at a time.  tools/fuzz.sh [time each, default 10s]
set -euo pipefail
time=${1:-10s}

list=$(git ls-files --cached --others --exclude-standard -- '*_test.go' |
	xargs -r grep -HoE '^func Fuzz[A-Za-z0-9_]*' | LC_ALL=C sort)
if [ -z "$list" ]; then
	echo "fuzz: no fuzz test in the tree" >&2
	exit 1
fi
count=0
while IFS=: read -r file func; do
	name=${func#func }
	dir=./$(dirname "$file")
	echo "fuzz: $name in $dir, $time"
	go test -run '^$' -fuzz "^$name\$" -fuzztime "$time" "$dir"
	count=$((count + 1))
done <<<"$list"
echo "fuzz: $count fuzz tests passed, $time each"
