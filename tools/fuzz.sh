#!/usr/bin/env bash
# Runs every fuzz test of the tree, as many at once as there are cores: go test
# fuzzes only one at a time.
#   tools/fuzz.sh [time each, default 10s] [time of those that a caller does not reach]
set -euo pipefail
time=${1:-10s}
# What reads a stranger's input gets the whole time: credentials, headers, paths,
# bodies, conditions, configuration. The rest may get less.
rest=${2:-$time}
exposed='^(gateway|gateway/(auth|clientaddr|config|httpedge|listen|policy|policy/condition|proxy|rest|rest/request|route|rpc|transcode))$'
at_once=$(nproc 2>/dev/null || echo 2)

list=$(git ls-files --cached --others --exclude-standard -- '*_test.go' |
	xargs -r grep -HoE '^func Fuzz[A-Za-z0-9_]*' | LC_ALL=C sort)
if [ -z "$list" ]; then
	echo "fuzz: no fuzz test in the tree" >&2
	exit 1
fi

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
cache=$(go env GOCACHE)/fuzz/sluice

# One program a package, for all its fuzz tests: linking takes longer than fuzzing here.
build() {
	local dir=$1 program=$2
	go test -c -fuzz . -o "$program" "$dir" >"$program.log" 2>&1 || {
		echo "fuzz: $dir does not build:"
		cat "$program.log"
		return 1
	}
}

# Go before 1.27 may report the end of -fuzztime itself as a failure (issue
# 75804): "context deadline exceeded", with no input found. That, and only that,
# is tried once more.
fuzz() {
	local name=$1 dir=$2 log=$3 program=$4 try time=$time
	if ! [[ ${dir#./} =~ $exposed ]]; then
		time=$rest
	fi
	for try in 1 2; do
		# Minimizing what is merely new would take most of the time.
		if (cd "$dir" && "$program" -test.run '^$' -test.fuzz "^$name\$" -test.fuzztime "$time" -test.fuzzminimizetime 5x -test.parallel 1 \
			-test.fuzzcachedir "$cache/$dir" -test.paniconexit0) >"$log" 2>&1; then
			echo "fuzz: $name in $dir, $time: $(grep -E 'execs: [0-9]+' "$log" | tail -1 | grep -oE 'execs: [0-9]+' || echo done)"
			return 0
		fi
		if ! grep -qx '    context deadline exceeded' "$log" || grep -qiE 'failing input|panic|_test\.go:' "$log"; then
			break
		fi
		echo "fuzz: $name ended by Go's own deadline, try $try"
	done
	echo "fuzz: $name in $dir FAILED:"
	cat "$log"
	return 1
}

count=0 failed=0
declare -A program=()
for dir in $(cut -d: -f1 <<<"$list" | xargs -n1 dirname | sort -u); do
	program[$dir]=$logs/${#program[@]}.test
	if [ "$(jobs -rp | wc -l)" -ge "$at_once" ]; then
		wait -n || failed=$((failed + 1))
	fi
	build "./$dir" "${program[$dir]}" &
done
while [ "$(jobs -p | wc -l)" -gt 0 ]; do
	wait -n || failed=$((failed + 1))
	jobs >/dev/null # Forget those that have ended.
done
if [ "$failed" -gt 0 ]; then
	exit 1
fi

while IFS=: read -r file func; do
	if [ "$(jobs -rp | wc -l)" -ge "$at_once" ]; then
		wait -n || failed=$((failed + 1))
	fi
	count=$((count + 1))
	dir=$(dirname "$file")
	fuzz "${func#func }" "./$dir" "$logs/$count" "${program[$dir]}" &
done <<<"$list"
while [ "$(jobs -p | wc -l)" -gt 0 ]; do
	wait -n || failed=$((failed + 1))
	jobs >/dev/null # Forget those that have ended.
done

if [ "$failed" -gt 0 ]; then
	echo "fuzz: $failed of $count fuzz tests failed" >&2
	exit 1
fi
echo "fuzz: $count fuzz tests passed, $time each"
