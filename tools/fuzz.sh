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

# Go before 1.27 may report the end of -fuzztime itself as a failure (issue
# 75804): "context deadline exceeded", with no input found. That, and only that,
# is tried once more.
fuzz() {
	local log try
	log=$(mktemp)
	for try in 1 2; do
		if go test -run '^$' -fuzz "^$1\$" -fuzztime "$time" "$2" 2>&1 | tee "$log"; then
			rm -f "$log"
			return
		fi
		if ! grep -qx '    context deadline exceeded' "$log" || grep -qiE 'failing input|panic|_test\.go:' "$log"; then
			break
		fi
		echo "fuzz: $1 ended by Go's own deadline, try $try"
	done
	rm -f "$log"
	return 1
}

count=0
while IFS=: read -r file func; do
	name=${func#func }
	dir=./$(dirname "$file")
	echo "fuzz: $name in $dir, $time"
	fuzz "$name" "$dir"
	count=$((count + 1))
done <<<"$list"
echo "fuzz: $count fuzz tests passed, $time each"
