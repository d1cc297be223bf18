#!/usr/bin/env bash
# Installs what the tests need beside Go, where it is missing: PostgreSQL (the
# same store tests run on both engines), Redis (limits that several gateways
# share), etcd (where the cluster finds its services), Prometheus (alert rules and
# dashboards are held to it), Chromium and Node.js (the docs page is driven in a
# browser), a C compiler (the race detector).
set -euo pipefail

have() { command -v "$1" >/dev/null 2>&1; }

missing=()
have initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
have redis-server || missing+=(redis-server)
have etcd || missing+=(etcd-server)
{ have prometheus && have promtool; } || missing+=(prometheus)
have chromium || have chromium-browser || missing+=(chromium)
have node || missing+=(nodejs)
have npm || missing+=(npm)
have gcc || have clang || missing+=(gcc libc6-dev)

if [ ${#missing[@]} -gt 0 ]; then
	sudo=()
	if [ "$(id -u)" != 0 ]; then
		sudo=(sudo -n)
	fi
	if ! have apt-get || ! "${sudo[@]}" true 2>/dev/null; then
		echo "The tests need what is missing here: ${missing[*]}." >&2
		echo "Install it (on Debian: sudo apt-get install ${missing[*]}) and run make test again," >&2
		echo "or run 'go test ./...', which skips the tests that need it." >&2
		exit 1
	fi
	echo "Installing ${missing[*]}."
	"${sudo[@]}" apt-get update -qq
	"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
	# Debian starts it as a service, on the port that the gateway's gRPC edge has.
	if [[ " ${missing[*]} " == *" prometheus "* && -d /run/systemd/system ]]; then
		"${sudo[@]}" systemctl disable --now -q prometheus
	fi
fi

major=$(node --version | sed 's/^v\([0-9]*\).*/\1/')
if [ "$major" -lt 18 ]; then
	echo "Node.js $(node --version) is too old for the browser test: it needs version 18 or later, which Debian 12 has." >&2
	exit 1
fi
